"""Nights in turns with the bare encoder and the straightforward method, on the same cores and the same nodules."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.options import IN_FLIGHT, EngineOptions, TransportName
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.settings import ServerSettings
from noduleserve.worklist.table import Nodule

from ..rivals.bare_encoder import BareEncoder, EncoderInTriton, bare_encoder
from ..rivals.base import Case
from ..rivals.yardstick import Yardstick
from .night import Night, run_night
from .page_cache import forget
from .reading import Cache, ReadSteps, read_in_steps
from .startup import Startup, start_once
from .workload import Workload, files_of, known, one_a_scan, several_a_scan

DEADLINE_S = 600.0
_WARM_UP = 3  # nodules of a night that is not counted


@dataclass(frozen=True)
class NightOptions:
    """What is measured.

    Attributes:
        count: nodules of one turn.
        turns: how often each way is timed.
        nodules_a_scan: of the second kind of night, at most.
        transport, in_flight, readers: see EngineOptions.
        settings: of the server.
        cache: whether files are taken out of memory before they are read.
        straightforward: nodules of one turn of the straightforward method.
        starts: how often the command is started for the way to its first answer.
    """

    count: int = 40
    turns: int = 3
    nodules_a_scan: int = 5
    transport: TransportName = "stream"
    in_flight: int = IN_FLIGHT
    readers: int | None = None
    settings: ServerSettings = field(default_factory=ServerSettings)
    cache: Cache = "cold"
    straightforward: int = 3
    starts: int = 3

    def engine(self, address: str) -> EngineOptions:
        """The options of a night."""
        return EngineOptions(
            (address,), transport=self.transport, in_flight=self.in_flight, readers=self.readers, deadline=DEADLINE_S
        )


@dataclass(frozen=True, eq=False)
class Turn:
    """One turn of one workload.

    Attributes:
        bare_s: seconds of the bare encoder for all its nodules.
        bare: its probabilities [rows, F].
        night: the whole way.
        straightforward_s: seconds a nodule, or None.
        straightforward: probabilities of its nodules, the workload's first.
        bare_cpu_s: processor seconds of the bare encoder; None where it is in another process.
    """

    bare_s: float
    bare: NDArray[np.float64]
    night: Night
    straightforward_s: float | None = None
    straightforward: Sequence[NDArray[np.float64]] = ()
    bare_cpu_s: float | None = None

    @property
    def ratio(self) -> float:
        """Throughput of the night, in that of the bare encoder."""
        return self.bare_s / self.night.seconds

    @property
    def cpu_ratio(self) -> float | None:
        """Processor time of the bare encoder, in that of the night with all its processes: others do not disturb it."""
        return None if self.bare_cpu_s is None else self.bare_cpu_s / sum(self.night.processors.values())

    @property
    def between_answers(self) -> float | None:
        """The same from the first answer to the last, without a night's beginning and end; None of one nodule."""
        first, last, count = self.night.answers[0], self.night.answers[-1], len(self.night.answers)
        return self.bare_s / count * (count - 1) / (last - first) if last > first else None


@dataclass(frozen=True, eq=False)
class Measured:
    """All that a run found.

    Attributes:
        turns: of each workload.
        yardstick: the right scores.
        reading: steps of reading by themselves; none where no scan is a folder of DICOM.
        starts: ways to the first answer.
        triton_s: from the start of this run's own Triton until it was ready.
        straightforward: seconds of the straightforward method by stage, of all its nodules together; None without it.
        bare: what the bare encoder is, a sentence.
        gone: whether files that the system was told to forget were seen to be gone, for each workload; see `forget`.
    """

    turns: dict[Workload, list[Turn]]
    yardstick: Yardstick
    reading: Sequence[ReadSteps]
    starts: Sequence[Startup]
    triton_s: float
    straightforward: dict[str, float] | None
    bare: str
    gone: Sequence[bool | None]


def measure_night(
    release: Release,
    nodules: Sequence[Nodule],
    options: NightOptions,
    folder: Path,
    checkpoint: Path | None = None,
    tell: Callable[[str], None] = print,
) -> Measured:
    """Measure.

    Args:
        release: to be served.
        nodules: those that can be read are taken again and again until there are as many as wanted.
        options: see NightOptions.
        folder: empty; for links, journals and results.
        checkpoint: the release's; without it the straightforward method is left out.
        tell: is called with a line of progress.

    Raises:
        BenchmarkError: NIGHT_INCOMPLETE, READING_OTHER.
        NoduleserveError: of server, worklist, checkpoint.
    """
    found = known(nodules, tell)
    workloads = [one_a_scan(found, options.count, folder / "names" / "one")]
    if several := several_a_scan(found, options.count, options.nodules_a_scan, folder / "names" / "several"):
        workloads.append(several)
    used = {case.name: case for workload in workloads for case in workload.cases}
    yardstick = Yardstick.of(release, list(used.values()), checkpoint, tell)
    starts = []
    for number in range(options.starts):
        tell(f"start {number + 1} of {options.starts}")
        starts.append(start_once(release, options.settings, workloads[0].nodules[0], folder / f"start-{number}"))
    gone = [forget(files_of(workload.places)) for workload in workloads] if options.cache == "cold" else []
    reading = _reading(workloads[0], folder / "names" / "reading", tell)
    with _Ways(release, options, folder, checkpoint) as ways:
        tell("warming up")
        ways.warm_up(workloads[0])
        turns: dict[Workload, list[Turn]] = {workload: [] for workload in workloads}
        for number, workload in itertools.product(range(options.turns), workloads):
            turns[workload].append(turn := ways.turn(workload, scan=workload is workloads[0]))
            tell(
                f"turn {number + 1}, {workload.name}: night {turn.night.seconds:.3f} s, "
                f"bare encoder {turn.bare_s:.3f} s, ratio {turn.ratio:.3f}"
            )
        return Measured(turns, yardstick, reading, starts, ways.triton_s, ways.scan_seconds, ways.bare.what, gone)


def _reading(workload: Workload, names: Path, tell: Callable[[str], None]) -> list[ReadSteps]:
    pairs = [pair for pair in zip(workload.nodules, workload.cases, strict=True) if _is_dicom_folder(pair[0])]
    tell(f"reading {min(len(pairs), len(workload.places))} scans step by step")
    return read_in_steps([nodule for nodule, _ in pairs], [case for _, case in pairs], names) if pairs else []


def _is_dicom_folder(nodule: Nodule) -> bool:
    return nodule.image_path.is_dir()


class _Ways:
    """The ways to score, all of them warm, none of them busy while another one is."""

    def __init__(self, release: Release, options: NightOptions, folder: Path, checkpoint: Path | None) -> None:
        self._release, self._options, self._folder, self._checkpoint = release, options, folder, checkpoint
        self._numbers = itertools.count()
        self._left = contextlib.ExitStack()
        self.scan_seconds: dict[str, float] | None = None

    def __enter__(self) -> _Ways:
        with contextlib.ExitStack() as entered:
            self._runner = entered.enter_context(asyncio.Runner())
            began = time.perf_counter()
            self._server = entered.enter_context(
                TritonProcess(self._release, Endpoints(grpc=0, http=0, metrics=0), settings=self._options.settings)
            )
            self.triton_s = time.perf_counter() - began
            self.bare: BareEncoder | EncoderInTriton = bare_encoder(self._release)
            self._runner.run(_entered(self.bare))
            entered.callback(lambda: self._runner.run(self.bare.__aexit__(None, None, None)))
            if self._checkpoint is not None:
                from ..rivals.straightforward import StraightforwardScan

                self._scan = StraightforwardScan(self._checkpoint)
                self.scan_seconds = self._scan.seconds
            self._left = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.close()

    def warm_up(self, workload: Workload) -> None:
        """Use every way once."""
        self._night(workload.nodules[:_WARM_UP])
        self._bare(workload.cases[:_WARM_UP])

    def turn(self, workload: Workload, *, scan: bool) -> Turn:
        """Every way once, half of the bare encoder's nodules before the night and half behind it.

        Args:
            workload: what is scored.
            scan: the straightforward method too, where it is among the ways.
        """
        half = (len(workload.cases) + 1) // 2
        before = self._timed_bare(workload.cases[:half])
        _forget_where(self._options, workload)
        night = self._night(workload.nodules)
        after = self._timed_bare(workload.cases[half:])  # so that a machine that changes its pace slows both alike
        raw, bare_s, used = np.array(before[0] + after[0]), before[1] + after[1], before[2] + after[2]
        turn = Turn(bare_s, raw, night, bare_cpu_s=used if isinstance(self.bare, BareEncoder) else None)
        if not scan or self._checkpoint is None:
            return turn
        _forget_where(self._options, workload)
        began, some = time.perf_counter(), workload.nodules[: self._options.straightforward]
        theirs = [self._scan.score(nodule.image_path, nodule.center) for nodule in some if nodule.center is not None]
        return replace(turn, straightforward_s=(time.perf_counter() - began) / len(some), straightforward=theirs)

    def _timed_bare(self, cases: Sequence[Case]) -> tuple[list[NDArray[np.float64]], float, float]:
        """Probabilities, seconds, and processor seconds of this process."""
        began, used = time.perf_counter(), time.process_time()
        raw = self._bare(cases)
        return raw, time.perf_counter() - began, time.process_time() - used

    def _night(self, nodules: Sequence[Nodule]) -> Night:
        folder = self._folder / f"night-{next(self._numbers)}"
        return run_night(nodules, self._options.engine(self._server.endpoints.address), folder, self._server.pid)

    def _bare(self, cases: Sequence[Case]) -> list[NDArray[np.float64]]:
        """One after the other in this process; as many at once as a night's where the encoder is in Triton."""
        at_once = 1 if isinstance(self.bare, BareEncoder) else self._options.in_flight
        return self._runner.run(_all_scored(self.bare, cases, at_once))


async def _entered(bare: BareEncoder | EncoderInTriton) -> None:
    await bare.__aenter__()


async def _all_scored(
    bare: BareEncoder | EncoderInTriton, cases: Sequence[Case], at_once: int
) -> list[NDArray[np.float64]]:
    left: Iterator[tuple[int, Case]] = iter(enumerate(cases))
    found: dict[int, NDArray[np.float64]] = {}

    async def score() -> None:
        for number, case in left:
            found[number] = await bare.score(case, DEADLINE_S)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(score())
    return [found[number] for number in range(len(cases))]


def _forget_where(options: NightOptions, workload: Workload) -> None:
    """Take the files of a night out of memory, where that is wanted."""
    if options.cache == "cold":
        forget(files_of(workload.places))
