"""One scoring run: worklist in, results out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from tritonclient.grpc import service_pb2 as pb

from noduleserve.results.csv_table import ResultsCsv
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.report.page import StageTime
from noduleserve.worklist.table import Nodule

from .engine import Engine
from .options import DEADLINE_S, IN_FLIGHT, READ_AHEAD_BYTES, RETRIES, SERVER_WAIT_S, EngineOptions
from .status import EngineStatus

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
    """How a run goes; see EngineOptions for what is not said here.

    Attributes:
        in_flight: nodules sent and not answered, at most, for each server.
        deadline: seconds for one answer.
        views: keep each nodule's views, for a report.
    """

    in_flight: int = IN_FLIGHT
    deadline: float = DEADLINE_S
    views: bool = False
    transport: Literal["stream", "unary"] = "stream"
    streams: int = 2
    server_wait: float = SERVER_WAIT_S
    retries: int = RETRIES
    priority: Literal["interactive", "night"] = "night"
    readers: int | None = None
    read_ahead: int = READ_AHEAD_BYTES

    def engine(self, server: str) -> EngineOptions:
        """The same for an engine, with the servers that it is to use."""
        return EngineOptions((server,), **{field.name: getattr(self, field.name) for field in fields(self)})


def score_worklist(
    nodules: Sequence[Nodule],
    server: str,
    results: Path | None = None,
    options: Options | None = None,
    progress: Callable[[Outcome], None] = lambda _: None,
    watch: Callable[[EngineStatus], None] = lambda _: None,
) -> Run:
    """Score a worklist.

    Args:
        nodules: as `read_worklist` gives them.
        server: host:port of gRPC, several with commas between them, or dns:///name:port.
        results: the CSV to write, or None.
        options: see Options.
        progress: is called with each outcome as it comes.
        watch: is called once, when connected, with what changes while the run goes.

    Raises:
        ServerError: where no run can begin, and SERVER_GONE or RELEASE_CHANGED where it breaks off. What goes wrong
            with one nodule is in its outcome.
    """
    return asyncio.run(_score(nodules, server, results, options or Options(), progress, watch))


async def _score(
    nodules: Sequence[Nodule],
    server: str,
    results: Path | None,
    options: Options,
    progress: Callable[[Outcome], None],
    watch: Callable[[EngineStatus], None],
) -> Run:
    async with Engine(options.engine(server)) as engine:
        watch(engine.status)
        before = await engine.statistics()
        columns = list(nodules[0].columns) if nodules else []
        outcomes: list[Outcome] = []
        began = time.perf_counter()
        with ResultsCsv(results, columns, engine.info) if results else contextlib.nullcontext() as table:
            async with contextlib.aclosing(engine.outcomes(nodules)) as coming:
                async for outcome in coming:
                    outcomes.append(outcome)
                    if table:
                        table.add(outcome)
                    progress(outcome)
        seconds = time.perf_counter() - began
        after = await engine.statistics()
        info = engine.info
    outcomes.sort(key=lambda outcome: outcome.nodule.number)
    stages = [*_client_stages(outcomes), *_server_stages(before, after), _whole(seconds)]
    return Run(info, outcomes, stages, seconds)


def _client_stages(outcomes: Sequence[Outcome]) -> list[StageTime]:
    def total(stage: str) -> float:
        return sum(outcome.seconds.get(stage, 0.0) for outcome in outcomes)

    return [
        StageTime("open series", total("open"), "client", "headers of every file, once a series"),
        StageTime("read box", total("box"), "client", "pixel data of the slices that the cube needs"),
        StageTime("request to answer", total("server"), "client", "waits of nodules in flight together, added up"),
    ]


def _server_stages(
    before: Sequence[pb.ModelStatisticsResponse], after: Sequence[pb.ModelStatisticsResponse]
) -> list[StageTime]:
    """Of all servers together; none where one has come or gone, since then the counts tell nothing."""
    stages: list[StageTime] = []
    for name in _SERVER_STAGES if len(before) == len(after) else ():
        early, late = _seconds_of(name, before), _seconds_of(name, after)
        if early is None or late is None:
            continue
        stages.append(StageTime(name, late[0] - early[0], "server, queue", "waits of requests, added up"))
        stages.append(StageTime(name, late[1] - early[1], "server, compute", "counted for each request of a batch"))
    return stages


def _seconds_of(model: str, statistics: Sequence[pb.ModelStatisticsResponse]) -> tuple[float, float] | None:
    """Seconds in the queue and in computing, of all servers that have the model; None where none has."""
    found = [m.inference_stats for s in statistics for m in s.model_stats if m.name == model]
    if not found:
        return None
    queue = sum(stats.queue.ns for stats in found)
    compute = sum(stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns for stats in found)
    return queue / 1e9, compute / 1e9


def _whole(seconds: float) -> StageTime:
    return StageTime("whole run", seconds, "", "first series opened until last answer", whole=True)
