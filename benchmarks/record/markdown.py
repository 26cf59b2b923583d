"""A record as a reader sees it: tables with units, goals met or missed, remarks, and what machine it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .record import Cell, Goal, Record, Table
from .versions import PACKAGES

_UNITS = {
    **{unit: unit for unit in ("s", "ms", "us", "ns", "min", "h", "mm", "bytes", "percent")},
    **{"kb": "kB", "mb": "MB", "gb": "GB", "kib": "KiB", "mib": "MiB", "gib": "GiB"},
    **{"hz": "Hz", "mhz": "MHz", "ghz": "GHz", "w": "W", "j": "J"},
    **{"flops": "FLOP/s", "gflops": "GFLOP/s", "gflop": "GFLOP", "gb/s": "GB/s", "mb/s": "MB/s"},
}
_AS_THEY_ARE = frozenset(PACKAGES)
_PER = re.compile(r"(?:(?P<words>.+)_)?(?P<what>[^_]+)_per_(?P<each>[^_]+)")


def markdown_of(record: Record, *, drawn: bool = True) -> str:
    """A whole record: title, command, machine, parameters, tables, plots, remarks.

    Args:
        record: the run.
        drawn: whether the pictures lie beside it; where not, their place says why.
    """
    parts = [
        f"# noduleserve bench {record.benchmark}",
        f"    {record.command}",
        f"Began {record.began}, took {shown(record.seconds)} s.",
        _list("Machine", machine_lines(record.machine)),
        _list("Parameters", [f"{head_of(name)}: {_words(value) or '-'}" for name, value in record.parameters.items()]),
        tables_of(record),
        *_pictures(record, drawn),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def tables_of(record: Record) -> str:
    """The tables with their goals, and the remarks: what a terminal shows at the end of a run."""
    parts = [table_of(table) for table in record.tables]
    return "\n\n".join([*parts, _list("Remarks", record.remarks)] if record.remarks else parts)


def table_of(table: Table) -> str:
    """One table under its title; goals that are about rows stand in a column of their own."""
    head = [head_of(column) for column in table.columns]
    rows = [[cell(value) for value in row] for row in table.rows]
    if table.goals:
        head.append("goal")
        for row, cells in zip(table.rows, rows, strict=True):
            cells.append("; ".join(_verdict(goal, table, row) for goal in table.goals if _is_about(goal, table, row)))
    lines = [f"## {table.title}", "", *markdown_rows(head, rows)]
    lines += [
        f"\nGoal without a row: {_wanted(goal)}: MISSED"
        for goal in table.goals
        if not any(_is_about(goal, table, row) for row in table.rows)
    ]
    return "\n".join(lines)


def markdown_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]


def head_of(column: str) -> str:
    """A column's name in words, with its unit: "p99_ms" is "p99 (ms)", "rate_nodules_per_s" is "rate (nodules/s)"."""
    if per := _PER.fullmatch(column):
        unit = f"{per['what']}/{per['each']}"
        return f"{per['words'].replace('_', ' ')} ({unit})" if per["words"] else unit
    words, _, unit = column.rpartition("_")
    if words and unit in _UNITS:
        return f"{words.replace('_', ' ')} ({_UNITS[unit]})"
    return column.replace("_", " ")


def cell(value: Cell) -> str:
    """A cell's text: figures short, whole numbers whole, nothing that would break a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return shown(value)
    return "-" if value is None else " ".join(value.split()).replace("|", "\\|")


def shown(value: float) -> str:
    """A number to three significant digits, without an exponent where it can do without; whole numbers whole."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e15:
        short = f"{value:.3g}"
        return f"{float(short):.0f}" if "e" in short else short
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """A machine in a few lines; what is not known is left out."""
    return [f"{head_of(name)}: {words}" for name, value in machine.items() if (words := _words(value))]


def _is_about(goal: Goal, table: Table, row: Sequence[Cell]) -> bool:
    return all(row[table.columns.index(column)] == value for column, value in goal.row.items())


def _verdict(goal: Goal, table: Table, row: Sequence[Cell]) -> str:
    met = goal.met(row[table.columns.index(goal.column)])
    # The column is named where goals are about several.
    name = f"{head_of(goal.column)} " if len({other.column for other in table.goals}) > 1 else ""
    return f"{name}{_bounds(goal)}: {'met' if met else 'MISSED'}"


def _bounds(goal: Goal) -> str:
    bounds = []
    if goal.at_least is True:
        bounds.append("yes")
    elif goal.at_least is not None:
        bounds.append(f"at least {shown(goal.at_least)}")
    if goal.at_most is not None:
        bounds.append(f"at most {shown(goal.at_most)}")
    return ", ".join(bounds)


def _wanted(goal: Goal) -> str:
    where = ", ".join(f"{head_of(column)} {cell(value)}" for column, value in goal.row.items())
    return f"{head_of(goal.column)} {_bounds(goal)}" + (f" where {where}" if where else "")


def _pictures(record: Record, drawn: bool) -> list[str]:
    if record.plots and not drawn:
        return ["Plots are left out: matplotlib is not installed. They can be drawn from the JSON file."]
    return [f"![{plot.title}]({plot.name}.png)" for plot in record.plots]


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", "", *(f"- {line}" for line in lines)]) if lines else ""


def _words(value: Any) -> str:
    """A value of the machine or of the parameters in one line, "" where nothing is known."""
    if isinstance(value, dict):
        inner = {name: _words(inner) for name, inner in value.items()}
        return "; ".join(f"{_named(name)} {words}" for name, words in inner.items() if words)
    if isinstance(value, list):
        return ", ".join(_words(inner) for inner in value)
    return "" if value is None else cell(value)


def _named(name: str) -> str:
    """Facts in words; packages, and variables of the environment, as they are called."""
    return head_of(name) if name.islower() and name not in _AS_THEY_ARE else name
