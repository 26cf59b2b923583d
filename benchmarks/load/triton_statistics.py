"""What Triton says that a load cost, model by model, as the difference of its statistics before and after."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class HasStatistics(Protocol):
    """A way to a Triton that tells its statistics."""

    async def statistics(self) -> Any:
        """Triton's own counts and times so far, model by model (ModelStatisticsResponse)."""
        ...


COMPUTING = ("compute_input", "compute_infer", "compute_output")  # as Triton names its clocks
_LOOK_S, _LOOKS_ALIKE, _MOST_LOOKS = 0.05, 2, 40


async def settled(way: HasStatistics) -> Any:
    """Statistics (ModelStatisticsResponse) that hold everything that was answered so far.

    Triton counts a request only after it has answered it, so that a look right after an answer may lack it.  This looks
    until nothing changes any more and all models have counted as many requests, or for two seconds: where requests
    were refused, models behind the one that did have counted fewer.
    """
    before, alike = await way.statistics(), 0
    for _ in range(_MOST_LOOKS):
        await asyncio.sleep(_LOOK_S)
        after = await way.statistics()
        alike = alike + 1 if after == before else 0
        before = after
        if alike >= _LOOKS_ALIKE and len({found.inference_stats.success.count for found in after.model_stats}) <= 1:
            break
    return before


@dataclass(frozen=True)
class ModelLoad:
    """What one model did.

    A time is of one request, on average: where a batch of several is computed, each of its requests counts the whole
    batch's time.  Inputs, model and outputs of an ensemble are sums over its models, its queue is the one before it;
    `whole_ms` holds everything, the queues of its models included.

    Attributes:
        model: its name.
        requests: answered.
        failed: requests that got an error.
        executions: batches computed; of an ensemble, as many as requests.
        batch: nodules of a batch, on average; None where there was no execution.
        queue_ms, input_ms, infer_ms, output_ms: waiting, inputs put together, the model itself, outputs taken apart;
            None where the model got no request.
        whole_ms: from arrival to answer.
    """

    model: str
    requests: int
    failed: int
    executions: int
    batch: float | None
    queue_ms: float | None
    input_ms: float | None
    infer_ms: float | None
    output_ms: float | None
    whole_ms: float | None


def loads_between(*looks: tuple[Any, Any]) -> list[ModelLoad]:
    """What each model did between looks at its server.

    Args:
        looks: ModelStatisticsResponse before and after a stretch of time; several stretches are added up, and the
            server may be another one every time.

    Returns:
        One a model, its versions together, in alphabetical order.
    """
    return [_load(name, counts) for name, counts in sorted(counts_between(*looks).items())]


def counts_between(*looks: tuple[Any, Any]) -> dict[str, Counter[str]]:
    """What Triton counted of each model between looks, see `loads_between`; by its name, its versions together.

    Returns:
        nodules, executions, failed; `success_count`, `success_ns` and the same of queue, compute_input, compute_infer
        and compute_output, where a batch counts for each of its requests; `busy_ns`, where it counts once.
    """
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for before, after in looks:
        for found in after.model_stats:
            sums[found.name].update(_counts(found))
        for found in before.model_stats:
            sums[found.name].subtract(_counts(found))
    return sums


def _counts(found: Any) -> dict[str, int]:
    stats = found.inference_stats
    counts = {"nodules": found.inference_count, "executions": found.execution_count, "failed": stats.fail.count}
    for name in ("success", "queue", *COMPUTING):
        duration = getattr(stats, name)
        counts |= {f"{name}_count": duration.count, f"{name}_ns": duration.ns}
    batches = (getattr(batch, name).ns for batch in found.batch_stats for name in COMPUTING)
    return counts | {"busy_ns": sum(batches)}


def _load(model: str, counts: Counter[str]) -> ModelLoad:
    def ms(name: str) -> float | None:
        requests = counts[f"{name}_count"]
        return counts[f"{name}_ns"] / requests / 1e6 if requests else None

    executions = counts["executions"]
    return ModelLoad(
        model=model,
        requests=counts["success_count"],
        failed=counts["failed"],
        executions=executions,
        batch=counts["nodules"] / executions if executions else None,
        queue_ms=ms("queue"),
        input_ms=ms("compute_input"),
        infer_ms=ms("compute_infer"),
        output_ms=ms("compute_output"),
        whole_ms=ms("success"),
    )
