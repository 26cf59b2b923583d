"""The rows of the results that count: of one release, each nodule once, with a score that can be trusted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from noduleserve.errors import EvaluationError

from .tables import Row, Table, number, quoted

PATIENT = "pid"
SCORED = "scored"
_NOT_SCORED = ("failed", "parked")
_AVERAGES = ("calibrated_ensemble", "ensemble")  # the first that is filled is what is evaluated
_PROBABILITY = re.compile(r"ensemble|calibrated_ensemble|(raw|calibrated)_\d+")
Key = tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """Rows of one release.

    Attributes:
        table: the results.
        rows: those of the release, and those without a score, by the key of their nodule.
        release: its id, or "" where no row names one.
        other_release: how many rows of other releases were left out.
        superseded: how many failed rows were left out, since another row of the release stands for the nodule.
    """

    table: Table
    rows: dict[Key, Row]
    release: str
    other_release: int = 0
    superseded: int = 0


def select(table: Table, key: Sequence[str], release: str) -> Selection:
    """Find the rows of one release, each nodule once.

    A failed row names no release. Where a release was chosen among several, a failed row yields to the row that the
    release has a score in, since it may be another release's failure.

    Args:
        table: the results.
        key: columns that tell nodules apart.
        release: id of the release to take, or "" to take the only one.

    Raises:
        EvaluationError: RESULTS_COLUMNS, RESULTS_STATUS, RELEASES_MIXED, RELEASE_ABSENT, KEY_MISSING,
            RESULTS_DUPLICATE, KEY_AMBIGUOUS.
    """
    missing = [name for name in (PATIENT, *key, "status") if name not in table.columns]
    if missing:
        raise EvaluationError(
            "RESULTS_COLUMNS",
            f"{table.name} has no column {' and no '.join(dict.fromkeys(missing))}.",
            "Give the results as `noduleserve score` writes them.",
        )
    for row in table.rows:
        _require_status(table, row)
    chosen, mixed = _release(table, release)
    scored = [r for r in table.rows if is_scored(r) and r.cells.get("release", "") == chosen]
    failed = [r for r in table.rows if not is_scored(r) and r.cells.get("release", "") in ("", chosen)]
    rows: dict[Key, Row] = {}
    superseded = 0
    for row in (*scored, *failed):
        ids = key_of(table, row, key)
        if ids not in rows:
            rows[ids] = row
        elif mixed and not is_scored(row):
            superseded += 1
        else:
            raise _duplicate(table, rows[ids], row, key)
    ordered = dict(sorted(rows.items(), key=lambda item: item[1].line))
    return Selection(table, ordered, chosen, len(table.rows) - len(scored) - len(failed), superseded)


def is_scored(row: Row) -> bool:
    """Whether a row of the results has a score."""
    return row.cells["status"] == SCORED


def key_of(table: Table, row: Row, key: Sequence[str]) -> Key:
    """The ids that tell a row's nodule.

    Raises:
        EvaluationError: KEY_MISSING.
    """
    ids = tuple(row.cells[name] for name in key)
    if not all(ids):
        raise EvaluationError(
            "KEY_MISSING",
            f"{table.name}, line {row.line}: {key[ids.index('')]} is empty.",
            "Every row must say which nodule it is of.",
        )
    return ids


def score_column(selection: Selection, asked: str) -> str:
    """The column of probabilities to evaluate: the one that was asked for, or the average over the folds.

    Raises:
        EvaluationError: RESULTS_COLUMNS; RESULTS_SCORE where only some rows are calibrated.
    """
    table = selection.table
    if asked and (asked not in table.columns or not _PROBABILITY.fullmatch(asked)):
        there = ", ".join(probability_columns(table)) or "(none)"
        raise EvaluationError(
            "RESULTS_COLUMNS", f"{table.name} has no probability {quoted(asked)}.", f"--score is one of {there}."
        )
    if asked:
        return asked
    scored = [row for row in selection.rows.values() if is_scored(row)]
    for name in _AVERAGES:
        filled = [row for row in scored if row.cells.get(name)]
        if filled and name == "calibrated_ensemble" and len(filled) < len(scored):
            raise EvaluationError(
                "RESULTS_SCORE",
                f"{table.name} has {name} in {len(filled)} of {len(scored)} scored rows only.",
                "Choose a column that every scored row has, such as --score ensemble.",
            )
        if filled:
            return name
    if not scored:
        return _AVERAGES[-1]
    raise EvaluationError(
        "RESULTS_COLUMNS",
        f"{table.name} has nothing in the columns {' and '.join(_AVERAGES)}.",
        "Give the results as `noduleserve score` writes them.",
    )


def probability_columns(table: Table) -> list[str]:
    """Names of all columns that hold a probability of cancer."""
    return [name for name in table.columns if _PROBABILITY.fullmatch(name)]


def probability(table: Table, row: Row, column: str) -> float:
    """What a scored row holds in a column.

    Raises:
        EvaluationError: RESULTS_SCORE where it is no number from 0 to 1.
    """
    value = number(row.cells[column])
    if value is None or not 0 <= value <= 1:
        raise EvaluationError(
            "RESULTS_SCORE",
            f"{table.name}, line {row.line}: {column} is {quoted(row.cells[column])}, not a number from 0 to 1, "
            f"though the row's status is {SCORED}.",
            "The row is damaged: score the nodule again.",
        )
    return value


def not_scored(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows have no score, by status and code, the most frequent first."""
    names = (f"{r.cells['status']} {r.cells.get('error_code', '')}".strip() for r in rows if not is_scored(r))
    return dict(Counter(names).most_common())


def warned(rows: Sequence[Row]) -> dict[str, int]:
    """How many scored rows bear each warning, the most frequent first."""
    cells = (row.cells.get("warnings", "") for row in rows if is_scored(row))
    return dict(Counter(code for cell in cells for code in cell.split(";") if code).most_common())


def notice(rows: Sequence[Row]) -> str:
    """The sentence that must go with every number, as the rows themselves carry it, or ""."""
    return " ".join(dict.fromkeys(cell for row in rows if (cell := row.cells.get("notice", ""))))


def _require_status(table: Table, row: Row) -> None:
    status = row.cells["status"]
    if status != SCORED and status not in _NOT_SCORED:
        raise EvaluationError(
            "RESULTS_STATUS",
            f"{table.name}, line {row.line}: the status is {quoted(status)}.",
            f"It must be {SCORED}, {' or '.join(_NOT_SCORED)}.",
        )


def _release(table: Table, asked: str) -> tuple[str, bool]:
    """The release to take, and whether there are others."""
    found = Counter(row.cells.get("release", "") for row in table.rows if is_scored(row))
    if asked and asked not in found:
        raise EvaluationError(
            "RELEASE_ABSENT",
            f"{table.name} has no scored row of the release {asked}.",
            f"Scored rows are of {_listed(found)}." if found else "No row is scored.",
        )
    if not asked and len(found) > 1:
        raise EvaluationError(
            "RELEASES_MIXED",
            f"{table.name} has scores of {len(found)} releases, which may be different models: {_listed(found)}.",
            "Choose one by --release ID.",
        )
    return asked or next(iter(found), ""), len(found) > 1


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{release or '(no id)'} ({count} rows)" for release, count in found.most_common(5))


def _duplicate(table: Table, first: Row, second: Row, key: Sequence[str]) -> EvaluationError:
    if PATIENT not in key and first.cells[PATIENT] != second.cells[PATIENT]:
        return EvaluationError(
            "KEY_AMBIGUOUS",
            f"{table.name}, lines {first.line} and {second.line}: two patients have a nodule of the same "
            f"{' and '.join(key)}.",
            "Join by --key pid,nodule_id, with both columns in the labels.",
        )
    return EvaluationError(
        "RESULTS_DUPLICATE",
        f"{table.name}, lines {first.line} and {second.line}: both rows are of one nodule ({' and '.join(key)}).",
        "A nodule must be counted once: take out one of the rows.",
    )
