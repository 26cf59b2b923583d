"""What calls come to: percentiles with how many calls they rest on, rate, errors, and how late the generator was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .call import OVERLOADED, Call

LATE_SHARE = 0.1  # of the median latency, past which the generator's own lateness (p99) spoils the figures
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Percentile:
    """A percentile of latencies.

    The p-th percentile of n calls is by nearest rank: the smallest latency that at least p% of the calls do not exceed,
    which is the ceil(p/100 n)-th in order; nothing is interpolated.  A call without an answer ranks behind every
    answered one, so that an error never makes a percentile better.

    The interval is by order statistics: the closest two latencies in order that enclose the true percentile with at
    least 95% probability, by the binomial distribution, whatever the latencies' own distribution is.  It takes calls as
    independent; calls of one burst are not, so that it is rather too short than too long.

    Attributes:
        percent: 0 to 100.
        calls: that it rests on.
        seconds: None where too few calls lie beyond it, or where it falls on calls without an answer.
        low, high: seconds; None where that bound lies beyond what was measured.
    """

    percent: float
    calls: int
    seconds: float | None = None
    low: float | None = None
    high: float | None = None


def calls_needed(percent: float) -> int:
    """Calls of which one at least lies beyond a percentile: 2 for p50, 10 for p90, 20 for p95, 100 for p99."""
    return math.ceil(round(100 / (100 - percent), 6))


@dataclass(frozen=True)
class LoadFigures:
    """What calls come to; latencies in seconds, counted from when a call was to be sent.

    Attributes:
        calls: sent.
        answered: of them.
        errors: code -> calls without an answer.
        wall: seconds from when the first call was to be sent to the last answer.
        p50, p90, p95, p99: of all calls.
        max: of those answered; None where none was.
        failed_p50, failed_max: seconds until an error came; None where none did.
        lateness_p50, lateness_p99: of the generator itself; p99 is the largest where there are under 100 calls.
    """

    calls: int
    answered: int
    errors: dict[str, int]
    wall: float
    p50: Percentile
    p90: Percentile
    p95: Percentile
    p99: Percentile
    max: float | None
    failed_p50: float | None
    failed_max: float | None
    lateness_p50: float
    lateness_p99: float
    latencies: NDArray[np.float64] = field(repr=False, compare=False, default_factory=lambda: np.zeros(0))

    @property
    def rate(self) -> float:
        """Answered calls a second of wall time."""
        return self.answered / self.wall if self.wall > 0 else 0.0

    @property
    def failed(self) -> int:
        """Calls without an answer."""
        return self.calls - self.answered

    @property
    def overloaded(self) -> bool:
        """Whether the run was ended since too many calls were waiting."""
        return OVERLOADED in self.errors

    @property
    def starved(self) -> bool:
        """Whether the generator was so late that its lateness, not the server, makes the figures."""
        return self.p50.seconds is not None and self.lateness_p99 > LATE_SHARE * self.p50.seconds

    def percentile(self, percent: float) -> Percentile:
        """Any percentile, as p50 and the others are."""
        return percentile_of(self.latencies, self.calls, percent)


def figures_of(calls: Sequence[Call]) -> LoadFigures:
    """What the calls of one run come to."""
    return figures_of_turns([calls])


def figures_of_turns(turns: Sequence[Sequence[Call]]) -> LoadFigures:
    """What the calls of several runs come to: latencies together, the wall time being the sum of theirs."""
    calls = [call for turn in turns for call in turn]
    answered = np.sort([call.latency for call in calls if not call.error])
    failed = np.sort([call.latency for call in calls if call.error])
    lateness = np.sort([call.lateness for call in calls])
    p50, p90, p95, p99 = (percentile_of(answered, len(calls), percent) for percent in (50, 90, 95, 99))
    return LoadFigures(
        calls=len(calls),
        answered=len(answered),
        errors=dict(sorted(Counter(call.error for call in calls if call.error).items())),
        wall=sum(_wall(turn) for turn in turns),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(answered[-1]) if len(answered) else None,
        failed_p50=_ranked(failed, 50) if len(failed) else None,
        failed_max=float(failed[-1]) if len(failed) else None,
        lateness_p50=_ranked(lateness, 50) if calls else 0.0,
        lateness_p99=_ranked(lateness, 99) if calls else 0.0,
        latencies=answered,
    )


def percentile_of(ordered: NDArray[np.float64], calls: int, percent: float) -> Percentile:
    """A percentile with its interval; see Percentile.

    Args:
        ordered: latencies of the answered calls, ascending, seconds.
        calls: answered or not.
        percent: 0 to 100.
    """
    if calls < calls_needed(percent) or rank(calls, percent) > len(ordered):
        return Percentile(percent, calls)
    low, high = rank_interval(calls, percent)
    return Percentile(
        percent,
        calls,
        _ranked(ordered, percent, calls),
        float(ordered[low - 1]) if low else None,
        float(ordered[high - 1]) if high and high <= len(ordered) else None,
    )


def rank(calls: int, percent: float) -> int:
    """Of a percentile by nearest rank, counted from 1."""
    return max(1, math.ceil(round(percent / 100 * calls, 6)))  # round: 0.95 * 20 is a hair above 19


def rank_interval(calls: int, percent: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Ranks, counted from 1, of the latencies that enclose the true percentile; None where no rank does.

    The number of calls below the true percentile is binomial.
    """
    share, beside = percent / 100, (1 - confidence) / 2
    below = np.cumsum(np.exp(_binomial_logs(calls, share)))  # [k]: at most k of the calls lie below
    low = int(np.searchsorted(below, beside, side="right"))  # largest rank with P(fewer than rank below) <= beside
    high = int(np.searchsorted(below, 1 - beside, side="left")) + 1
    return (low or None), (high if high <= calls else None)


def _binomial_logs(n: int, p: float) -> NDArray[np.float64]:
    """Logarithms of the binomial probabilities of 0..n."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    return factorials[n] - factorials[k] - factorials[n - k] + k * math.log(p) + (n - k) * math.log1p(-p)


def _ranked(ordered: NDArray[np.float64], percent: float, calls: int | None = None) -> float:
    return float(ordered[rank(len(ordered) if calls is None else calls, percent) - 1])


def _wall(calls: Sequence[Call]) -> float:
    """Seconds from when the first call was to be sent to the last answer, or to the last error where none came."""
    if not calls:
        return 0.0
    ends = [call.answered for call in calls if not call.error] or [call.answered for call in calls]
    return max(ends) - min(call.intended for call in calls)
