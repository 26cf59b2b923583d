"""The bootstrap draws patients, not nodules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from noduleserve.evaluation import discrimination as d
from noduleserve.evaluation.figures import Estimate
from noduleserve.evaluation.resampling import Cases, Resampling, blocks, estimates


def cases(copies: int, patients: int = 60, seed: int = 0) -> Cases:
    """Patients with one nodule, each of which is written down several times."""
    rng = np.random.default_rng(seed)
    labels = np.arange(patients) % 2
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    whose = np.array([f"p{k}" for k in range(patients)])
    return Cases(*(np.repeat(a, copies) for a in (scores, labels, whose)), np.zeros(patients * copies, bool))


def width(estimate: Estimate) -> float:
    assert estimate.low is not None and estimate.high is not None
    return estimate.high - estimate.low


def test_nodules_of_a_patient_are_drawn_together() -> None:
    of = cases(3)
    for block in blocks(of, Resampling(50, 4)):
        drawn = block.weights.reshape(50, 60, 3)
        assert (drawn == drawn[:, :, :1]).all()
        assert (drawn[:, :, 0].sum(axis=1) == 60).all()
        assert len(np.unique(drawn[:, :, 0], axis=0)) == 50


def test_copies_of_a_patients_nodule_tell_nothing_new() -> None:
    """Ten copies of every nodule are no more evidence; drawn one by one they would pass for ten times as much."""
    once, copied = cases(1), cases(10)
    by_patient = d.discrimination(copied, Resampling(400, 1))
    assert by_patient.auroc == d.discrimination(once, Resampling(400, 1)).auroc
    as_strangers = dataclasses.replace(copied, patients=np.arange(len(copied)).astype(str))
    ratio = width(by_patient.auroc) / width(d.discrimination(as_strangers, Resampling(400, 1)).auroc)
    assert 2.2 < ratio < 4.5  # sqrt(10) = 3.2


def test_an_interval_holds_what_other_samples_show() -> None:
    held = 0
    for seed in range(40):
        found = d.discrimination(cases(1, 100, seed), Resampling(200, seed)).auroc
        assert found.low is not None and found.high is not None
        held += found.low <= 0.7602 <= found.high  # Phi(0.2 / (0.2 sqrt 2)); clipping moves it by less than 0.01
    assert held >= 32


def test_same_seed_same_numbers_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from noduleserve.evaluation import resampling

    of = cases(2)
    first = d.discrimination(of, Resampling(120, 3))
    assert d.discrimination(of, Resampling(120, 3)) == first
    assert d.discrimination(of, Resampling(120, 4)).auroc != first.auroc
    monkeypatch.setattr(resampling, "_BLOCK", 1000)
    assert d.discrimination(of, Resampling(120, 3)) == first


def test_quantiles_by_hand() -> None:
    of = cases(1)
    numbers = iter([np.arange(101.0)])
    found = estimates(of, {"x": 7.0}, {"x": lambda block: next(numbers)}, Resampling(101, 0, confidence=0.9))["x"]
    assert all((b.weights @ b.labels > 0).all() for b in blocks(of, Resampling(101, 0)))  # none was left out
    assert (found.value, found.low, found.high) == (7.0, pytest.approx(5), pytest.approx(95))


@pytest.mark.parametrize(("positives", "negatives", "there"), [(10, 10, True), (9, 40, False), (40, 9, False)])
def test_too_few_of_a_class_have_no_interval(positives: int, negatives: int, there: bool) -> None:
    n = positives + negatives
    labels = np.array([1] * positives + [0] * negatives)
    scores = np.random.default_rng(0).random(n)
    of = Cases(scores, labels, np.arange(n).astype(str), np.zeros(n, bool))
    found = d.discrimination(of, Resampling(100)).auroc
    assert (found.low is not None) == there
    assert found.value is not None and ("fewer than 10" in found.reason) == (not there)


def test_positives_of_one_patient_have_no_interval() -> None:
    """In a third of the resamples that patient is missing, and with him every positive."""
    labels = np.array([1] * 12 + [0] * 30)
    whose = np.array(["one"] * 12 + [f"p{k}" for k in range(30)])
    of = Cases(np.random.default_rng(0).random(42), labels, whose, np.zeros(42, bool))
    found = d.discrimination(of, Resampling(200)).auroc
    assert found.value is not None and found.low is None and "undefined in" in found.reason


def test_an_interval_without_width_is_none() -> None:
    labels = np.array([1] * 20 + [0] * 20)
    of = Cases(labels / 2 + 0.25, labels, np.arange(40).astype(str), np.zeros(40, bool))
    found = d.discrimination(of, Resampling(100)).auroc
    assert found == Estimate(1.0, reason="No interval: it is the same in every resample.")


def test_no_resampling_no_interval() -> None:
    found = d.discrimination(cases(1), Resampling(0)).auroc
    assert found.value is not None and found.low is None and "no resampling" in found.reason
