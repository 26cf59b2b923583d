"""A few ratios that noise cannot flip, measured within seconds: whoever makes one of them slow finds out at once.

A bound is a small part of what is usual, so that a busy machine does not fail it and a lost optimisation does: three
rotations by scipy instead of fixed weights, a whole volume read instead of a box, a nodule that waits for nothing.
Both sides of a ratio run in turns on the same machine; the median over the turns counts, and a row that fails is
measured once more.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from noduleserve.client.run import Options, score_worklist
from noduleserve.demo.command import RELEASE, make_worklist
from noduleserve.preprocessing import nine_views, window
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.worklist.table import Nodule, read_worklist

from .record.record import Goal, Table

Clock = Callable[[], float]
Work = Callable[[], object]
_REQUESTS = ("0.55 x 0.55 x 3 mm", "0.5 mm", "0.55 x 0.55 x 3 mm, oblique")
_SERVED = 40  # nodules of a turn


@dataclass(frozen=True)
class Row:
    """One ratio.

    Attributes:
        name: what is done.
        ours, baseline: the two ways; both do the same, or `baseline` is a yardstick of this machine's speed.
        at_least: how many times faster ours must be.
        usual: what it is on an idle machine, for readers.
        ours_counts: how many of the thing one run of ours does.
        turns: how often both are timed, after one run that is not.
    """

    name: str
    ours: Work
    baseline: Work
    at_least: float
    usual: str
    ours_counts: int = 1
    turns: int = 3


@dataclass(frozen=True)
class Verdict:
    """What came of a row.

    Attributes:
        row: it.
        ratios: one a turn, of the last attempt.
        attempts: 1, or 2 where it failed first.
    """

    row: Row
    ratios: tuple[float, ...]
    attempts: int

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    @property
    def passed(self) -> bool:
        """Whether it is fast enough."""
        return self.ratio >= self.row.at_least


def judge(row: Row, clock: Clock = time.perf_counter) -> Verdict:
    """Measure a row, a second time if it fails.

    Args:
        row: what is measured.
        clock: seconds.
    """
    verdict = Verdict(row, _ratios(row, clock), 1)
    return verdict if verdict.passed else Verdict(row, _ratios(row, clock), 2)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """What came of all rows; a goal a row."""
    rows = [(v.row.name, v.ratio, min(v.ratios), max(v.ratios), v.attempts, v.row.usual) for v in verdicts]
    return Table(
        "gate",
        "The gate: how many times faster than the baseline",
        ("what", "median", "lowest", "highest", "attempts", "usual"),
        rows,
        keys=("what",),
        better={"median": "higher"},
        goals=tuple(Goal("median", at_least=v.row.at_least, row={"what": v.row.name}) for v in verdicts),
    )


@contextlib.contextmanager
def gate_rows() -> Iterator[list[Row]]:
    """The rows; a server of the demo's release runs within the block.

    Raises:
        AssertionError: two ways that must give the same differ.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        nodules = read_worklist(make_worklist(Path(name)))
        rows = _of_preprocessing(nodules[0])
        with _served_row(nodules, rows[0].baseline) as served:
            yield [*rows, served]


def _of_preprocessing(nodule: Nodule) -> list[Row]:
    assert nodule.center is not None, "the phantom's nodules have one"
    path, center = nodule.image_path, nodule.center
    from .preprocessing import cube_from_disk, require_equal, resampled_cube_from_disk
    from .preprocessing_requests import requests
    from .preprocessing_scipy import cube_of_box, views_of

    windowed = window(cube_from_disk(path, center))
    require_equal("nine views", nine_views(windowed), views_of(windowed), 1e-5)
    rows = [
        Row("nine views, scipy's rotations", lambda: nine_views(windowed), lambda: views_of(windowed), 25, "131"),
        Row(
            "a cube from disk, whole volume",
            lambda: cube_from_disk(path, center),
            lambda: resampled_cube_from_disk(path, center),
            15,
            "61",
            turns=2,
        ),
    ]
    for request in requests():
        if request.name in _REQUESTS:
            baseline = partial(lambda request: views_of(window(cube_of_box(request))), request)
            require_equal(f"views of {request.name}", request.views(), baseline(), 1e-5)
            rows.append(
                Row(f"a request's views, {request.name}, scipy", request.views, baseline, 10, "34..69", turns=2)
            )
    return rows


@contextlib.contextmanager
def _served_row(nodules: Sequence[Nodule], scipy_views: Work) -> Iterator[Row]:
    """DICOM on disk to results by a server of a tiny encoder, against the rotations of one nodule by scipy.

    The encoder is so small that what is left is the pipeline: reading, transport, preprocessing, journal. The yardstick
    is arithmetic on one core, which a faster or a busier machine speeds up or slows down like the pipeline. A nodule
    that waits for a timer or a batch, or a series that is read whole, costs more than the bound allows.
    """
    many = [replace(nodules[i % len(nodules)], number=i) for i in range(_SERVED)]
    with TritonProcess(Release.open(RELEASE), Endpoints(grpc=0, http=0, metrics=0)) as server:

        def served() -> None:
            run = score_worklist(many, server.endpoints.address, options=Options(in_flight=8, readers=0))
            if failed := [outcome.error_code for outcome in run.outcomes if outcome.score is None]:
                raise AssertionError(f"{len(failed)} nodules were not scored ({failed[0]}); no timing counts")

        yield Row("a nodule served, DICOM to results, scipy's rotations", served, scipy_views, 1.5, "5..10", _SERVED)


def _ratios(row: Row, clock: Clock) -> tuple[float, ...]:
    def seconds(work: Work) -> float:
        began = clock()
        work()
        return clock() - began

    row.ours()
    row.baseline()
    pairs = [(seconds(row.ours), seconds(row.baseline)) for _ in range(row.turns)]
    return tuple(theirs * row.ours_counts / ours for ours, theirs in pairs)
