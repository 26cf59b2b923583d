"""Settings against the release's own: loads in turns on two servers that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..load.call import Call
from ..load.figures import LoadFigures, figures_of, figures_of_turns
from ..load.generator import closed_loop
from ..rivals.base import Case, Rival

Goal = Literal["throughput", "latency"]
TOLERANCE = 1e-6  # of a fold's probability
_LARGEST = 1e-4  # that a release's own answers about one nodule may differ by


@dataclass(frozen=True)
class Load:
    """What a server is measured under.

    Attributes:
        goal: "throughput" (nodules a second) or "latency" (one over the median seconds of a nodule).
        concurrency: callers of the closed loop.
        calls: of one block.
        deadline: seconds for an answer.
    """

    goal: Goal
    concurrency: int
    calls: int
    deadline: float


class Scores:
    """The release's own answers, and how far others are from them.

    Attributes:
        own: most that two of the release's own answers about one nodule differ by.
    """

    def __init__(self) -> None:
        self.own = 0.0
        self._first: dict[str, NDArray[np.float64]] = {}

    def learn(self, calls: Sequence[Call]) -> None:
        """Take answers of the release's own settings."""
        for call in calls:
            if call.raw is not None:
                first = self._first.setdefault(call.case, call.raw)
                self.own = max(self.own, float(np.abs(call.raw - first).max()))

    def difference(self, calls: Sequence[Call]) -> float:
        """Most that answers differ from the release's own; infinite where there is none to compare."""
        answered = [call for call in calls if call.raw is not None]
        if not answered:
            return float("inf")
        return max(self._distance(call) for call in answered)

    @property
    def tolerance(self) -> float:
        """What may differ: a millionth, or what the release's own answers differ by, as batches on a GPU do.

        Where these differ by more than batches explain, nothing is made better by it.
        """
        return self.own if TOLERANCE < self.own <= _LARGEST else TOLERANCE

    def _distance(self, call: Call) -> float:
        first = self._first.get(call.case)
        if first is None or call.raw is None or call.raw.shape != first.shape:
            return float("inf")
        distance = float(np.abs(call.raw - first).max())
        return distance if np.isfinite(distance) else float("inf")


@dataclass(frozen=True)
class Duel:
    """What turns came to.

    Attributes:
        ratios: how many times better the settings were than the release's own, turn by turn.
        own_ratios: the release's own against itself in the same turns; empty where it was measured once a turn.
        figures, own_figures: of all turns.
        difference: of scores from the release's own, the most.
        tolerance: what they may differ by.
    """

    ratios: tuple[float, ...]
    own_ratios: tuple[float, ...]
    figures: LoadFigures
    own_figures: LoadFigures
    difference: float
    tolerance: float

    @property
    def ratio(self) -> float:
        """The median."""
        return median(self.ratios)

    @property
    def counts(self) -> bool:
        """Whether every call of both was answered, and the scores are the release's."""
        return not self.figures.failed and not self.own_figures.failed and self.difference <= self.tolerance

    @property
    def better(self) -> bool:
        """Whether every turn was won by more than the release's own differs from itself."""
        chance = max(1.0, *(max(ratio, 1 / ratio) for ratio in self.own_ratios))
        return self.counts and min(self.ratios) > chance


async def duel(own: Rival, other: Rival, cases: Sequence[Case], load: Load, turns: int, scores: Scores) -> Duel:
    """Own, other, own, other ..., so that a machine that slows down slows both."""
    mine, theirs = [], []
    for _ in range(turns):
        mine.append(await block(own, cases, load))
        theirs.append(await block(other, cases, load))
    ratios = [_ratio(t, m, load) for t, m in zip(theirs, mine, strict=True)]
    return _found(ratios, [], theirs, mine, scores)


async def confirmation(own: Rival, other: Rival, cases: Sequence[Case], load: Load, turns: int, scores: Scores) -> Duel:
    """Own, other, own in every turn: the two of the release's own say how far apart two runs of one server are."""
    first, theirs, last = [], [], []
    for _ in range(turns):
        first.append(await block(own, cases, load))
        theirs.append(await block(other, cases, load))
        last.append(await block(own, cases, load))
    around = list(zip(first, last, strict=True))
    ratios = [
        _worth(other_calls, load) / ((_worth(before, load) + _worth(after, load)) / 2 or float("inf"))
        for other_calls, (before, after) in zip(theirs, around, strict=True)
    ]
    own_ratios = [_ratio(after, before, load) for before, after in around]
    return _found(ratios, own_ratios, theirs, first + last, scores)


async def block(rival: Rival, cases: Sequence[Case], load: Load) -> list[Call]:
    """One load on one server."""
    return await closed_loop(rival, cases, load.concurrency, load.calls, load.deadline)


def _found(
    ratios: list[float], own_ratios: list[float], theirs: list[list[Call]], mine: list[list[Call]], scores: Scores
) -> Duel:
    for calls in mine:
        scores.learn(calls)
    difference = max(scores.difference(calls) for calls in theirs)
    figures, own = figures_of_turns(theirs), figures_of_turns(mine)
    return Duel(tuple(ratios), tuple(own_ratios), figures, own, difference, scores.tolerance)


def _ratio(calls: Sequence[Call], baseline: Sequence[Call], load: Load) -> float:
    return _worth(calls, load) / (_worth(baseline, load) or float("inf"))


def _worth(calls: Sequence[Call], load: Load) -> float:
    """More is better; nothing answered is worth nothing."""
    figures = figures_of(calls)
    if load.goal == "throughput":
        return figures.rate
    return 1 / float(np.median(figures.latencies)) if figures.answered else 0.0
