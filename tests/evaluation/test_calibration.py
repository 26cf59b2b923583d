"""Calibration: bins by hand, closed forms, and scikit-learn's logistic regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noduleserve.evaluation import calibration as c
from noduleserve.evaluation.resampling import Cases, Resamples, Resampling, blocks

NONE = Resampling(0)


def cases(scores: list[float], labels: list[int]) -> Cases:
    n = len(scores)
    return Cases(np.array(scores), np.array(labels), np.array([f"p{k}" for k in range(n)]), np.zeros(n, bool))


def test_ece_of_equal_width_by_hand() -> None:
    # Bins [0, .5) and [.5, 1]: means .2 and .7, shares 1/3 and 1/2; .5 itself belongs to the upper bin, 1 to the last.
    of = cases([0.1, 0.2, 0.3, 0.5, 0.6, 1.0, 0.7], [0, 0, 1, 0, 1, 1, 0])
    found = c.binning("equal width", c.equal_width_edges(2), of, 0)
    low, high = found.bins
    assert (low.nodules, low.positives, low.mean_score, low.observed) == (
        3,
        1,
        pytest.approx(0.2),
        pytest.approx(1 / 3),
    )
    assert (high.nodules, high.positives, high.mean_score, high.observed) == (4, 2, pytest.approx(0.7), 0.5)
    assert found.ece == pytest.approx(3 / 7 * (1 / 3 - 0.2) + 4 / 7 * (0.7 - 0.5))


def test_ece_of_equal_mass_by_hand() -> None:
    of = cases([0.01, 0.02, 0.03, 0.9], [0, 1, 0, 1])
    found = c.binning("equal mass", c.equal_mass_edges(of.scores, 2), of, 0)
    assert [(b.low, b.high, b.nodules) for b in found.bins] == [(0.01, 0.03, 2), (0.03, 0.9, 2)]
    assert found.ece == pytest.approx(0.5 * (0.5 - 0.015) + 0.5 * (0.5 - 0.465))


def test_equal_scores_are_not_parted() -> None:
    of = cases([0.2] * 6 + [0.7, 0.8], [0] * 8)
    found = c.binning("equal mass", c.equal_mass_edges(of.scores, 4), of, 0)
    assert [b.nodules for b in found.bins] == [6, 2]
    alike = c.binning("equal mass", c.equal_mass_edges(np.full(5, 0.3), 10), cases([0.3] * 5, [0, 0, 1, 0, 0]), 0)
    assert [b.nodules for b in alike.bins] == [5]
    assert alike.ece == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=40), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_every_nodule_is_in_one_bin(pairs: list[tuple[int, int]], bins: int) -> None:
    of = cases([score / 20 for score, _ in pairs], [label for _, label in pairs])
    for edges in (c.equal_width_edges(bins), c.equal_mass_edges(of.scores, bins)):
        found = c.binning("equal width", edges, of, 0)
        assert sum(b.nodules for b in found.bins) == len(of)
        assert sum(b.positives for b in found.bins) == of.positives
        filled = [b for b in found.bins if b.mean_score is not None and b.observed is not None]
        assert all(b.low <= b.mean_score + 1e-12 and b.mean_score <= b.high + 1e-12 for b in filled)
        by_bins = sum(b.nodules / len(of) * abs(b.observed - b.mean_score) for b in filled)
        assert found.ece == pytest.approx(by_bins)


def test_wilsons_interval_in_closed_form() -> None:
    found = c.binning("equal width", c.equal_width_edges(1), cases([0.3] * 20, [1] * 5 + [0] * 15), 0).bins[0]
    n, p, z = 20, 0.25, 1.959963984540054
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    assert (found.observed_low, found.observed_high) == pytest.approx(
        ((middle - half) / scale, (middle + half) / scale)
    )


def test_flawless_scores_show_the_ece_that_is_foretold() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(300)
    seen = []
    for _ in range(60):
        of = cases(p.tolist(), (rng.random(300) < p).astype(int).tolist())
        found = c.binning("equal width", c.equal_width_edges(10), of, 0)
        seen.append(found.ece)
    mean, most = found.ece_if_calibrated
    assert mean == pytest.approx(np.mean(seen), rel=0.1)
    assert most == pytest.approx(np.quantile(seen, 0.95), rel=0.15)


def two_groups(share_low: float, share_high: float) -> Cases:
    """400 scores of .2 and of .6, with these shares of positives."""
    low, high = round(400 * share_low), round(400 * share_high)
    return cases([0.2] * 400 + [0.6] * 400, [1] * low + [0] * (400 - low) + [1] * high + [0] * (400 - high))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_slope_in_closed_form() -> None:
    """With two distinct scores the logistic model meets both shares exactly."""
    found = c.calibration(two_groups(0.3, 0.5), 10, NONE)
    assert found.slope.value == pytest.approx((logit(0.5) - logit(0.3)) / (logit(0.6) - logit(0.2)))


def test_scores_without_fault_have_slope_one_and_intercept_nought() -> None:
    found = c.calibration(two_groups(0.2, 0.6), 10, NONE)
    assert found.slope.value == pytest.approx(1)
    assert found.intercept.value == pytest.approx(0, abs=1e-9)
    assert found.mean_score == pytest.approx(found.prevalence)


def test_intercept_in_closed_form() -> None:
    of = cases([0.2] * 100, [1] * 35 + [0] * 65)  # one distinct score: the fit meets its share; there is no slope
    found = c.calibration(of, 10, NONE)
    assert found.intercept.value == pytest.approx(logit(0.35) - logit(0.2))
    assert found.slope.value is None and "all alike" in found.slope.reason


def test_slope_is_that_of_scikit_learn_in_every_resample() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    p = rng.random(150)
    of = cases(p.tolist(), (rng.random(150) < p**2).astype(int).tolist())
    block = next(blocks(of, Resampling(5, 1)))
    x = np.log(p / (1 - p))[:, None]
    model = LogisticRegression(C=1e10, tol=1e-10, solver="newton-cholesky")
    expected = [model.fit(x, of.labels, sample_weight=w).coef_[0, 0] for w in block.weights]
    assert c.slope_of(block) == pytest.approx(expected, rel=1e-5)
    # The intercept is where the fitted probabilities add up to the positives.
    for a, w in zip(c.intercept_of(block), block.weights, strict=True):
        assert w @ (1 / (1 + np.exp(-(a + x[:, 0])))) == pytest.approx(w @ of.labels)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
def test_classes_that_are_parted_completely_have_no_slope(labels: list[int]) -> None:
    of = cases([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], labels)
    assert math.isnan(c.slope_of(Resamples(of.scores, of.labels, np.ones((1, 6))))[0])
    found = c.calibration(of, 10, NONE)
    assert found.slope.value is None and "part the classes" in found.slope.reason
    assert found.intercept.value is not None


def test_scores_of_nought_and_one_are_clipped_and_counted() -> None:
    found = c.calibration(cases([0.0, 1.0, 0.4, 0.6], [0, 1, 1, 0]), 10, NONE)
    assert found.clipped == 2
    assert found.slope.value is not None and math.isfinite(found.slope.value)


def test_one_class_has_bins_but_no_fit() -> None:
    found = c.calibration(cases([0.1, 0.2], [0, 0]), 10, NONE)
    assert found.binnings[0].ece == pytest.approx(0.15)
    assert found.intercept.value is None and found.slope.value is None and found.slope.reason
