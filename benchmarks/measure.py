"""Timing two ways of doing the same thing, turn by turn, so that a busy machine slows both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


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
    ours[1]()
    baseline[1]()
    pairs = [(seconds(ours[1]), seconds(baseline[1])) for _ in range(turns)]
    ratios = [theirs / mine for mine, theirs in pairs]
    return Ratio(
        name,
        ours[0],
        baseline[0],
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        (min(ratios), max(ratios)),
        goal,
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(ratios: Sequence[Ratio]) -> str:
    """The ratios as a Markdown table."""
    lines = [
        "| what | ours | baseline | ratio (lowest..highest) | goal |",
        "|---|---|---|---|---|",
    ]
    for r in ratios:
        low, high = r.spread
        lines.append(
            f"| {r.name} | {r.ours}: {_time(r.ours_s)} | {r.baseline}: {_time(r.baseline_s)} "
            f"| {r.ratio:.3g} ({low:.3g}..{high:.3g}) | {r.goal:g} {'met' if r.ratio >= r.goal else 'MISSED'} |"
        )
    return "\n".join(lines)


def _time(value: float) -> str:
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"
