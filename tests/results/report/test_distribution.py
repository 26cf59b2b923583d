"""Quantiles, histogram and stability index against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from noduleserve.results.report.distribution import (
    Scores,
    chance_level,
    compare,
    histogram,
    quantiles,
    stability_index,
)

HUNDRED = (np.arange(100) + 0.5) / 100  # ten of them lie between two deciles


def scores(values: object, *releases: str, calibrated: bool | None = True) -> Scores:
    return Scores(np.asarray(values, float), releases or ("ns-1",), calibrated)


def test_quantiles_and_histogram_by_hand() -> None:
    assert quantiles([0.4, 0.0, 0.1, 0.3, 0.2], (0, 0.05, 0.5, 0.9, 1)) == pytest.approx([0, 0.02, 0.2, 0.36, 0.4])
    assert all(math.isnan(value) for value in quantiles([], (0.1, 0.5)))
    assert histogram([0.0, 0.1, 0.25, 0.3, 1.0], 4).tolist() == [0.4, 0.4, 0.0, 0.2]
    assert histogram([], 2).tolist() == [0, 0]


def test_a_night_that_moved_into_one_decile_by_hand() -> None:
    index, bins = stability_index(HUNDRED, np.linspace(0.01, 0.05, 100))
    # 10 of 100 in each bin of the reference; tonight 100 in the first; half a nodule more in each of ten bins.
    by_hand = (100.5 / 105 - 0.1) * math.log(1005 / 105) + 9 * (0.5 / 105 - 0.1) * math.log(5 / 105)
    assert index == pytest.approx(by_hand) == pytest.approx(4.54569, abs=1e-5)
    assert len(bins) == 10
    assert [bins[0].low, bins[-1].high] == [-math.inf, math.inf]
    assert [b.reference for b in bins] == pytest.approx([0.1] * 10)
    assert [b.tonight for b in bins] == pytest.approx([100.5 / 105] + [0.5 / 105] * 9)


def test_the_index_is_nought_without_a_shift_and_the_same_both_ways_over_the_same_bins() -> None:
    assert stability_index(HUNDRED, np.repeat(HUNDRED, 2))[0] == pytest.approx(0, abs=1e-4)
    assert stability_index(HUNDRED, HUNDRED)[0] == 0
    # A permutation keeps the deciles, so that both directions share their bins.
    tonight = np.concatenate([np.linspace(0, 0.09, 30), np.linspace(0.1, 1, 70)])
    r, t = ([getattr(b, name) for b in stability_index(HUNDRED, tonight)[1]] for name in ("reference", "tonight"))
    back = sum((a - b) * math.log(a / b) for a, b in zip(r, t, strict=True))
    assert stability_index(HUNDRED, tonight)[0] == pytest.approx(back)


def test_tied_scores_leave_fewer_bins_and_say_so() -> None:
    reference = np.concatenate([np.zeros(60), np.linspace(0.1, 1, 60)])
    shift = compare(scores(reference), scores(HUNDRED))
    # Deciles 1 to 4 are all 0 (59.5 of 119 steps are ties), so that one edge is left of four, and nine less three.
    assert len(shift.bins) == 10 - 3
    assert "7 bins are left of ten" in shift.flags[0]
    assert math.isfinite(shift.index)
    one = compare(scores(np.full(100, 0.5)), scores(np.full(100, 0.5)))
    assert (one.index, len(one.bins)) == (0, 2)


def test_the_chance_level_is_chi_square_and_holds() -> None:
    assert chance_level(100, 100, 10) == pytest.approx(16.919 / 50, rel=2e-3)  # chi-square, 9 degrees, 95 %
    assert chance_level(1000, 500, 2) == pytest.approx(3.841 * 0.003, rel=3e-2)  # 1 degree
    assert chance_level(100, 100, 1) == 0
    below, rng = 0, np.random.default_rng(1)
    for _ in range(400):
        below += stability_index(rng.random(300), rng.random(200))[0] < chance_level(300, 200, 10)
    assert 0.92 < below / 400 < 0.98


@pytest.mark.parametrize(
    ("reference", "tonight", "why"),
    [
        (scores(HUNDRED[:99]), scores(HUNDRED), "The reference night has 99 scores; below 100"),
        (scores(HUNDRED), scores([0.5]), "Tonight has 1 score; below 100"),
        (scores(HUNDRED, "a", "b"), scores(HUNDRED), "The reference night has scores of 2 releases"),
        (scores(HUNDRED), scores(HUNDRED, calibrated=False), "not on one scale"),
        (scores(HUNDRED, calibrated=None), scores(HUNDRED, calibrated=None), "not on one scale"),
    ],
)
def test_what_cannot_be_compared_gets_no_index(reference: Scores, tonight: Scores, why: str) -> None:
    shift = compare(reference, tonight)
    assert math.isnan(shift.index) and not shift.bins
    assert why in " ".join(shift.refused)


def test_another_release_is_flagged_and_compared_all_the_same() -> None:
    shift = compare(scores(HUNDRED, "ns-1"), scores(HUNDRED, "ns-2"))
    assert shift.index == 0 and not shift.refused
    assert "(ns-1 then, ns-2 tonight)" in shift.flags[0]
    assert not compare(scores(HUNDRED), scores(HUNDRED)).flags


@pytest.mark.parametrize(("moved", "word"), [(5, "no notable shift"), (15, "moderate shift"), (60, "large shift")])
def test_words_are_those_of_the_convention(moved: int, word: str) -> None:
    tonight = np.concatenate([np.full(moved, 0.05), np.repeat(HUNDRED, 2)[:-moved]])
    assert compare(scores(HUNDRED), scores(tonight)).word == word
