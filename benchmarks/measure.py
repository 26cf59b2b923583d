"""Timing several ways of doing the same thing, turn by turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .record.record import Goal, Line, Plot, Table

Way = TypeVar("Way")


@dataclass(frozen=True)
class Ratio:
    """What a comparison found.

    Attributes:
        name: what is done.
        ours, baseline: what the two ways are called.
        ours_s, baseline_s: median seconds of each.
        spread: lowest and highest ratio of any turn.
        goal: the ratio that is wanted, at least.
    """

    name: str
    ours: str
    baseline: str
    ours_s: float
    baseline_s: float
    spread: tuple[float, float]
    goal: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.baseline_s / self.ours_s


def compare(
    name: str,
    ours: tuple[str, Callable[[], object]],
    baseline: tuple[str, Callable[[], object]],
    goal: float,
    turns: int,
) -> Ratio:
    """Run both once to warm up, then in turns; each turn gives one ratio."""
    times = interleaved({"ours": ours[1], "baseline": baseline[1]}, turns)
    return ratio(name, (ours[0], baseline[0]), list(zip(times["ours"], times["baseline"], strict=True)), goal)


def ratio(name: str, called: tuple[str, str], pairs: Sequence[tuple[float, float]], goal: float) -> Ratio:
    """What turns of one way and of its baseline come to.

    Args:
        name: what is done.
        called: our way, the baseline.
        pairs: seconds of each in every turn.
        goal: the ratio that is wanted, at least.
    """
    ratios = [theirs / mine for mine, theirs in pairs]
    ours_s, baseline_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Ratio(name, *called, ours_s, baseline_s, (min(ratios), max(ratios)), goal)


def interleaved(ways: Mapping[Way, Callable[[], object]], turns: int) -> dict[Way, list[float]]:
    """Run every way once to warm up, then all of them in each turn.

    Returns:
        Seconds of each way in every turn.
    """
    for work in ways.values():
        work()
    times: dict[Way, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, work in ways.items():
            times[way].append(seconds(work))
    return times


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(ratios: Sequence[Ratio]) -> str:
    """The ratios as a Markdown table."""
    rows = [
        (
            r.name,
            f"{r.ours}: {shown(r.ours_s)}",
            f"{r.baseline}: {shown(r.baseline_s)}",
            f"{r.ratio:.3g} ({r.spread[0]:.3g}..{r.spread[1]:.3g})",
            f"{r.goal:g} {'met' if r.ratio >= r.goal else 'MISSED'}",
        )
        for r in ratios
    ]
    return markdown(("what", "ours", "baseline", "ratio (lowest..highest)", "goal"), rows)


def ratios_table(ratios: Sequence[Ratio], name: str = "ratios", title: str = "Against the baseline") -> Table:
    """The ratios for a record; a goal for each."""
    columns = ("what", "ours", "ours_ms", "baseline", "baseline_ms", "ratio", "ratio_lowest", "ratio_highest")
    rows = [(r.name, r.ours, r.ours_s * 1e3, r.baseline, r.baseline_s * 1e3, r.ratio, *r.spread) for r in ratios]
    # Milliseconds are the machine's as much as the code's: only the ratio is better or worse.
    return Table(
        name=name,
        title=title,
        columns=columns,
        rows=rows,
        keys=("what",),
        better={"ratio": "higher"},
        goals=tuple(Goal("ratio", at_least=r.goal, row={"what": r.name}) for r in ratios),
    )


def ratios_plot(ratios: Sequence[Ratio], name: str = "ratios", title: str = "Against the baseline") -> Plot:
    """The ratios as bars, with the lowest and the highest of any turn."""
    low, high = zip(*(r.spread for r in ratios), strict=True) if ratios else ((), ())
    line = Line("ratio", [r.name for r in ratios], [r.ratio for r in ratios], low, high)
    return Plot(name, title, "", "times faster (lowest to highest of a turn)", [line], kind="bars")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def shown(value: float) -> str:
    """Seconds as a reader wants them."""
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"
