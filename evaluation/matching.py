"""Which row of the labels belongs to which row of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from noduleserve.errors import EvaluationError

from .scored import PATIENT, Key, Selection, key_of
from .tables import Row, Table, quoted

NODULE = "nodule_id"
LABEL = "label"
_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # a table with gaps may have turned whole numbers into decimals


@dataclass(frozen=True)
class Match:
    """Results and labels joined.

    Attributes:
        pairs: row of the results and row of the labels of each nodule that both have, by its ids.
        without_label: ids that only the results have.
        without_result: ids that only the labels have.
    """

    pairs: dict[Key, tuple[Row, Row]]
    without_label: tuple[Key, ...]
    without_result: tuple[Key, ...]


def key_columns(labels: Table, asked: Sequence[str]) -> tuple[str, ...]:
    """The columns to join by: those asked for, or pid and nodule_id as far as the labels have them.

    Raises:
        EvaluationError: KEY_MISSING.
    """
    key = tuple(asked) or ((PATIENT, NODULE) if PATIENT in labels.columns else (NODULE,))
    missing = [name for name in key if name not in labels.columns]
    if missing:
        raise EvaluationError(
            "KEY_MISSING",
            f"{labels.name} has no column {' and no '.join(missing)}.",
            "Labels are joined to the results by pid and nodule_id, or by the columns of --key.",
        )
    return key


@dataclass(frozen=True)
class Column:
    """A column of the labels or, where those have none of that name, of the results.

    Attributes:
        table: that has it.
        source: "labels" or "results".
        rows: the table's row of each nodule, by its ids.
    """

    table: Table
    source: str
    rows: dict[Key, Row]


def find_column(pairs: Mapping[Key, tuple[Row, Row]], results: Table, labels: Table, name: str) -> Column | None:
    """Look for a column in the labels, then in the results; `pairs` as Match has them. None: neither has it."""
    if name in labels.columns:
        return Column(labels, "labels", {ids: label for ids, (_, label) in pairs.items()})
    if name in results.columns:
        return Column(results, "results", {ids: result for ids, (result, _) in pairs.items()})
    return None


def match(selection: Selection, labels: Table, key: Sequence[str]) -> Match:
    """Join the labels to the results.

    Raises:
        EvaluationError: KEY_MISSING, LABELS_DUPLICATE, NOTHING_LABELLED.
    """
    by_ids: dict[Key, Row] = {}
    for row in labels.rows:
        ids = key_of(labels, row, key)
        if ids in by_ids:
            raise EvaluationError(
                "LABELS_DUPLICATE",
                f"{labels.name}, lines {by_ids[ids].line} and {row.line}: both rows are of one nodule "
                f"({' and '.join(key)}).",
                "Take out one of the rows, or join by more columns with --key.",
            )
        by_ids[ids] = row
    pairs = {ids: (row, by_ids[ids]) for ids, row in selection.rows.items() if ids in by_ids}
    if not pairs:
        raise EvaluationError("NOTHING_LABELLED", _nothing_in_common(selection, labels, by_ids), _CHECK_IDS)
    return Match(
        pairs,
        tuple(ids for ids in selection.rows if ids not in by_ids),
        tuple(ids for ids in by_ids if ids not in selection.rows),
    )


def label_of(labels: Table, row: Row) -> int | None:
    """The label of malignancy, 1 or 0, or None where the cell is empty.

    Raises:
        EvaluationError: LABEL_INVALID.
    """
    cell = row.cells[LABEL]
    if cell and cell not in _LABELS:
        raise EvaluationError(
            "LABEL_INVALID",
            f"{labels.name}, line {row.line}: the label is {quoted(cell)}, neither 0 nor 1.",
            "1 stands for cancer within a year, 0 for none; leave the cell empty where it is not known.",
        )
    return _LABELS[cell] if cell else None


_CHECK_IDS = "Ids must be written alike in both files (1 and 01 are two ids), or choose the columns by --key."


def _nothing_in_common(selection: Selection, labels: Table, by_ids: dict[Key, Row]) -> str:
    what = f"No row of {labels.name} is of a nodule of {selection.table.name}."
    if selection.rows and by_ids:
        first, other = next(iter(selection.rows)), next(iter(by_ids))
        what += f" The first ids are {quoted(', '.join(first))} there and {quoted(', '.join(other))} in the labels."
    return what
