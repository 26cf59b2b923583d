"""Whether scores can be read as probabilities: reliability bins, expected calibration error, intercept and slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .figures import Binning, Calibration, CalibrationBin, Estimate
from .resampling import Cases, Resamples, Resampling, Statistic, estimates

CLIP = 1e-6  # a score nearer to 0 or 1 than this is moved to it, since 0 and 1 have no logit
_SIMULATED = 500  # outcomes drawn to see what ECE scores without error would show
_STEPS, _HALVINGS, _SLACK, _DONE = 60, 30, 1e-12, 1e-8  # of Newton's method
_STEEPEST = 1e3  # a slope beyond this is on its way to infinity
_Floats = NDArray[np.float64]


def calibration(cases: Cases, bins: int, resampling: Resampling) -> Calibration:
    """Calibration of scored nodules, none of which failed.

    Args:
        cases: at least one; scores 0..1.
        bins: how many the scores are cut into, equally wide and equally filled.
        resampling: for the intervals of intercept and slope.
    """
    intercept, slope = _intercept_and_slope(cases, resampling)
    return Calibration(
        nodules=len(cases),
        mean_score=float(cases.scores.mean()),
        prevalence=float(cases.labels.mean()),
        intercept=intercept,
        slope=slope,
        clipped=int(np.sum((cases.scores < CLIP) | (cases.scores > 1 - CLIP))),
        binnings=(
            binning("equal width", equal_width_edges(bins), cases, resampling.seed),
            binning("equal mass", equal_mass_edges(cases.scores, bins), cases, resampling.seed),
        ),
    )


def equal_width_edges(bins: int) -> _Floats:
    """Edges of equally wide bins from 0 to 1, [bins + 1]."""
    return np.arange(bins + 1) / bins


def equal_mass_edges(scores: _Floats, bins: int) -> _Floats:
    """Edges of bins that hold equally many scores; equal scores stay together, so bins may be fewer.

    Returns:
        The lowest score of each bin, and the highest score of all, [at most bins + 1].
    """
    ordered = np.sort(scores)
    firsts = ordered[np.arange(bins) * len(ordered) // bins]
    return np.append(np.unique(firsts), ordered[-1])


def binning(kind: str, edges: _Floats, cases: Cases, seed: int) -> Binning:
    """Sort the cases into bins.

    Args:
        kind: "equal width" or "equal mass".
        edges: ascending, [K + 1]; a bin runs from its edge to below the next, the last one holds its upper edge.
        cases: scores between the first and the last edge.
        seed: of the outcomes that are drawn for `ece_if_calibrated`.
    """
    place = np.clip(np.searchsorted(edges, cases.scores, side="right") - 1, 0, len(edges) - 2)
    member = np.zeros((len(cases), len(edges) - 1))
    member[np.arange(len(cases)), place] = 1
    drawn = np.random.default_rng(seed).random((_SIMULATED, len(cases))) < cases.scores
    simulated = _ece(drawn.astype(np.float64), cases.scores, member)
    return Binning(
        kind,
        tuple(_bin(edges[k], edges[k + 1], cases.only(place == k)) for k in range(len(edges) - 1)),
        float(_ece(cases.labels[None].astype(np.float64), cases.scores, member)[0]),
        (float(simulated.mean()), float(np.quantile(simulated, 0.95))),
    )


def _ece(labels: _Floats, scores: _Floats, member: _Floats) -> _Floats:
    """Expected calibration error for each row of labels [B, N]: sum over bins |positives - sum of scores| / N, [B]."""
    return np.abs((labels - scores) @ member).sum(axis=1) / len(scores)


def _bin(low: float, high: float, cases: Cases) -> CalibrationBin:
    from scipy.stats import binomtest

    if not len(cases):
        return CalibrationBin(float(low), float(high), 0, 0, None, None, None, None)
    positives = cases.positives
    interval = binomtest(positives, len(cases)).proportion_ci(method="wilson")
    return CalibrationBin(
        float(low),
        float(high),
        len(cases),
        positives,
        float(cases.scores.mean()),
        positives / len(cases),
        float(interval.low),
        float(interval.high),
    )


def _intercept_and_slope(cases: Cases, resampling: Resampling) -> tuple[Estimate, Estimate]:
    if not cases.positives or not cases.negatives:
        why = "All labels are alike: no finite number fits."
        return Estimate(None, reason=why), Estimate(None, reason=why)
    whole = Resamples(cases.scores, cases.labels, np.ones((1, len(cases))))
    points = {"intercept": _number(intercept_of(whole)), "slope": _number(slope_of(whole))}
    statistics: dict[str, Statistic] = {"intercept": intercept_of, "slope": slope_of}
    found = estimates(cases, points, statistics, resampling)
    if points["slope"] is None:
        why = "No finite slope fits: the scores are all alike, or part the classes completely."
        found["slope"] = Estimate(None, reason=why)
    return found["intercept"], found["slope"]


def _number(values: _Floats) -> float | None:
    return float(values[0]) if np.isfinite(values[0]) else None


def logits(scores: _Floats) -> _Floats:
    """ln(p / (1 - p)) of the scores, moved away from 0 and 1."""
    p = np.clip(scores, CLIP, 1 - CLIP)
    return np.log(p / (1 - p))


def intercept_of(resamples: Resamples) -> _Floats:
    """The a of sigmoid(a + logit(score)) that fits best, [B]; NaN where a class is missing."""
    return _fit(resamples, with_slope=False)[0]


def slope_of(resamples: Resamples) -> _Floats:
    """The b of sigmoid(a + b logit(score)) that fits best, [B]; NaN where no finite one does."""
    return _fit(resamples, with_slope=True)[1]


def _fit(resamples: Resamples, *, with_slope: bool) -> tuple[_Floats, _Floats]:
    """Maximum likelihood by Newton's method for every resample at once; steps that overshoot are halved."""
    x, y, weights = logits(resamples.scores), resamples.labels, resamples.weights
    at = np.zeros((2, len(weights)))
    at[1] = 0 if with_slope else 1
    if len(weights) > 1:  # begin where all resamples together lead, which is near to where each does
        together = Resamples(resamples.scores, y, weights.mean(axis=0, keepdims=True))
        near = np.array(_fit(together, with_slope=with_slope))
        at = np.where(np.isfinite(near), near, at)
    likelihood = _likelihood(at, x, y, weights)
    longest = np.full(len(weights), np.inf)
    for _ in range(_STEPS):
        steps = _newton_steps(at, x, y, weights, with_slope)
        longest = np.abs(steps).max(axis=0)
        steps = np.where(np.isfinite(longest), steps, 0)  # stay where the likelihood has no single highest point
        for _ in range(_HALVINGS):
            reached = _likelihood(at + steps, x, y, weights)
            overshot = reached < likelihood - _SLACK * np.abs(likelihood)
            if not overshot.any():
                break
            steps = np.where(overshot, steps / 2, steps)
        at, likelihood = at + steps, reached
        if np.all((longest < _DONE) | ~np.isfinite(longest) | (np.abs(at[1]) > _STEEPEST)):
            break
    found = (longest < _DONE) & (np.abs(at[1]) < _STEEPEST)
    return np.where(found, at[0], np.nan), np.where(found, at[1], np.nan)


def _likelihood(at: _Floats, x: _Floats, y: NDArray[np.int64], weights: _Floats) -> _Floats:
    linear = at[0][:, None] + at[1][:, None] * x
    return np.sum(weights * (y * linear - np.logaddexp(0, linear)), axis=1)


def _newton_steps(at: _Floats, x: _Floats, y: NDArray[np.int64], weights: _Floats, with_slope: bool) -> _Floats:
    """Steps of intercept and slope, [2, B]."""
    fitted = np.exp(-np.logaddexp(0, -(at[0][:, None] + at[1][:, None] * x)))
    off, spread = weights * (y - fitted), weights * fitted * (1 - fitted)
    g0, h00 = off.sum(axis=1), spread.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if not with_slope:
            return np.array([g0 / h00, np.zeros(len(weights))])
        g1, h01, h11 = off @ x, spread @ x, spread @ x**2
        determinant = h00 * h11 - h01**2
        determinant = np.where(determinant > 1e-10 * h00 * h11, determinant, np.nan)
        return np.array([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / determinant
