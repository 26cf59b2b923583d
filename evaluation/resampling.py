"""Intervals by bootstrap: patients are drawn with replacement, each with all nodules of theirs.

Nodules of one patient are alike; drawn one by one they would make an interval look narrower than it is.

A resample is a weight for each nodule (how often its patient was drawn), and a statistic is computed for a whole block
of resamples at once, since thousands of calls of a library for each interval would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .figures import Estimate

FEWEST_OF_A_CLASS = 10  # with fewer positives or negatives, an interval by resampling would not be worth its name
MOST_UNDEFINED = 0.05  # share of resamples in which the statistic may be undefined
_BLOCK = 2_000_000  # weights at once: 16 MB an array
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        number: of resamples; 0: no intervals.
        seed: of the random numbers.
        confidence: share of the resamples that an interval holds, the same cut off on either side.
    """

    number: int = 2000
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True, eq=False)
class Cases:
    """Scored nodules with their labels.

    Attributes:
        scores: float64 [N]; higher speaks for positive.
        labels: 1 positive, 0 negative, int64 [N].
        patients: whose nodule it is, any text, [N].
        failed: the nodule has no score, and `scores` holds a stand-in, bool [N].
    """

    scores: _Floats
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    failed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, which: NDArray[np.bool_]) -> Cases:
        """Some of them; `which` is bool [N]."""
        return Cases(self.scores[which], self.labels[which], self.patients[which], self.failed[which])

    @property
    def positives(self) -> int:
        """How many are positive."""
        return int(self.labels.sum())

    @property
    def negatives(self) -> int:
        """How many are negative."""
        return len(self) - self.positives


@dataclass(frozen=True, eq=False)
class Resamples:
    """A block of resamples of the same nodules.

    Attributes:
        scores, labels: as in Cases, [N].
        weights: how often each nodule is in each resample, float64 [B, N].
    """

    scores: _Floats
    labels: NDArray[np.int64]
    weights: _Floats

    @cached_property
    def curves(self) -> Curves:
        """How many are called at every threshold, in each resample."""
        order = np.argsort(-self.scores, kind="stable")
        scores, labels, weights = self.scores[order], self.labels[order], self.weights[:, order]
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of the nodules that share a score
        true = np.cumsum(weights * labels, axis=1)[:, last]
        false = np.cumsum(weights * (1 - labels), axis=1)[:, last]
        return Curves(scores[last], np.pad(true, ((0, 0), (1, 0))), np.pad(false, ((0, 0), (1, 0))))


@dataclass(frozen=True, eq=False)
class Curves:
    """What is called at each threshold, for B resamples.

    Attributes:
        thresholds: the distinct scores in descending order, [T].
        true: weight of the positives at or above the threshold; the first column is above every score, [B, T + 1].
        false: the same of the negatives.
    """

    thresholds: _Floats
    true: _Floats
    false: _Floats

    @property
    def positives(self) -> _Floats:
        """Weight of all positives, [B]."""
        return self.true[:, -1]

    @property
    def negatives(self) -> _Floats:
        """Weight of all negatives, [B]."""
        return self.false[:, -1]


Statistic = Callable[[Resamples], _Floats]  # one number for each resample, NaN where it is undefined


def blocks(cases: Cases, resampling: Resampling) -> Iterator[Resamples]:
    """All resamples, a block at a time; the same for the same patients and seed."""
    patients, whose = np.unique(cases.patients, return_inverse=True)
    rng = np.random.default_rng(resampling.seed)
    step = max(1, _BLOCK // max(len(cases), 1))
    for begin in range(0, resampling.number, step):
        many = min(step, resampling.number - begin)
        drawn = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=many)
        yield Resamples(cases.scores, cases.labels, drawn[:, whose].astype(np.float64))


def estimates(
    cases: Cases, points: Mapping[str, float | None], statistics: Mapping[str, Statistic], resampling: Resampling
) -> dict[str, Estimate]:
    """Give each point its interval.

    Args:
        cases: what the points were computed from; both classes among them.
        points: name -> the number for all cases, or None where there is none.
        statistics: name -> how it is computed for resamples; the names of `points`.
        resampling: how many, and from which seed.
    """
    if why := _no_interval(cases, resampling):
        return {name: Estimate(value, reason=why) for name, value in points.items()}
    drawn: dict[str, list[_Floats]] = {name: [] for name in statistics}
    for block in blocks(cases, resampling):
        # A resample with one class has no statistic that compares two: it is left out of all of them.
        usable = (block.weights @ block.labels > 0) & (block.weights @ (1 - block.labels) > 0)
        for name, statistic in statistics.items():
            drawn[name].append(np.where(usable, statistic(block), np.nan))
    return {
        name: _interval(value, np.concatenate(drawn[name]), resampling.confidence) for name, value in points.items()
    }


def _no_interval(cases: Cases, resampling: Resampling) -> str:
    if resampling.number == 0:
        return "No interval: no resampling was asked for."
    if min(cases.positives, cases.negatives) < FEWEST_OF_A_CLASS:
        return f"No interval: fewer than {FEWEST_OF_A_CLASS} positives or negatives."
    return ""


def _interval(value: float | None, drawn: _Floats, confidence: float) -> Estimate:
    if value is None:
        return Estimate(None)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(drawn):
        share = 1 - len(defined) / len(drawn)
        return Estimate(value, reason=f"No interval: it is undefined in {share:.0%} of the resamples.")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    if np.ptp(defined) < 1e-12:
        return Estimate(value, reason="No interval: it is the same in every resample.")
    return Estimate(value, float(low), float(high))
