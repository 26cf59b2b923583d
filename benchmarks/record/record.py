"""What a run of a benchmark found, as plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

Cell = str | int | float | bool | None
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a file, on every system


@dataclass(frozen=True)
class Goal:
    """What a figure should reach.

    Attributes:
        column: of the table that holds the goal.
        at_least, at_most: its bounds; None where there is none.
        row: values that a row must have for the goal to be about it, by column; empty: every row.
    """

    column: str
    at_least: float | None = None
    at_most: float | None = None
    row: dict[str, Cell] = field(default_factory=dict)

    def met(self, value: Cell) -> bool:
        """Whether a figure reaches it; an absent one does not."""
        if not isinstance(value, int | float):
            return False
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Table:
    """Figures of one kind.

    Attributes:
        name: of its CSV file; words joined by hyphens.
        title: as a reader sees it.
        columns: names, the unit behind the last underscore where there is one ("p99_ms", "memory_mb").
        rows: as many cells each as there are columns; None where a figure does not exist, as becomes of NaN and
            infinity.
        keys: columns that say what a row is about; two records are compared row by row on them.
        better: "higher" or "lower" for columns that can be better or worse.
        goals: what is wanted.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    keys: tuple[str, ...] = ()
    better: dict[str, Literal["higher", "lower"]] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()

    def __post_init__(self) -> None:
        _require_name(self.name)
        rows = tuple(tuple(_cell(value) for value in row) for row in self.rows)
        _set(self, columns=tuple(self.columns), rows=rows, keys=tuple(self.keys), goals=tuple(self.goals))
        names = {*self.keys, *self.better, *(goal.column for goal in self.goals)}
        names |= {column for goal in self.goals for column in goal.row}
        if strange := sorted(names - set(self.columns)):
            raise ValueError(f"table {self.name!r} has no column {', '.join(strange)}")
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name!r} has a row that is not of {len(self.columns)} cells")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"table {self.name!r} has a column twice")


@dataclass(frozen=True)
class Line:
    """A line or a group of bars of a plot.

    Attributes:
        name: in the legend.
        x, y: as many of each; x may be words where the plot is of bars. A y that is not finite is a gap.
        low, high: ends of an error bar a point, or nothing.
    """

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def __post_init__(self) -> None:
        x = tuple(value if isinstance(value, str) else _number(value) for value in self.x)
        y, low, high = (tuple(_number(value) for value in values) for values in (self.y, self.low, self.high))
        _set(self, x=x, y=y, low=low, high=high)
        if len(x) != len(y) or {len(low), len(high)} - {0, len(y)}:
            raise ValueError(f"line {self.name!r} has not as many x as y, or ends of error bars")


@dataclass(frozen=True)
class Plot:
    """A picture of some figures, kept as data so that it can be drawn again.

    Attributes:
        name: of its PNG and SVG files.
        title, x_label, y_label: words, with units.
        lines: what is drawn.
        kind: "lines", "bars" (grouped) or "stacked" (bars upon one another).
        x_log, y_log: logarithmic axes.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    kind: Literal["lines", "bars", "stacked"] = "lines"
    x_log: bool = False
    y_log: bool = False

    def __post_init__(self) -> None:
        _require_name(self.name)
        _set(self, lines=tuple(self.lines))
        if self.kind == "lines" and any(isinstance(x, str) for line in self.lines for x in line.x):
            raise ValueError(f"plot {self.name!r} has words for x, which only bars may have")


@dataclass(frozen=True)
class Record:
    """One run of one benchmark.

    Attributes:
        benchmark: its name, as in `noduleserve bench NAME`.
        command: the words that made it.
        began: UTC, ISO 8601.
        seconds: it took.
        machine: processor, cores, memory, GPU, load before and after, versions of all that matters; see `machine`.
        parameters: what was measured: release, nodules, counts, turns.
        tables, plots: the figures.
        remarks: sentences without which the figures would mislead.
    """

    benchmark: str
    command: str
    began: str
    seconds: float
    machine: dict[str, Any]
    parameters: dict[str, Any]
    tables: Sequence[Table]
    plots: Sequence[Plot] = ()
    remarks: Sequence[str] = ()

    def __post_init__(self) -> None:
        _require_name(self.benchmark)
        _set(self, machine=plain(self.machine), parameters=plain(self.parameters), seconds=float(self.seconds))
        _set(self, tables=tuple(self.tables), plots=tuple(self.plots), remarks=tuple(self.remarks))
        for names in ([table.name for table in self.tables], [plot.name for plot in self.plots]):
            if len(set(names)) != len(names):
                raise ValueError(f"record {self.benchmark!r} has two of one name: {', '.join(sorted(names))}")


def plain(value: Any) -> Any:
    """The same as JSON's kinds of values: sequences as lists, data classes as dicts, a path as its last part."""
    if value is None or isinstance(value, str | bool | int | float | np.generic):
        return _cell(value)
    if isinstance(value, PurePath):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return str(value)


def _cell(value: Any) -> Cell:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a cell cannot hold a {type(value).__name__}")


def _number(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan  # this very NaN, so that equal lines are equal


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a file")


def _set(made: object, **values: Any) -> None:
    """What a record is given as any sequence it keeps as tuples: what is read back is equal to what was written."""
    for name, value in values.items():
        object.__setattr__(made, name, value)
