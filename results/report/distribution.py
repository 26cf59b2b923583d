"""How scores are distributed, and how far the distribution of one night lies from that of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .text import plural

LEVELS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)  # of the table of quantiles
BINS = 20  # of the histogram
LEAST = 100  # nodules of each night that a comparison needs
MODERATE, LARGE = 0.1, 0.25  # conventions of the PSI, see `stability_index`
_DECILES = np.arange(1, 10) / 10
_Z95 = 1.6448536269514722


@dataclass(frozen=True)
class Scores:
    """What a comparison needs to know of a night.

    Attributes:
        values: malignancy of each nodule that has one, [n], 0..1.
        releases: ids of the releases that gave them.
        calibrated: whether they are calibrated probabilities; None where some are and some are not.
    """

    values: NDArray[np.float64]
    releases: tuple[str, ...]
    calibrated: bool | None


@dataclass(frozen=True)
class Bin:
    """A part of the reference's distribution, a tenth of it unless scores are tied.

    Attributes:
        low, high: scores above `low` and up to `high`; infinite at the ends.
        reference, tonight: the shares that lie there.
    """

    low: float
    high: float
    reference: float
    tonight: float


@dataclass(frozen=True)
class Shift:
    """How tonight's scores lie against a reference night's.

    Attributes:
        index: the PSI; NaN where it is refused.
        chance: what it stays below in 95 of 100 nights of these sizes that do not differ at all; NaN where refused.
        bins: what it is the sum of; none where refused.
        refused: why there is no PSI; none where there is one.
        flags: what to know before it is believed.
    """

    index: float
    chance: float
    bins: tuple[Bin, ...]
    refused: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """What convention calls it."""
        if self.index < MODERATE:
            return "no notable shift"
        return "moderate shift" if self.index < LARGE else "large shift"


def histogram(values: ArrayLike, bins: int = BINS) -> NDArray[np.float64]:
    """Shares of the values in equal bins of 0..1, [bins]; what lies on an edge counts above it, 1 in the last."""
    values = np.asarray(values, float)
    counts = np.histogram(values, bins, (0.0, 1.0))[0]
    return counts / max(len(values), 1)


def quantiles(values: ArrayLike, levels: Sequence[float] = LEVELS) -> list[float]:
    """Quantiles with linear interpolation between neighbours; NaN where there are no values."""
    values = np.asarray(values, float)
    return [math.nan] * len(levels) if not values.size else np.quantile(values, levels).tolist()


def stability_index(reference: ArrayLike, tonight: ArrayLike) -> tuple[float, tuple[Bin, ...]]:
    """The population stability index (PSI) of tonight's scores, over the deciles of the reference.

    The sum over bins of (t - r) ln(t / r), r and t being the shares of the two samples in a bin: N. Siddiqi, Credit
    Risk Scorecards, Wiley 2006, where below 0.1 is called no shift and above 0.25 a large one. It is the symmetric
    Kullback-Leibler divergence of H. Jeffreys. A bin counts half a nodule more than it holds, in both samples, so that
    an empty one gives a finite number. Where so many scores are tied that deciles coincide, they are one edge.

    Args:
        reference: scores, [m], m > 0.
        tonight: scores, [n].
    """
    reference, tonight = np.asarray(reference, float), np.asarray(tonight, float)
    edges = np.unique(np.quantile(reference, _DECILES))
    r, t = (_shares(values, edges) for values in (reference, tonight))
    ends = [-math.inf, *edges.tolist(), math.inf]
    bins = tuple(map(Bin, ends[:-1], ends[1:], r.tolist(), t.tolist()))
    return float(((t - r) * np.log(t / r)).sum()), bins


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return (counts + 0.5) / (len(values) + 0.5 * len(counts))


def chance_level(m: int, n: int, bins: int) -> float:
    """What the PSI of two samples of one distribution stays below in 95 of 100 cases.

    It is then about (1/m + 1/n) times chi-square with bins - 1 degrees of freedom (B. Yurdakul, Statistical Properties
    of Population Stability Index, Western Michigan University 2018); the quantile is Wilson and Hilferty's of 1931.
    """
    if bins < 2:
        return 0.0
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    return (1 / m + 1 / n) * freedom * (1 - spread + _Z95 * math.sqrt(spread)) ** 3


def compare(reference: Scores, tonight: Scores) -> Shift:
    """The shift from a reference night to tonight, or why none can be given."""
    refused = [*_too_few("The reference night", reference), *_too_few("Tonight", tonight)]
    for name, scores in (("The reference night", reference), ("Tonight", tonight)):
        if len(scores.releases) > 1:
            refused.append(f"{name} has scores of {len(scores.releases)} releases mixed.")
    if reference.calibrated is None or reference.calibrated != tonight.calibrated:
        refused.append("The scores are not on one scale: calibrated and raw ones differ for the same nodule.")
    if refused:
        return Shift(math.nan, math.nan, (), tuple(refused))
    flags = []
    if reference.releases != tonight.releases:
        flags.append(
            f"The releases differ ({reference.releases[0]} then, {tonight.releases[0]} tonight): "
            "a shift may be the release's and not the patients'."
        )
    index, bins = stability_index(reference.values, tonight.values)
    if len(bins) < len(_DECILES) + 1:
        flags.append(f"Many of the reference's scores are tied, so that only {len(bins)} bins are left of ten.")
    return Shift(index, chance_level(len(reference.values), len(tonight.values), len(bins)), bins, (), tuple(flags))


def _too_few(name: str, scores: Scores) -> list[str]:
    n = len(scores.values)
    return [] if n >= LEAST else [f"{name} has {plural(n, 'score')}; below {LEAST} the index is mostly chance."]
