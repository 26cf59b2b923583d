"""One scoring run: worklist in, results out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import service_pb2 as pb

from noduleserve.worklist.table import Nodule

from noduleserve.results.report.page import StageTime
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.csv_table import ResultsCsv
from .scoring import IN_FLIGHT, Scoring
from .stream import DEADLINE_S, ScoreStream

_SERVER_STAGES = ("nodule_preprocess", "nodule_encoder", "nodule_similarity")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        info: of the release that scored.
        outcomes: one a nodule, in the order of the worklist.
        stages: where the time went.
        seconds: wall time from the first nodule to the last.
    """

    info: ReleaseInfo
    outcomes: list[Outcome]
    stages: list[StageTime]
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        """How many nodules ended `scored`, and how many with each error code."""
        return Counter(outcome.error_code or "scored" for outcome in self.outcomes)

    @property
    def warned(self) -> Counter[str]:
        """How many nodules were scored with a warning, by its code; one with two of them counts for both."""
        return Counter(warning.code for outcome in self.outcomes if outcome.score for warning in outcome.warnings)


@dataclass(frozen=True)
class Options:
    """How a run goes.

    Attributes:
        in_flight: nodules read or sent and not answered, at most.
        deadline: seconds for one answer.
        views: keep each nodule's views, for a report.
    """

    in_flight: int = IN_FLIGHT
    deadline: float = DEADLINE_S
    views: bool = False


def score_worklist(
    nodules: Sequence[Nodule],
    server: str,
    results: Path | None = None,
    options: Options | None = None,
    progress: Callable[[Outcome], None] = lambda _: None,
) -> Run:
    """Score a worklist.

    Args:
        nodules: as `read_worklist` gives them.
        server: host:port of gRPC.
        results: the CSV to write, or None.
        options: see Options.
        progress: is called with each outcome as it comes.

    Raises:
        ServerError: where no run can begin. What goes wrong with one nodule is in its outcome.
    """
    return asyncio.run(_score(nodules, server, results, options or Options(), progress))


async def _score(
    nodules: Sequence[Nodule],
    server: str,
    results: Path | None,
    options: Options,
    progress: Callable[[Outcome], None],
) -> Run:
    async with ScoreStream(server, options.deadline) as stream:
        info = await stream.describe()
        before = await _statistics_or_none(stream)
        scoring = Scoring(stream, info, in_flight=options.in_flight, views=options.views)
        columns = list(nodules[0].columns) if nodules else []
        outcomes: list[Outcome] = []
        began = time.perf_counter()
        with ResultsCsv(results, columns, info) if results else contextlib.nullcontext() as table:
            async for outcome in scoring.outcomes(nodules):
                outcomes.append(outcome)
                if table:
                    table.add(outcome)
                progress(outcome)
        seconds = time.perf_counter() - began
        after = await _statistics_or_none(stream)
    outcomes.sort(key=lambda outcome: outcome.nodule.number)
    stages = [*_client_stages(outcomes), *_server_stages(before, after), _whole(seconds)]
    return Run(replace(info, release=scoring.info.release), outcomes, stages, seconds)


async def _statistics_or_none(stream: ScoreStream) -> pb.ModelStatisticsResponse | None:
    """Figures for the report; a server that does not give them must not cost the run its results."""
    try:
        return await stream.statistics()
    except Exception:
        return None


def _client_stages(outcomes: Sequence[Outcome]) -> list[StageTime]:
    def total(stage: str) -> float:
        return sum(outcome.seconds.get(stage, 0.0) for outcome in outcomes)

    return [
        StageTime("open series", total("open"), "client", "headers of every file, once a series"),
        StageTime("read box", total("box"), "client", "pixel data of the slices that the cube needs"),
        StageTime("request to answer", total("server"), "client", "waits of nodules in flight together, added up"),
    ]


def _server_stages(
    before: pb.ModelStatisticsResponse | None, after: pb.ModelStatisticsResponse | None
) -> list[StageTime]:
    stages: list[StageTime] = []
    if before is None or after is None:
        return stages
    for name in _SERVER_STAGES:
        early, late = ({m.name: m.inference_stats for m in s.model_stats}.get(name) for s in (before, after))
        if early is None or late is None:
            continue
        queue = (late.queue.ns - early.queue.ns) / 1e9
        compute = sum(
            getattr(late, part).ns - getattr(early, part).ns
            for part in ("compute_input", "compute_infer", "compute_output")
        )
        stages.append(StageTime(name, queue, "server, queue", "waits of requests, added up"))
        stages.append(StageTime(name, compute / 1e9, "server, compute", "counted for each request of a batch"))
    return stages


def _whole(seconds: float) -> StageTime:
    return StageTime("whole run", seconds, "", "first series opened until last answer", whole=True)
