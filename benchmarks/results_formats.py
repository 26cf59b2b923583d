"""The formats of results against each other: how long a night takes to write, and how large it is."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from noduleserve.errors import ResultsError
from noduleserve.results.base import Head
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.results.outputs import open_writers
from noduleserve.worklist.table import COLUMNS, Nodule

from .measure import interleaved
from .record.record import Line, Plot, Table

FOLDS = 5
FEATURES, VALUES = 17, 3  # as many as the built-in features, about
_FORMATS = {
    "CSV": ("results.csv", False),
    "JSON Lines": ("results.jsonl", False),
    "JSON Lines with embeddings": ("embeddings.jsonl", True),
    "Parquet": ("results.parquet", False),
    "SQLite": ("results.sqlite", False),
}


@dataclass(frozen=True)
class FormatFigure:
    """What one format costs.

    Attributes:
        name: of the format.
        seconds: to write 1,000 nodules, median.
        size: bytes of 1,000 nodules.
    """

    name: str
    seconds: float
    size: float


def bench_results(count: int = 5000, turns: int = 5) -> tuple[list[FormatFigure], list[str]]:
    """Write made-up nodules in every format, in turns.

    Args:
        count: nodules of one output; one in 50 has no score.
        turns: how often each is written.

    Returns:
        Figures, and a sentence for whatever was left out.
    """
    head, outcomes = made_up_night(count)
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        ways = {}
        for name, (file, embedding) in _FORMATS.items():
            path = Path(folder) / file
            try:
                write_night(path, head, outcomes[:1], embedding=embedding)
            except ResultsError as error:
                left_out.append(f"Left out: {name}. {error.what}")
                continue
            ways[name] = partial(write_night, path, head, outcomes, embedding=embedding)
        times = interleaved(ways, turns)
        sizes = {name: (Path(folder) / _FORMATS[name][0]).stat().st_size for name in ways}
    thousands = count / 1000
    figures = [FormatFigure(name, statistics.median(times[name]) / thousands, sizes[name] / thousands) for name in ways]
    return figures, left_out


def formats_table(figures: Sequence[FormatFigure]) -> Table:
    """The figures for a record."""
    return Table(
        name="formats",
        title="1,000 nodules in each format",
        columns=("format", "writing_ms", "size_mb"),
        rows=[(f.name, f.seconds * 1e3, f.size / 1e6) for f in figures],
        keys=("format",),
        better={"writing_ms": "lower", "size_mb": "lower"},
    )


def formats_plot(figures: Sequence[FormatFigure]) -> Plot:
    """Milliseconds that each format takes to write."""
    line = Line("writing", [f.name for f in figures], [f.seconds * 1e3 for f in figures])
    return Plot("formats", "Writing 1,000 nodules", "", "ms, median", [line], kind="bars")


def write_night(path: Path, head: Head, outcomes: Sequence[Outcome], *, embedding: bool = False) -> None:
    """Write outcomes to a new file; one that is there is removed first."""
    path.unlink(missing_ok=True)
    with open_writers([path], head, embedding=embedding) as writers:
        for outcome in outcomes:
            writers.add(outcome)


def made_up_night(count: int) -> tuple[Head, list[Outcome]]:
    """Outcomes with random numbers, as large as those of the published model."""
    labels = tuple(f"feature {f}.value {v}" for f in range(FEATURES) for v in range(VALUES))
    head = Head(COLUMNS, ReleaseInfo("ns-0123456789abcdef0123", FOLDS, True, labels))
    rng = np.random.default_rng(0)
    return head, [_outcome(number, rng, head) for number in range(count)]


def _outcome(number: int, rng: np.random.Generator, head: Head) -> Outcome:
    center = (rng.uniform(-150, 150), rng.uniform(-150, 150), rng.uniform(-300, 0))
    path = f"series/{number // 4:05d}"
    cells = (f"P{number // 4:06d}", str(number % 4), path, *(f"{millimetres:.3f}" for millimetres in center))
    columns = dict(zip(COLUMNS, cells, strict=True))
    nodule = Nodule(number, columns, cells[0], cells[1], Path("/ct") / path, center)
    if number % 50 == 49:
        sentence = "The nodule lies outside the volume. Mend: Check that the centre is in LPS millimetres."
        return Outcome(nodule, error_code="CENTER_OUTSIDE", error=sentence)
    raw = rng.random(FOLDS, np.float32)
    score = Score(
        malignancy=float(raw.mean()),
        raw=raw,
        calibrated=rng.random(FOLDS, np.float32),
        semantic=rng.random(len(head.info.labels), np.float32),
        embedding=rng.standard_normal((FOLDS, 256), np.float32) / 16,
        view_attention=rng.random((FOLDS, 9), np.float32),
        release=head.info.release,
    )
    return Outcome(nodule, score)
