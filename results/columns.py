"""The results table as it stands in CSV and Parquet; every number and text of the other formats comes from here too."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import ResultsError

from .base import Head
from .outcome import Outcome, ReleaseInfo, Score

Kind = Literal["text", "float32", "float64", "time"]
Value = str | float | datetime.datetime | None


class Column(NamedTuple):
    """A column of the table, or one a fold or a label: `<k>` is the number of a fold from 0.

    Attributes:
        name: in every format that has columns.
        kind: type of its values; where there is none, they are null (in CSV: empty).
        meaning: one sentence, with the unit.
    """

    name: str
    kind: Kind
    meaning: str


# Behind the worklist's own columns, in this order. A contract: more are added at the end only.
SCHEMA: tuple[Column, ...] = (
    Column("raw_<k>", "float32", "Probability (0..1) of cancer within a year by fold k, as the model gives it."),
    Column("ensemble", "float64", "Mean of raw_<k> over the folds (0..1)."),
    Column("calibrated_<k>", "float32", "raw_<k> after the fold's calibration (0..1); null without a calibration."),
    Column(
        "calibrated_ensemble", "float64", "Mean of calibrated_<k> over the folds (0..1); null without a calibration."
    ),
    Column(
        "semantic.<feature>.<value>",
        "float32",
        "Probability (0..1) that the feature has this value, mean over folds; the values of one feature add up to 1.",
    ),
    Column("release", "text", "Id of the release that scored; null without a score."),
    Column("status", "text", "`scored` or `failed`; never null."),
    Column("error_code", "text", "Why there is no score, as a stable code (`noduleserve codes`); null with a score."),
    Column("error", "text", "Why there is no score and how to mend it, in sentences; null with a score."),
    Column("warnings", "text", "Codes of what is doubtful, separated by semicolons; null where nothing is."),
    Column(
        "ct_series_uid", "text", "SeriesInstanceUID of the CT that was read; null where it has none or was not read."
    ),
    Column(
        "outcome_at", "time", "When the score or the failure came, UTC, ISO 8601 to the millisecond; null if unknown."
    ),
    Column("notice", "text", "What the release says of itself that must go with every number; null where nothing."),
)


def table_columns(head: Head) -> list[tuple[str, Kind]]:
    """Name and kind of every column: the worklist's, then ours.

    Raises:
        ResultsError: OUTPUT_COLUMNS.
    """
    ours = [(name, column.kind) for column in SCHEMA for name in _names(column, head.info)]
    columns: list[tuple[str, Kind]] = [*((name, "text") for name in head.columns), *ours]
    twice = [name for name, count in Counter(name for name, _ in columns).items() if count > 1]
    if twice:
        raise ResultsError(
            "OUTPUT_COLUMNS",
            f"The worklist has columns that results are written under, or has them twice: {', '.join(twice)}.",
            f"Remove or rename {', '.join(twice)}.",
        )
    return columns


def table_row(outcome: Outcome, head: Head, time: datetime.datetime | None = None) -> list[Value]:
    """The values of one outcome, in the order of `table_columns`."""
    values = dict(_values(outcome, head, time))
    row: list[Value] = [utf8(outcome.nodule.columns.get(column, "")) for column in head.columns]
    for column in SCHEMA:
        row += values[column.name]
    return row


def check_score(score: Score, info: ReleaseInfo) -> None:
    """Refuse a score whose numbers would stand under names that are not theirs.

    Raises:
        ResultsError: OUTPUT_OTHER_RELEASE.
    """
    sizes = (score.raw.shape, score.calibrated.shape, score.semantic.shape)
    if sizes == ((info.folds,), (info.folds,), (len(info.labels),)) and info.release in ("", score.release):
        return
    raise ResultsError(
        "OUTPUT_OTHER_RELEASE",
        f"A score of release {score.release} does not belong into results of release {info.release or '(unknown)'}.",
        "Write the results of each release to an output of its own.",
    )


def csv_cells(row: list[Value]) -> list[str]:
    """Values as results.csv has them: numbers with nine digits, which give a float32 back to its last bit."""
    return [cell if isinstance(cell, str) else _csv_cell(cell) for cell in row]


def numbers(array: NDArray[np.float32]) -> list[float | None]:
    """A vector as Python floats of the same value, None for NaN and infinity."""
    values: list[float | None] = array.tolist()
    return values if np.isfinite(array).all() else [number(value) for value in array.tolist()]


def mean(array: NDArray[np.float32]) -> float | None:
    """Mean in float64; None where any is NaN."""
    return number(float(array.astype(float).mean()))


def number(value: float) -> float | None:
    """The same, None for NaN and infinity: what is no number is null in every format."""
    return value if math.isfinite(value) else None


def utf8(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file name that are none stand as \\udc.. escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_or_none(text: str) -> str | None:
    """Text, or None for none."""
    return utf8(text) or None


def iso(time: datetime.datetime) -> str:
    """ISO 8601 in UTC to the millisecond."""
    return time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ct_series_uid(outcome: Outcome) -> str | None:
    """UID of the series that was read, or None."""
    return text_or_none(outcome.series_uid)


def warning_codes(outcome: Outcome) -> str | None:
    """Codes of the warnings, separated by semicolons, or None."""
    return ";".join(warning.code for warning in outcome.warnings) or None


def markdown() -> str:
    """The columns as they stand in docs/results.md."""
    rows = [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in SCHEMA]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


def _names(column: Column, info: ReleaseInfo) -> list[str]:
    if "<k>" in column.name:
        return [column.name.replace("<k>", str(k)) for k in range(info.folds)]
    if column.name.startswith("semantic."):
        return [f"semantic.{label}" for label in info.labels]
    return [column.name]


def _values(outcome: Outcome, head: Head, time: datetime.datetime | None) -> Iterator[tuple[str, list[Value]]]:
    yield from _score_values(outcome.score, head.info)
    yield "release", [text_or_none(outcome.score.release) if outcome.score else None]
    yield "status", [outcome.status]
    yield "error_code", [text_or_none(outcome.error_code)]
    yield "error", [text_or_none(outcome.error)]
    yield "warnings", [warning_codes(outcome)]
    yield "ct_series_uid", [ct_series_uid(outcome)]
    yield "outcome_at", [time]
    yield "notice", [text_or_none(head.info.notice)]


def _score_values(score: Score | None, info: ReleaseInfo) -> Iterator[tuple[str, list[Value]]]:
    if score is None:
        for column in SCHEMA:
            if column.kind in ("float32", "float64"):
                yield column.name, [None] * len(_names(column, info))
        return
    yield "raw_<k>", [*numbers(score.raw)]
    yield "ensemble", [mean(score.raw)]
    yield "calibrated_<k>", [*numbers(score.calibrated)]
    yield "calibrated_ensemble", [mean(score.calibrated)]
    yield "semantic.<feature>.<value>", [*numbers(score.semantic)]


def _csv_cell(value: float | datetime.datetime | None) -> str:
    if value is None:
        return ""
    return iso(value) if isinstance(value, datetime.datetime) else f"{value:.9g}"
