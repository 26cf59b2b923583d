"""Scored nodules whose outcome is known, read from CSV: what a calibration is fitted on."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

IDS = ("pid", "nodule_id")
LABEL, ONE_FOLD = "label", "probability"
_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # a table with gaps may have turned whole numbers into decimals
_LONGEST_QUOTE = 40  # characters of a cell that a sentence repeats


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Scored nodules whose outcome is known.

    Attributes:
        probabilities: raw probability of cancer that each fold gives, 0..1, float64 [F, N].
        labels: 1 where it was cancer, 0 where not, int64 [N].
        failed: rows left out, since they were not scored.
        unmatched_labels: labels of a second file that no row of the first bears the ids of.
    """

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    failed: int = 0
    unmatched_labels: int = 0


@dataclass(frozen=True)
class _Row:
    line: int  # of the file, from 1
    cells: dict[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.cells[name] for name in IDS)


@dataclass(frozen=True)
class _Table:
    name: str
    header: list[str]
    rows: list[_Row]


def read_outcomes(scores: Path, labels: Path | None = None) -> Outcomes:
    """Read probabilities and labels.

    Args:
        scores: CSV in UTF-8 with the column probability (one fold) or raw_0, raw_1, ... (a results file of
            `noduleserve score`), and label, unless `labels` is given. Rows of the status "failed" are left out.
        labels: CSV with pid, nodule_id and label, joined to `scores` by both ids.

    Raises:
        CheckpointError: OUTCOMES_UNREADABLE, OUTCOMES_COLUMNS, OUTCOMES_IDS, OUTCOMES_RELEASES (rows of several
            releases), OUTCOMES_LABEL, OUTCOMES_PROBABILITY; where one line is at fault, it is named.
    """
    table = _read_table(scores)
    folds = _fold_columns(table)
    if (labels is None) == (LABEL not in table.header):
        _refuse_label_column(table, labels)
    if labels is not None or all(name in table.header for name in IDS):
        _require_unique_ids(table)
    scored = [row for row in table.rows if _is_scored(table, row)]
    _require_one_release(table, scored)
    unmatched, cells = 0, [(table.name, row.line, row.cells.get(LABEL, "")) for row in scored]
    if labels is not None:
        unmatched, cells = _joined(table, scored, _read_table(labels))
    return Outcomes(
        np.array([[_probability(table, row, column) for row in scored] for column in folds], np.float64),
        np.array([_label(*cell) for cell in cells], np.int64),
        len(table.rows) - len(scored),
        unmatched,
    )


def _read_table(path: Path) -> _Table:
    lines = list(_lines(path))
    header = [name.strip() for name in lines[0][1]] if lines else []
    twice = [name for name, count in Counter(header).items() if count > 1]
    if not header or twice:
        what = f"has the column {twice[0] or '(no name)'} more than once" if twice else "is empty"
        raise CheckpointError("OUTCOMES_COLUMNS", f"{path.name} {what}.", "Its first line must name each column once.")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise CheckpointError(
                "OUTCOMES_UNREADABLE",
                f"{path.name}, line {line}: the row has {len(cells)} cells, the header {len(header)}.",
                "Separate cells by commas, and quote those that hold one.",
            )
    rows = [_Row(line, dict(zip(header, (c.strip() for c in cells), strict=True))) for line, cells in lines[1:]]
    return _Table(path.name, header, rows)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row, header first, blank lines left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            "OUTCOMES_UNREADABLE", f"{path.name} cannot be read: {reason}.", "It must be CSV in UTF-8."
        ) from None


def _fold_columns(table: _Table) -> list[str]:
    """The columns of probabilities, a fold each."""
    raw = [name for name in table.header if re.fullmatch(r"raw_\d+", name)]
    if raw and ONE_FOLD in table.header:
        raise _columns(table, f"has both {ONE_FOLD} and {raw[0]}", "Take out what the fit is not to be made of.")
    if not raw and ONE_FOLD not in table.header:
        raise _columns(table, f"has neither {ONE_FOLD} nor raw_0, raw_1, ...", "Name the columns so.")
    if not raw:
        return [ONE_FOLD]
    expected = [f"raw_{fold}" for fold in range(len(raw))]
    if set(raw) != set(expected):
        raise _columns(table, f"has {', '.join(raw)}", f"The folds' columns must be {', '.join(expected)}.")
    return expected


def _refuse_label_column(table: _Table, labels: Path | None) -> None:
    if labels is None:
        raise _columns(table, f"has no column {LABEL}", "Add it (1 cancer, 0 none), or give a second file by --labels.")
    raise _columns(table, f"has a column {LABEL}, and {labels.name} is given as well", "Leave one of them out.")


def _columns(table: _Table, what: str, mend: str) -> CheckpointError:
    return CheckpointError("OUTCOMES_COLUMNS", f"{table.name} {what}.", mend)


def _require_unique_ids(table: _Table) -> None:
    missing = [name for name in IDS if name not in table.header]
    if missing:
        raise _columns(table, f"has no column {' and no '.join(missing)}", "Labels are joined by pid and nodule_id.")
    first: dict[tuple[str, ...], int] = {}
    for row in table.rows:
        if not all(row.ids):
            raise CheckpointError("OUTCOMES_IDS", f"{table.name}, line {row.line}: {' or '.join(IDS)} is empty.")
        if first.setdefault(row.ids, row.line) != row.line:
            raise CheckpointError(
                "OUTCOMES_IDS",
                f"{table.name}, line {row.line}: pid and nodule_id are those of line {first[row.ids]}.",
                "A nodule must be counted once.",
            )


def _is_scored(table: _Table, row: _Row) -> bool:
    status = row.cells.get("status", "scored")
    if status not in ("scored", "failed"):
        raise CheckpointError(
            "OUTCOMES_COLUMNS",
            f"{table.name}, line {row.line}: the status is {_quoted(status)}, neither scored nor failed.",
        )
    return status == "scored"


def _require_one_release(table: _Table, scored: list[_Row]) -> None:
    """Different releases may be different models, of which one calibration would be true of none."""
    releases = {row.cells["release"]: row.line for row in reversed(scored) if "release" in row.cells}
    if len(releases) > 1:
        places = ", ".join(f"{release or '(none)'} (line {line})" for release, line in list(releases.items())[:3])
        raise CheckpointError(
            "OUTCOMES_RELEASES",
            f"{table.name} has scores of {len(releases)} releases: {places}.",
            "Score all nodules with one release.",
        )


def _joined(table: _Table, scored: list[_Row], labels: _Table) -> tuple[int, list[tuple[str, int, str]]]:
    """How many labels are of no row, and each scored row's label with its place."""
    if LABEL not in labels.header:
        raise _columns(labels, f"has no column {LABEL}", "Add it (1 cancer, 0 none).")
    _require_unique_ids(labels)
    by_ids = {row.ids: row for row in labels.rows}
    missing = [row.line for row in scored if row.ids not in by_ids]
    if missing:
        raise CheckpointError(
            "OUTCOMES_IDS",
            f"{labels.name} has no label for {len(missing)} of the scored nodules of {table.name}, "
            f"the first at line {missing[0]}.",
            "Give every scored nodule a label, or take out the rows that are to have none.",
        )
    found = [by_ids[row.ids] for row in scored]
    unmatched = len(by_ids.keys() - {row.ids for row in table.rows})
    return unmatched, [(labels.name, row.line, row.cells[LABEL]) for row in found]


def _label(name: str, line: int, cell: str) -> int:
    if cell not in _LABELS:
        raise CheckpointError(
            "OUTCOMES_LABEL",
            f"{name}, line {line}: the label is {_quoted(cell)}, neither 0 nor 1.",
            "1 stands for cancer, 0 for none.",
        )
    return _LABELS[cell]


def _probability(table: _Table, row: _Row, column: str) -> float:
    cell = row.cells[column]
    try:
        value = float(cell) if "_" not in cell else -1.0  # float() reads 1_0 as 10
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise CheckpointError(
            "OUTCOMES_PROBABILITY",
            f"{table.name}, line {row.line}: {column} is {_quoted(cell)}, not a number from 0 to 1.",
            "Give every row its probability, or take the row out.",
        )
    return value


def _quoted(cell: str) -> str:
    return repr(cell if len(cell) <= _LONGEST_QUOTE else cell[:_LONGEST_QUOTE] + "...")
