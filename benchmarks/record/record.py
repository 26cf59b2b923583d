"""What a run of a benchmark found, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Cell = str | int | float | bool | None


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
        rows: as many cells each as there are columns; None where a figure does not exist.
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
        names = {*self.keys, *self.better, *(goal.column for goal in self.goals)}
        names |= {column for goal in self.goals for column in goal.row}
        if strange := sorted(names - set(self.columns)):
            raise ValueError(f"table {self.name!r} has no column {', '.join(strange)}")
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name!r} has a row that is not of {len(self.columns)} cells")


@dataclass(frozen=True)
class Line:
    """A line or a group of bars of a plot.

    Attributes:
        name: in the legend.
        x, y: as many of each; x may be words where the plot is of bars.
        low, high: ends of an error bar a point, or nothing.
    """

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


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
