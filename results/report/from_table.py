"""Outcomes read back from results.csv, row by row; what the table lacks is said, and never made up."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.codes import WARNING_CODES
from noduleserve.ct.doubt import InputWarning
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing.views import VIEW_NAMES
from noduleserve.results.outcome import Outcome, Score
from noduleserve.worklist.table import COLUMNS, Nodule, is_result_column

SEMANTIC = "semantic."
TIME, SERIES, NOTICE = "outcome_at", "ct_series_uid", "notice"
SCANNER = ("Manufacturer", "ManufacturerModelName", "SliceThickness")
_NEEDED = (*COLUMNS, "ensemble", "calibrated_ensemble", "release", "status", "error_code", "error")


class ResultsTable:
    """A results.csv.

    Attributes:
        path: of the file.
        columns: as its header has them.
        labels: of the semantic features' values, "<feature>.<value>".
        lacks: what the table does not hold, one sentence each.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        """Read the header.

        Args:
            path: of the table.
            root: folder that a relative image_path starts from; by default the table's own.

        Raises:
            NoduleserveError: RESULTS_UNREADABLE, RESULTS_COLUMNS.
        """
        self.path, self._root = path, (root or path.parent).absolute()
        self.columns = next(self._cells(), [])
        missing = [name for name in _NEEDED if name not in self.columns]
        if missing or len(set(self.columns)) != len(self.columns):
            wrong = f"lacks the columns {', '.join(missing)}" if missing else "has a column more than once"
            raise NoduleserveError(
                "RESULTS_COLUMNS", f"{path.name} {wrong}.", "Give the table as `noduleserve score` wrote it."
            )
        self.labels = tuple(name.removeprefix(SEMANTIC) for name in self.columns if name.startswith(SEMANTIC))
        self._raw, self._calibrated = (self._folds(kind) for kind in ("raw", "calibrated"))
        self._notices: dict[str, None] = {}
        self.lacks = ["A results table has no attention of views, and no time of stages; the journal has both."]
        if TIME not in self.columns:
            self.lacks.append("The table does not say when each outcome came, so that throughput is not known.")
        if not set(SCANNER) & set(self.columns):
            self.lacks.append("The table has no scanner (Manufacturer, ManufacturerModelName, SliceThickness).")

    @property
    def notice(self) -> str:
        """What the releases of the rows that were read say of themselves."""
        return " ".join(self._notices)

    def outcomes(self) -> Iterator[tuple[Outcome, float]]:
        """Every row, in the table's order, with its time in seconds since 1970, NaN where not known.

        Raises:
            NoduleserveError: RESULTS_STATUS, RESULTS_SCORE, RESULTS_UNREADABLE, for a row that is not as it was
                written.
        """
        for number, cells in enumerate(self._cells(), -1):
            if number < 0:
                continue
            if len(cells) != len(self.columns):
                raise self._unreadable(f"row {number + 1} has {len(cells)} cells, the header {len(self.columns)}")
            row = dict(zip(self.columns, cells, strict=True))
            if row.get(NOTICE):
                self._notices[row[NOTICE]] = None
            yield self._outcome(number, row), self._time(number, row.get(TIME, ""))

    def _cells(self) -> Iterator[list[str]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                yield from csv.reader(file, strict=True)
        except (csv.Error, UnicodeDecodeError):
            raise self._unreadable("it is not CSV in UTF-8") from None
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from None

    def _outcome(self, number: int, row: dict[str, str]) -> Outcome:
        nodule = Nodule(
            number=number,
            columns={name: cell for name, cell in row.items() if not _is_ours(name)},
            pid=row["pid"].strip(),
            nodule_id=row["nodule_id"].strip(),
            image_path=self._root / row["image_path"].strip().replace("\0", ""),
            center=_center(row),
            series_uid=row.get("series_uid", "").strip(),
        )
        scored = row["status"] == "scored"
        if scored == bool(row["error_code"]):
            raise self._unfit("RESULTS_STATUS", f"row {number + 1} has neither a score nor a code, or both")
        scanner = {name: row[name] for name in SCANNER if row.get(name)}
        return Outcome(
            nodule=nodule,
            score=self._score(number, row) if scored else None,
            error_code=row["error_code"],
            error=row["error"],
            series_uid=row.get(SERIES, ""),
            warnings=tuple(self._warning(number, code) for code in row.get("warnings", "").split(";") if code),
            scanner=scanner,
        )

    def _time(self, number: int, cell: str) -> float:
        try:
            return datetime.fromisoformat(cell).timestamp() if cell else math.nan
        except ValueError:
            raise self._unreadable(f"row {number + 1} has no time in its column {TIME}") from None

    def _score(self, number: int, row: dict[str, str]) -> Score:
        folds = len(self._raw)
        calibrated = row["calibrated_ensemble"] != ""
        return Score(
            malignancy=self._number(number, row, "calibrated_ensemble" if calibrated else "ensemble"),
            raw=self._numbers(number, row, self._raw),
            calibrated=self._numbers(number, row, self._calibrated) if calibrated else np.full(folds, np.nan, "f4"),
            semantic=self._numbers(number, row, [SEMANTIC + label for label in self.labels]),
            embedding=np.zeros((folds, 0), np.float32),
            view_attention=np.full((folds, len(VIEW_NAMES)), np.nan, np.float32),
            release=row["release"],
        )

    def _numbers(self, number: int, row: dict[str, str], names: list[str]) -> NDArray[np.float32]:
        return np.array([self._number(number, row, name) for name in names], np.float32)

    def _number(self, number: int, row: dict[str, str], name: str) -> float:
        value = _float(row[name])
        if not 0 <= value <= 1:
            raise self._unfit("RESULTS_SCORE", f"row {number + 1} has no probability in its column {name}")
        return value

    def _warning(self, number: int, code: str) -> InputWarning:
        if code not in WARNING_CODES:
            raise self._unreadable(f"row {number + 1} has a warning that this noduleserve does not know")
        return InputWarning(code, WARNING_CODES[code], "")

    def _folds(self, kind: str) -> list[str]:
        names = [name for name in self.columns if re.fullmatch(rf"{kind}_\d+", name)]
        return sorted(names, key=lambda name: int(name.rpartition("_")[2]))

    def _unreadable(self, why: str) -> NoduleserveError:
        return self._unfit("RESULTS_UNREADABLE", why)

    def _unfit(self, code: str, why: str) -> NoduleserveError:
        return NoduleserveError(
            code, f"{self.path.name} cannot be used: {why}.", "Give what `noduleserve score` wrote."
        )


def _is_ours(name: str) -> bool:
    return is_result_column(name) or name in (TIME, SERIES, NOTICE)


def _center(row: dict[str, str]) -> tuple[float, float, float] | None:
    x, y, z = (_float(row[name]) for name in COLUMNS[3:])
    return (x, y, z) if all(map(math.isfinite, (x, y, z))) else None


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
