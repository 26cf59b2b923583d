"""The highest rate of Poisson arrivals at which a percentile of the latencies stays under a bound, without an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .figures import LoadFigures, calls_needed

Measure = Callable[[float, int], Awaitable[LoadFigures]]  # rate per second, which arrival pattern -> figures

_MOST_DOUBLINGS = 8  # away from the rate at which the search begins
_REPEATS_FROM = 1  # patterns of the repetitions; the search itself uses pattern 0


@dataclass(frozen=True)
class Bound:
    """What a rate must keep.

    Attributes:
        percent: of the latencies, 0 to 100.
        seconds: that the percentile may be at most.
    """

    percent: float
    seconds: float

    @property
    def calls(self) -> int:
        """Fewest calls of a step."""
        return calls_needed(self.percent)

    def kept(self, figures: LoadFigures) -> bool:
        """Whether a run kept it: the percentile is there and within, and every call was answered."""
        value = figures.percentile(self.percent).seconds
        return not figures.errors and value is not None and value <= self.seconds


@dataclass(frozen=True)
class Step:
    """One rate that was tried.

    Attributes:
        rate: of the arrivals, per second.
        pattern: of the arrivals; 0 in the search, others in repetitions.
        figures: what came of it.
        kept: whether the bound was.
    """

    rate: float
    pattern: int
    figures: LoadFigures
    kept: bool


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        bound: that had to be kept.
        rate: the highest that kept it, with every repetition; None where none did.
        above: the lowest tried rate over it that did not keep it; None where every rate did.
        steps: everything that was tried, in its order.
    """

    bound: Bound
    rate: float | None
    above: float | None
    steps: list[Step] = field(default_factory=list)

    @property
    def at_rate(self) -> LoadFigures | None:
        """Figures of the last run at the rate that was found."""
        return next((step.figures for step in reversed(self.steps) if step.rate == self.rate), None)


async def highest_rate(
    measure: Measure, bound: Bound, start: float, *, resolution: float = 1.05, repeats: int = 2
) -> Search:
    """Find the highest rate that keeps a bound.

    From `start` the rate is doubled or halved until it lies between one that keeps the bound and one that does not,
    and then that bracket is halved (on a logarithmic scale).  All of this uses one pattern of arrivals, only scaled, so
    that two rates differ in nothing else.  The highest rate that kept the bound is then repeated with other patterns;
    where one of them breaks it, the next lower one that was tried is repeated instead.

    Args:
        measure: a run at a rate; the same pattern number must give the same arrivals, scaled.  At least `bound.calls`
            calls each.
        bound: to keep.
        start: rate per second at which to begin.
        resolution: ratio of the bracket's ends at which it is narrow enough.
        repeats: how often the rate that was found must keep the bound again.
    """
    trial = _Trial(measure, bound)
    low, high = await _bracket(trial, start)
    while low and high and high / low > resolution:
        middle = (low * high) ** 0.5
        if await trial.kept(middle, 0):
            low = middle
        else:
            high = middle
    for rate in sorted({step.rate for step in trial.steps if step.kept}, reverse=True):
        if await _repeated(trial, rate, repeats):
            return Search(bound, rate, high, trial.steps)
        high = rate
    return Search(bound, None, high, trial.steps)


async def _bracket(trial: _Trial, start: float) -> tuple[float | None, float | None]:
    """Two rates a factor 2 apart of which the lower keeps the bound; None for an end that was not met."""
    kept = await trial.kept(start, 0)
    rate = start
    for _ in range(_MOST_DOUBLINGS):
        other = rate * 2 if kept else rate / 2
        if await trial.kept(other, 0) != kept:
            return min(rate, other), max(rate, other)
        rate = other
    return (rate, None) if kept else (None, rate)


async def _repeated(trial: _Trial, rate: float, repeats: int) -> bool:
    for pattern in range(_REPEATS_FROM, _REPEATS_FROM + repeats):
        if not await trial.kept(rate, pattern):
            return False
    return True


class _Trial:
    """Runs a measure and keeps what it gave."""

    def __init__(self, measure: Measure, bound: Bound) -> None:
        self._measure, self._bound = measure, bound
        self.steps: list[Step] = []

    async def kept(self, rate: float, pattern: int) -> bool:
        figures = await self._measure(rate, pattern)
        kept = self._bound.kept(figures)
        self.steps.append(Step(rate, pattern, figures, kept))
        return kept
