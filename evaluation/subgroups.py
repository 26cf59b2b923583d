"""Which subgroup a nodule belongs to: the value of a column, or the range that a number falls into."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from noduleserve.errors import EvaluationError

from .matching import find_column
from .scored import Key
from .tables import Row, Table, number, quoted

MOST = 30  # subgroups of one column
NOT_GIVEN = "(not given)"


@dataclass(frozen=True)
class Grouping:
    """One way of forming subgroups.

    Attributes:
        column: its name.
        source: "labels" or "results", whichever has it.
        members: subgroup -> keys of its nodules, in the order to show.
    """

    column: str
    source: str
    members: dict[str, tuple[Key, ...]]


def groupings(
    pairs: Mapping[Key, tuple[Row, Row]],
    results: Table,
    labels: Table,
    columns: Sequence[str],
    cuts: Mapping[str, Sequence[float]],
) -> list[Grouping]:
    """Form the subgroups of each column.

    Args:
        pairs: row of the results and of the labels of every nodule to sort.
        results, labels: where the columns are looked for: in the labels first.
        columns: to form subgroups by.
        cuts: of some of the columns, the numbers to cut at; a number belongs below the cut that it equals.

    Raises:
        EvaluationError: SUBGROUP_COLUMN, SUBGROUP_MANY, SUBGROUP_NUMBER.
    """
    without = [name for name in cuts if name not in columns]
    if without:
        raise EvaluationError(
            "SUBGROUP_COLUMN", f"--bins cuts {without[0]}, which --by does not name.", f"Add it: --by {without[0]}."
        )
    return [_grouping(name, pairs, results, labels, cuts.get(name)) for name in dict.fromkeys(columns)]


def _grouping(
    column: str,
    pairs: Mapping[Key, tuple[Row, Row]],
    results: Table,
    labels: Table,
    cuts: Sequence[float] | None,
) -> Grouping:
    found = find_column(pairs, results, labels, column)
    if found is None:
        raise EvaluationError(
            "SUBGROUP_COLUMN",
            f"Neither {labels.name} nor {results.name} has a column {quoted(column)}.",
            "Check --by.",
        )
    if cuts is None:
        names = {ids: row.cells[column] or NOT_GIVEN for ids, row in found.rows.items()}
        order = sorted(set(names.values()), key=lambda name: (name == NOT_GIVEN, _natural(name)))
    else:
        names = {ids: _range(found.table, row, column, cuts) for ids, row in found.rows.items()}
        order = [*range_names(cuts), NOT_GIVEN]
    if len(order) > MOST and cuts is None:
        raise EvaluationError(
            "SUBGROUP_MANY",
            f"{column} has {len(order)} different values; at most {MOST} subgroups are shown.",
            f"Where it holds numbers, cut them: --bins {column}:NUMBER,NUMBER.",
        )
    members = {name: tuple(ids for ids, group in names.items() if group == name) for name in order}
    return Grouping(column, found.source, {n: m for n, m in members.items() if m})


def range_names(cuts: Sequence[float]) -> list[str]:
    """Names of the ranges between ascending cuts, one more than there are cuts."""
    middle = [f"> {low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
    return [f"<= {cuts[0]:g}", *middle, f"> {cuts[-1]:g}"]


def _range(table: Table, row: Row, column: str, cuts: Sequence[float]) -> str:
    cell = row.cells[column]
    if not cell:
        return NOT_GIVEN
    value = number(cell)
    if value is None:
        raise EvaluationError(
            "SUBGROUP_NUMBER",
            f"{table.name}, line {row.line}: {column} is {quoted(cell)}, not a number.",
            "Leave the cell empty where the number is not known, or leave the column out of --bins.",
        )
    return range_names(cuts)[sum(value > cut for cut in cuts)]


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by their size, before texts by their letters."""
    value = number(name)
    return (value is None, value or 0.0, name.casefold())
