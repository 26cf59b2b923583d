"""Two records of one benchmark, row by row: what became better or worse, after all that makes them unlike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from noduleserve.errors import BenchmarkError

from .record import Cell, Record, Table

Verdict = Literal["better", "worse", "same", ""]
_SAME = 0.005  # a ratio so near to one shows as 1.00


@dataclass(frozen=True)
class Difference:
    """A fact that two records do not share: what, and its value in each; None where one has no such fact."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Compared:
    """One figure in both records.

    Attributes:
        row: cells of the key columns.
        column: of the figure.
        a, b: the figure; None where it does not exist.
        ratio: B / A; None where there is none.
        verdict: "" for a column that is neither better nor worse.
        share: how much of A's goodness B has, 1 for all of it, more where it is better; None for no verdict.
    """

    row: tuple[Cell, ...]
    column: str
    a: float | None
    b: float | None
    ratio: float | None
    verdict: Verdict
    share: float | None


@dataclass(frozen=True)
class TableComparison:
    """One table of both records.

    Attributes:
        name, title: of it.
        keys: columns by which rows are matched; () where they are matched by their places.
        figures: in the order of B's rows and columns.
        only_a, only_b: rows, by their keys, and columns that one side has alone.
        unmatched: why rows were not compared; "" where they were.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    figures: tuple[Compared, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    unmatched: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two records.

    Attributes:
        a, b: the records.
        differences: of command, machine, code, versions, environment and parameters, in their order.
        tables: that both have.
        only_a, only_b: names of tables that one has alone.
    """

    a: Record
    b: Record
    differences: tuple[Difference, ...]
    tables: tuple[TableComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def compare(a: Record, b: Record) -> Comparison:
    """Hold B against A.

    Raises:
        BenchmarkError: RECORDS_UNLIKE.
    """
    if a.benchmark != b.benchmark:
        raise BenchmarkError(
            "RECORDS_UNLIKE",
            f"One record is of `bench {a.benchmark}`, the other of `bench {b.benchmark}`.",
            "Name two records of one benchmark.",
        )
    tables_a, tables_b = ({table.name: table for table in record.tables} for record in (a, b))
    return Comparison(
        a,
        b,
        differences=tuple(_differences(a, b)),
        tables=tuple(_compare(tables_a[name], table) for name, table in tables_b.items() if name in tables_a),
        only_a=tuple(name for name in tables_a if name not in tables_b),
        only_b=tuple(name for name in tables_b if name not in tables_a),
    )


def shortfalls(comparison: Comparison, at_least: float, columns: Collection[str] = ()) -> list[str]:
    """Where B has less than a share of A: a sentence each; figures, rows and tables that are gone count too.

    Args:
        comparison: of A and B.
        at_least: the share, as 0.95.
        columns: whose figures count; none named: all that can be better or worse.

    Raises:
        BenchmarkError: COLUMN_UNKNOWN.
    """
    known = {column for table in comparison.a.tables for column in table.better}
    if strange := sorted(set(columns) - known):
        raise BenchmarkError(
            "COLUMN_UNKNOWN",
            f"No figure of A that can be better or worse is called {', '.join(strange)}.",
            f"Name one of these: {', '.join(sorted(known)) or 'there is none'}.",
        )
    found = [f"table {name} is only in A" for name in comparison.only_a]
    for table in comparison.tables:
        found += [f"{table.name}: {gone} is only in A" for gone in table.only_a]
        if table.unmatched:
            found.append(f"{table.name}: {table.unmatched}")
        for figure in table.figures:
            if columns and figure.column not in columns:
                continue
            where = f"{table.name}: {row_name(table.keys, figure.row)}: {figure.column}"
            if figure.verdict and figure.a is not None and figure.b is None:
                found.append(f"{where} is gone")
            elif figure.share is not None and not figure.share >= at_least:
                found.append(f"{where} has {figure.share:.3g} of A")
    if not found and not any(figure.verdict for table in comparison.tables for figure in table.figures):
        found.append("no figure that can be better or worse is in both")
    return found


def row_name(keys: tuple[str, ...], row: tuple[Cell, ...]) -> str:
    """A row by its keys, as "way ours, concurrency 4"; by its place where it has none."""
    if not keys:
        return f"row {row[0]}"
    return ", ".join(f"{key} {value}" for key, value in zip(keys, row, strict=True))


# ---------------------------------------------------------------- what is unlike


def _differences(a: Record, b: Record) -> Iterator[Difference]:
    facts_a, facts_b = (dict(_facts(record)) for record in (a, b))
    for what in dict.fromkeys([*facts_a, *facts_b]):
        if facts_a.get(what) != facts_b.get(what):
            yield Difference(what, facts_a.get(what), facts_b.get(what))


def _facts(record: Record) -> Iterator[tuple[str, Any]]:
    """Everything that was settled before the run, by dotted names."""
    yield from _flat("parameters", record.parameters)
    yield from (
        (what, value) for what, value in _flat("machine", record.machine) if not what.startswith("machine.run.")
    )


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


# ---------------------------------------------------------------- tables


def _compare(a: Table, b: Table) -> TableComparison:
    columns_a, columns_b = _columns(a, b), _columns(b, a)
    if why := _unmatched(a, b):
        return TableComparison(b.name, b.title, b.keys, (), columns_a, columns_b, why)
    rows_a, rows_b = _rows(a), _rows(b)
    figures = [
        _figure(b, key, column, rows_a[key][column], cells[column])
        for key, cells in rows_b.items()
        if key in rows_a
        for column in b.columns
        if column in a.columns and column not in b.keys
    ]
    return TableComparison(
        b.name,
        b.title,
        b.keys,
        tuple(figure for figure in figures if figure is not None),
        only_a=(*columns_a, *(row_name(a.keys, key) for key in rows_a if key not in rows_b)),
        only_b=(*columns_b, *(row_name(b.keys, key) for key in rows_b if key not in rows_a)),
    )


def _unmatched(a: Table, b: Table) -> str:
    """Why the rows of two tables cannot be matched; "" where they can."""
    if a.keys != b.keys:
        by_a, by_b = (", ".join(table.keys) or "their places" for table in (a, b))
        return f"rows are told apart by {by_a} in A, by {by_b} in B"
    for side, table in (("A", a), ("B", b)):
        counts = Counter(_key(table, row, place) for place, row in enumerate(table.rows))
        if twice := [key for key, count in counts.items() if count > 1]:
            return f"{side} has more than one row {row_name(table.keys, twice[0])}"
    return ""


def _columns(mine: Table, other: Table) -> tuple[str, ...]:
    return tuple(f"column {column}" for column in mine.columns if column not in other.columns)


def _rows(table: Table) -> dict[tuple[Cell, ...], dict[str, Cell]]:
    return {_key(table, row, n): dict(zip(table.columns, row, strict=True)) for n, row in enumerate(table.rows)}


def _key(table: Table, row: tuple[Cell, ...], place: int) -> tuple[Cell, ...]:
    if not table.keys:
        return (place + 1,)
    return tuple(row[table.columns.index(key)] for key in table.keys)


def _figure(table: Table, row: tuple[Cell, ...], column: str, a: Cell, b: Cell) -> Compared | None:
    """None for what is no figure: words, and yes or no where neither is better."""
    better = table.better.get(column)
    numbers = [_number(value, better is not None) for value in (a, b)]
    if numbers == [None, None]:
        return None
    first, second = numbers
    ratio = second / first if first and second is not None and (first > 0) == (second >= 0) else None
    if not better:
        return Compared(row, column, first, second, ratio, "", None)
    if first is None or second is None:
        return Compared(row, column, first, second, None, "worse" if second is None else "better", None)
    good, bad = (second, first) if better == "higher" else (first, second)
    share = _share(good, bad)
    verdict: Verdict = "same" if abs(share - 1) < _SAME else "better" if share > 1 else "worse"
    return Compared(row, column, first, second, ratio, verdict, share)


def _share(good: float, bad: float) -> float:
    """How many times the one is as much as the other; where no ratio says it, above or below one all the same."""
    if good == bad:
        return 1.0
    if good > 0 and bad > 0:
        return good / bad
    return float("inf") if good > bad else 0.0


def _number(value: Cell, flags: bool) -> float | None:
    if isinstance(value, bool):
        return float(value) if flags else None
    return value if isinstance(value, int | float) else None
