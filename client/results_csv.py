"""The results table: the worklist's rows in the worklist's order, with scores or reasons beside them."""

from __future__ import annotations

import csv
import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from noduleserve.errors import NoduleserveError

from .results import Outcome, ReleaseInfo, Score

PART = ".part"


class ResultsCsv:
    """Writes results.csv row by row as the answers come, in the order of the worklist.

    Rows go to `<name>.part`, flushed one by one; leaving the block without an error renames it to `<name>`.  A run that
    breaks off leaves the part file with every row that was written, and an older results file as it was.
    """

    def __init__(self, path: Path, columns: Sequence[str], info: ReleaseInfo) -> None:
        """Name the table.

        Args:
            path: of the finished file.
            columns: the worklist's.
            info: of the release that scores.
        """
        self._path, self._part = path, path.with_name(path.name + PART)
        self._columns, self._info = list(columns), info
        self._early: dict[int, Outcome] = {}
        self._next = 0

    def __enter__(self) -> ResultsCsv:
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise NoduleserveError(
                "RESULTS_UNWRITABLE", f"{self._path} cannot be written ({error.strerror}).", "Check --out."
            ) from None
        self._writer = csv.writer(self._file)
        self._writer.writerow([*self._columns, *score_columns(self._info), *STATUS_COLUMNS])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number in sorted(self._early):  # the run broke off: rows may be missing before these
            self._write(self._early.pop(number))
        self._file.close()
        if kind is None:
            self._part.replace(self._path)

    def add(self, outcome: Outcome) -> None:
        """Take one outcome, whenever it comes; it is written once all before it are there."""
        self._early[outcome.nodule.number] = outcome
        while self._next in self._early:
            self._write(self._early.pop(self._next))
            self._next += 1

    def _write(self, outcome: Outcome) -> None:
        row = [outcome.nodule.columns.get(column, "") for column in self._columns]
        width = len(score_columns(self._info))
        row += [""] * width if outcome.score is None else score_cells(outcome.score)
        release = outcome.score.release if outcome.score else ""
        self._writer.writerow([*row, release, outcome.status, outcome.error_code, outcome.error])
        self._file.flush()


STATUS_COLUMNS = ("release", "status", "error_code", "error")


def score_columns(info: ReleaseInfo) -> list[str]:
    """Names of the columns that hold a score."""
    folds = range(info.folds)
    raw = [f"raw_{k}" for k in folds]
    calibrated = [f"calibrated_{k}" for k in folds]
    return [
        *raw,
        "ensemble",
        *calibrated,
        "calibrated_ensemble",
        *(f"semantic.{label}" for label in info.labels),
    ]


def score_cells(score: Score) -> list[str]:
    """A score in the order of `score_columns`; empty where the release has no calibration."""
    raw, calibrated = score.raw.astype(float), score.calibrated.astype(float)
    numbers = [*raw, raw.mean(), *calibrated, calibrated.mean(), *score.semantic.astype(float)]
    return ["" if math.isnan(number) else f"{number:.9g}" for number in numbers]
