"""The pictures of a record, drawn by matplotlib; the same plot gives the same bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .record import Line, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Any = {
    "svg.hashsalt": "noduleserve",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may have a dollar in it
    "font.family": "DejaVu Sans",  # which matplotlib brings
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
# Told apart by those who see no red and green, and in grey by the markers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a94a0")
_MARKERS = "osD^vP*X"
_LONG, _LONGEST = 12, 36  # letters: longer names of bars do not fit under them, or into one line beside them
_WIDTH, _HEIGHT, _DPI = 8.0, 4.5, 150


def draw(plot: Plot, folder: Path) -> list[Path]:
    """Write NAME.png and NAME.svg.

    Args:
        plot: what to draw.
        folder: there already.

    Returns:
        Both files.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = bar_names(plot)
    lying = plot.kind != "lines" and max(map(len, names), default=0) > _LONG
    bars = 1 if plot.kind == "stacked" else max(map(len, _groups(plot, names)), default=1)
    height = max(_HEIGHT, 1.5 + len(names) * (0.15 + 0.2 * bars)) if lying else _HEIGHT
    files = [folder / f"{plot.name}.png", folder / f"{plot.name}.svg"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, plot, names, lying)
        axes.set_title(plot.title, loc="left", fontsize=11, wrap=True)
        if len(plot.lines) > 1:
            figure.legend(loc="outside lower center", ncols=min(len(plot.lines), 3), frameon=False)
        # No date, no program: a picture's bytes depend on nothing but what it shows.
        figure.savefig(files[0], dpi=_DPI, metadata={"Software": None})
        figure.savefig(files[1], metadata={"Date": None, "Creator": None})
    return files


def bar_names(plot: Plot) -> list[str]:
    """The groups of bars, in the order in which the lines name them; [] for a plot of lines."""
    if plot.kind == "lines":
        return []
    return list(dict.fromkeys(_bar_name(x) for line in plot.lines for x in line.x))


def _groups(plot: Plot, names: Sequence[str]) -> list[list[int]]:
    """Numbers of the lines that have a bar in each group."""
    return [[n for n, line in enumerate(plot.lines) if name in map(_bar_name, line.x)] for name in names]


def _draw(axes: Axes, plot: Plot, names: Sequence[str], lying: bool) -> None:
    if plot.kind == "lines":
        _draw_lines(axes, plot.lines)
    else:
        _draw_bars(axes, plot, names, lying)
    words, figures = ("y", "x") if lying else ("x", "y")
    getattr(axes, f"set_{words}label")(plot.x_label)
    getattr(axes, f"set_{figures}label")(plot.y_label)
    if plot.x_log and plot.kind == "lines" and _has_positive(x for line in plot.lines for x in line.x):
        _scale_log(axes, "x")
    if plot.y_log and _has_positive(y for line in plot.lines for y in line.y):
        _scale_log(axes, figures)
    elif all(value >= 0 for line in plot.lines for value in (*line.y, *line.low) if math.isfinite(value)):
        getattr(axes, f"set_{figures}lim")(**{"left" if lying else "bottom": 0})  # a cut axis exaggerates
    (axes if plot.kind == "lines" else axes.xaxis if lying else axes.yaxis).grid(linewidth=0.3)


def _has_positive(values: Iterable[str | float]) -> bool:
    """Whether there is anything that a logarithmic axis can show."""
    return any(not isinstance(value, str) and value > 0 for value in values)


def _scale_log(axes: Axes, which: str) -> None:
    """A logarithmic axis whose ticks are plain numbers: 1, 2, 5, 10 and so on."""
    from matplotlib.ticker import LogLocator, NullLocator

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    for line, colour, marker in zip(lines, cycle(_COLOURS), cycle(_MARKERS)):
        many = len(line.x) > 60
        axes.errorbar(
            [float(x) for x in line.x], list(line.y), yerr=_errors(line), label=line.name, color=colour,
            marker="" if many else marker, markersize=4.5, linewidth=1.5, capsize=3, elinewidth=1,
        )  # fmt: skip


def _draw_bars(axes: Axes, plot: Plot, names: Sequence[str], lying: bool) -> None:
    """Groups side by side, or upon one another; from top to bottom where the names are long."""
    stacked = plot.kind == "stacked"
    groups = _groups(plot, names)
    thick = 0.8 if stacked else 0.8 / max(map(len, groups), default=1)
    under = [0.0] * len(names)
    for number, (line, colour) in enumerate(zip(plot.lines, cycle(_COLOURS))):
        places = [names.index(_bar_name(x)) for x in line.x]
        # A group has room for the lines that are in it, and no others.
        shifts = [groups[place].index(number) - (len(groups[place]) - 1) / 2 for place in places]
        at = places if stacked else [place + shift * thick for place, shift in zip(places, shifts, strict=True)]
        error = {"xerr" if lying else "yerr": _errors(line)}
        style: Any = {"label": line.name, "color": colour, "capsize": 3, "error_kw": {"elinewidth": 1}, **error}
        if lying:
            axes.barh(at, list(line.y), thick, left=[under[p] for p in places], **style)
        else:
            axes.bar(at, list(line.y), thick, bottom=[under[p] for p in places], **style)
        if stacked:
            for place, value in zip(places, line.y, strict=True):
                under[place] += value if math.isfinite(value) else 0.0
    if lying:
        axes.set_yticks(range(len(names)), [textwrap.fill(name, _LONGEST) for name in names])
        axes.invert_yaxis()
    else:
        axes.set_xticks(range(len(names)), names)


def _errors(line: Line) -> list[list[float]] | None:
    """Lengths of the error bars below and above."""
    if not line.low and not line.high:
        return None
    below = [max(y - low, 0.0) for y, low in zip(line.y, line.low or line.y, strict=True)]
    above = [max(high - y, 0.0) for y, high in zip(line.y, line.high or line.y, strict=True)]
    return [below, above]


def _bar_name(x: str | float) -> str:
    return x if isinstance(x, str) else f"{x:g}"
