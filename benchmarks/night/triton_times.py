"""What Triton's own clocks say of a stretch of time, in sums that add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

_QUESTION_S = 15.0


@dataclass(frozen=True)
class ModelTimes:
    """One model between two looks, its versions together.

    Attributes:
        requests: answered.
        executions: batches computed.
        queue_s: waits before the model, of all requests.
        counted_s: computing, the whole batch's time counted for each request of it; inputs and outputs included.
        busy_s: computing, each batch counted once; of several instances together.
        whole_s: from arrival to answer, of all requests.
    """

    requests: int
    executions: int
    queue_s: float
    counted_s: float
    busy_s: float
    whole_s: float


def look(address: str) -> pb.ModelStatisticsResponse:
    """A server's statistics; waits for them."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=_QUESTION_S)


def times_between(before: Any, after: Any) -> dict[str, ModelTimes]:
    """What each model did between two looks (ModelStatisticsResponse) at one server, by its name."""
    early, late = _sums(before), _sums(after)
    none = (0.0,) * 6
    found = {}
    for name, numbers in late.items():
        requests, executions, *seconds = (b - a for a, b in zip(early.get(name, none), numbers, strict=True))
        found[name] = ModelTimes(round(requests), round(executions), *seconds)
    return found


def _sums(statistics: Any) -> dict[str, tuple[float, ...]]:
    sums: dict[str, tuple[float, ...]] = {}
    for model in statistics.model_stats:
        numbers = _numbers(model)
        sums[model.name] = tuple(a + b for a, b in zip(sums.get(model.name, (0.0,) * 6), numbers, strict=True))
    return sums


def _numbers(model: Any) -> tuple[float, ...]:
    stats = model.inference_stats
    return (
        stats.success.count,
        model.execution_count,
        stats.queue.ns / 1e9,
        _computing_ns(stats) / 1e9,
        sum(_computing_ns(batch) for batch in model.batch_stats) / 1e9,
        stats.success.ns / 1e9,
    )


def _computing_ns(stats: Any) -> int:
    return int(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns)
