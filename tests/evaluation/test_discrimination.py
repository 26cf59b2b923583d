"""Areas, operating points and counts at a threshold: by hand, and against ways that share no code with ours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from noduleserve.evaluation import discrimination as d
from noduleserve.evaluation.resampling import Cases, Resamples, Resampling, blocks

NONE = Resampling(0)


def cases(scores: list[float], labels: list[int], failed: list[bool] | None = None) -> Cases:
    n = len(scores)
    whose = np.array([f"p{k}" for k in range(n)])
    return Cases(np.array(scores), np.array(labels), whose, np.array(failed or [False] * n))


def whole(of: Cases) -> Resamples:
    return Resamples(of.scores, of.labels, np.ones((1, len(of))))


@st.composite
def both_classes(draw: st.DrawFn) -> Cases:
    """Scores on a coarse grid, so that many are equal; both labels among them."""
    n = draw(st.integers(2, 25))
    grid = st.integers(0, 12).map(lambda k: k / 12)
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    return cases(draw(st.lists(grid, min_size=n, max_size=n)), labels)


def test_areas_by_hand() -> None:
    # Pairs (positive, negative): .9 beats all three; .4 beats .1 and ties with .4, loses to .8: 4.5 of 6.
    of = cases([0.9, 0.8, 0.4, 0.4, 0.1], [1, 0, 1, 0, 0])
    auroc, auprc = d.areas(of)
    assert auroc == pytest.approx(4.5 / 6)
    assert auprc == pytest.approx((1 / 1 + 2 / 4) / 2)  # precision at each positive; the tie is called as a whole


@given(both_classes())
@settings(max_examples=30, deadline=None)
def test_auroc_is_the_share_of_pairs_in_the_right_order(of: Cases) -> None:
    positive, negative = of.scores[of.labels == 1], of.scores[of.labels == 0]
    pairs = len(positive) * len(negative)
    expected = mannwhitneyu(positive, negative, method="asymptotic").statistic / pairs
    assert d.areas(of)[0] == pytest.approx(expected)
    assert d.auroc_of(whole(of))[0] == pytest.approx(expected)


@given(both_classes(), st.sampled_from(["power", "logit", "shift"]))
@settings(max_examples=30, deadline=None)
def test_a_monotone_transform_changes_no_rank_measure(of: Cases, how: str) -> None:
    s = of.scores
    moved = {"power": s**3, "logit": np.log((s + 0.01) / (1.01 - s)), "shift": 0.3 + s / 7}[how]
    other = Cases(moved, of.labels, of.patients, of.failed)
    assert d.areas(other) == pytest.approx(d.areas(of))
    for one, two in zip(
        d.operating_points(of, [0.8], [0.9], NONE), d.operating_points(other, [0.8], [0.9], NONE), strict=True
    ):
        assert (one.sensitivity, one.specificity) == (two.sensitivity, two.specificity)


@given(both_classes())
@settings(max_examples=15, deadline=None)
def test_exchanging_the_classes_mirrors_the_auroc(of: Cases) -> None:
    other = Cases(1 - of.scores, 1 - of.labels, of.patients, of.failed)
    assert d.areas(other)[0] == pytest.approx(d.areas(of)[0])
    assert d.areas(Cases(of.scores, 1 - of.labels, of.patients, of.failed))[0] == pytest.approx(1 - d.areas(of)[0])


@given(both_classes(), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_statistics_of_resamples_are_scikit_learns(of: Cases, seed: int) -> None:
    from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score, roc_curve

    for block in blocks(of, Resampling(5, seed)):
        measured = {
            "auroc": d.auroc_of(block),
            "auprc": d.average_precision_of(block),
            "sensitivity": d.sensitivity_at_specificity_of(block, 0.8),
            "specificity": d.specificity_at_sensitivity_of(block, 0.8),
        }
        rates = d.rates_at(block, 0.5)
        for b, weights in enumerate(block.weights):
            drawn = np.repeat(np.arange(len(of)), weights.astype(int))
            y, s = of.labels[drawn], of.scores[drawn]
            if len(set(y)) < 2:
                continue
            false, true, _ = roc_curve(y, s, drop_intermediate=False)
            expected = {
                "auroc": roc_auc_score(y, s),
                "auprc": average_precision_score(y, s),
                "sensitivity": true[false <= 0.2 + 1e-9].max(),
                "specificity": 1 - false[true >= 0.8 - 1e-9].min(),
            }
            assert {name: values[b] for name, values in measured.items()} == pytest.approx(expected)
            called = s >= 0.5
            assert rates[0][b] == pytest.approx(recall_score(y, called))
            assert rates[1][b] == pytest.approx(recall_score(1 - y, ~called))
            assert rates[2][b] == pytest.approx(precision_score(y, called) if called.any() else math.nan, nan_ok=True)
            right = precision_score(1 - y, ~called) if not called.all() else math.nan
            assert rates[3][b] == pytest.approx(right, nan_ok=True)


def test_operating_points_by_hand() -> None:
    of = cases([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], [1, 0, 1, 1, 0, 1, 0, 0, 0])
    at_80, at_100, at_sensitivity = d.operating_points(of, [0.8, 1.0], [0.75], NONE)
    # One of five negatives may be called: down to .7, which catches 3 of 4.
    assert (at_80.threshold, at_80.sensitivity.value, at_80.specificity.value) == (0.7, 0.75, 0.8)
    assert (at_100.threshold, at_100.sensitivity.value, at_100.specificity.value) == (0.95, 0.25, 1.0)
    assert (at_sensitivity.threshold, at_sensitivity.specificity.value) == (0.7, 0.8)
    assert at_sensitivity.sensitivity.value == 0.75


def test_of_equally_good_thresholds_the_better_one_is_given() -> None:
    of = cases([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    by_specificity, by_sensitivity = d.operating_points(of, [0.4], [0.4], NONE)
    assert (by_specificity.threshold, by_specificity.specificity.value) == (0.7, 0.5)
    assert (by_sensitivity.threshold, by_sensitivity.sensitivity.value) == (0.9, 0.5)
    loose = d.operating_points(cases([0.9, 0.8, 0.7], [1, 0, 0]), [0.0], [], NONE)[0]
    assert (loose.threshold, loose.specificity.value) == (0.9, 1.0)


def test_where_no_threshold_is_specific_enough_nothing_is_called() -> None:
    point = d.operating_points(cases([0.9, 0.8], [0, 1]), [0.9], [], NONE)[0]
    assert point.threshold is None and point.note
    assert (point.sensitivity.value, point.specificity.value) == (0.0, 1.0)


def test_a_score_at_the_threshold_is_called() -> None:
    confusion = d.confusions(cases([0.5, 0.5, 0.4, 0.6], [1, 0, 1, 0]), [0.5], NONE)[0]
    counts = (confusion.true_positives, confusion.false_positives, confusion.true_negatives, confusion.false_negatives)
    assert counts == (1, 2, 0, 1)
    assert (confusion.sensitivity.value, confusion.specificity.value) == (0.5, 0.0)
    assert (confusion.ppv.value, confusion.npv.value) == (pytest.approx(1 / 3), 0.0)


def test_a_rate_of_nothing_is_none_with_its_reason() -> None:
    confusion = d.confusions(cases([0.2, 0.3], [1, 0]), [0.9], NONE)[0]
    assert confusion.ppv.value is None and "No nodule is called" in confusion.ppv.reason
    alone = d.confusions(cases([0.2, 0.3], [0, 0]), [0.25], NONE)[0]
    assert alone.sensitivity.value is None and alone.specificity.value == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_a_sentence_and_no_area(label: int) -> None:
    found = d.discrimination(cases([0.1, 0.9], [label, label]), NONE)
    assert found.auroc.value is None and found.auprc.value is None
    assert f"All 2 nodules with a label are {('negative', 'positive')[label]}" in found.auroc.reason
    assert d.roc_points(cases([0.1, 0.9], [label, label])) == ()
    assert d.operating_points(cases([0.1, 0.9], [label, label]), [0.9], [0.9], NONE) == ()


@given(both_classes(), st.data())
@settings(max_examples=80, deadline=None)
def test_failed_nodules_cannot_be_worse_than_the_bound(of: Cases, data: st.DataObject) -> None:
    failed = np.array(data.draw(st.lists(st.booleans(), min_size=len(of), max_size=len(of))))
    any_scores = Cases(of.scores, of.labels, of.patients, failed)
    worst = d.as_wrong_as_can_be(any_scores)
    assert d.areas(worst)[0] <= d.areas(any_scores)[0] + 1e-12
    # Average precision gives equal scores the precision of the last of them: there is a bound where scores differ.
    differing = Cases(of.scores + np.arange(len(of)) * 1e-4, of.labels, of.patients, failed)
    assert d.areas(d.as_wrong_as_can_be(differing))[1] <= d.areas(differing)[1] + 1e-12
    assert np.mean(d.squared_errors(any_scores)) >= np.mean((of.scores - of.labels) ** 2) - 1e-12
    assert (worst.scores[~failed] == of.scores[~failed]).all()


def test_failed_positives_are_not_better_off_for_being_several() -> None:
    """Equal scores would give both the precision 2/3 of the lowest of them."""
    found = d.bound(cases([0.1, 0.5, 0.5], [0, 1, 1], [False, True, True]))
    assert found is not None and found.auprc == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_bound_by_hand() -> None:
    of = cases([0.9, 0.2, 0.5, 0.5], [1, 0, 1, 0], [False, False, True, True])
    found = d.bound(of)
    assert found is not None and (found.failed_positives, found.failed_negatives) == (1, 1)
    assert found.auroc == 0.25  # of four pairs only .9 against .2 is in the right order
    assert found.brier == pytest.approx((0.01 + 0.04 + 1 + 1) / 4)
    assert d.bound(cases([0.9, 0.2], [1, 0])) is None


def test_a_sensitivity_that_failed_nodules_forbid_is_not_reached() -> None:
    of = d.as_wrong_as_can_be(cases([0.9, 0.2, 0.5], [1, 0, 1], [False, False, True]))
    point = d.operating_points(of, [], [0.9], NONE)[0]
    assert point.threshold is None and "failed" in point.note
    assert point.specificity.value == 0.0
