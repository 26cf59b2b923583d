"""The head behind the encoder computes what the plain reference does, nodule by nodule and at the extremes."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from reference import plain

if TYPE_CHECKING:
    from conftest import Expected

Array = np.ndarray[Any, Any]
FILE = Path(__file__).parents[2] / "model_repository" / "nodule_similarity" / "1" / "head.py"
FOLDS, WIDTH = 3, 16
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
CALIBRATION = np.array([[1.0, 1.0, 0.0], [0.6, 0.9, -0.7], [0.0, 1.3, 0.4]])


@pytest.fixture(scope="module")
def head() -> ModuleType:
    """As Triton loads it: a file beside its model, no part of a package."""
    spec = importlib.util.spec_from_file_location("head_of_nodule_similarity", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_logits(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 3, (count, FOLDS, 2)).astype(np.float32)


def unit(*shape: int, seed: int = 0) -> Array:
    vectors = np.random.default_rng(seed).standard_normal(shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------- malignancy and calibration


def test_malignancy_is_the_softmax(head: ModuleType) -> None:
    logits = random_logits(7)
    ensemble, raw, calibrated = head.malignancy(logits, None)
    expected = torch.from_numpy(logits).double().softmax(-1)[..., 1].numpy()
    np.testing.assert_allclose(raw, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ensemble, expected.mean(axis=1), rtol=0, atol=1e-12)
    assert calibrated.shape == (7, FOLDS) and np.isnan(calibrated).all()


def test_malignancy_calibrated(head: ModuleType) -> None:
    logits = random_logits(50)
    ensemble, raw, calibrated = head.malignancy(logits, CALIBRATION)
    np.testing.assert_allclose(raw, head.malignancy(logits, None)[1], rtol=0, atol=0)
    expected = np.stack([plain.beta_calibrated(raw[:, k], *CALIBRATION[k]) for k in range(FOLDS)], axis=1)
    np.testing.assert_allclose(calibrated, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(calibrated[:, 0], raw[:, 0], rtol=0, atol=1e-12)  # 1, 1, 0 changes nothing
    np.testing.assert_allclose(ensemble, expected.mean(axis=1), rtol=0, atol=1e-9)
    assert np.abs(calibrated[:, 1:] - raw[:, 1:]).max() > 0.1


def test_the_expected_calibrated_numbers(head: ModuleType, expected: Expected, published_checkpoint: Path) -> None:
    """From the published probabilities, with the numbers that are in the published pickles."""
    import joblib

    prob = expected.model["prob"].astype(float)  # [F, nodules]
    logits = np.stack([np.log1p(-prob.T), np.log(prob.T)], axis=-1)
    numbers = []
    for fold in range(5):
        regression = joblib.load(published_checkpoint / f"fold_{fold}" / f"cal_{fold}.pkl").calibrator_.lr_
        numbers.append([*regression.coef_[0], regression.intercept_[0]])
    ensemble, raw, calibrated = head.malignancy(logits, np.array(numbers))
    np.testing.assert_allclose(raw.T, prob, rtol=0, atol=1e-9)
    np.testing.assert_allclose(calibrated.T, expected.model["calibrated"], rtol=0, atol=1e-5)
    published = [float(row["calibrated_ensemble"]) for row in expected.nodules]
    np.testing.assert_allclose(ensemble, published, rtol=0, atol=1e-5)


EXTREMES = [(0, 200), (200, 0), (-200, 200), (200, -200), (200, 200), (-200, -200), (0, 3e38), (3e38, -3e38)]


@pytest.mark.parametrize("calibration", [None, CALIBRATION, np.array([[0, 2, 5.0], [2, 0, -5.0], [9, 9, 0.0]])])
def test_extreme_logits_are_numbers(head: ModuleType, calibration: Array | None) -> None:
    logits = np.repeat(np.array(EXTREMES, np.float32)[:, None], FOLDS, axis=1)
    ensemble, raw, calibrated = head.malignancy(logits, calibration)
    np.testing.assert_allclose(raw, [[p] * FOLDS for p in (1, 0, 1, 0, 0.5, 0.5, 1, 0)], rtol=0, atol=1e-15)
    assert (raw[[1, 3]] > 0).all(), "e^-200 is a number"
    assert ((ensemble >= 0) & (ensemble <= 1)).all()
    if calibration is not None:
        assert ((calibrated >= 0) & (calibrated <= 1)).all()
        # The greater the raw probability, the greater the calibrated one.
        order = np.argsort(raw[:, 0], kind="stable")
        assert (np.diff(calibrated[order], axis=0) >= 0).all()


def test_calibration_is_not_cut_off_where_the_probability_rounds_to_1(head: ModuleType) -> None:
    """For logits 60 apart, 1 - p is e^-60: sigmoid(a ln p - b ln(1 - p) + c) is sigmoid(60 b + c)."""
    logits = np.array([[[0, 60.0]], [[60.0, 0]]], np.float32)
    calibrated = head.malignancy(logits, np.array([[0.01, 0.02, -1.0]]))[2]
    expected = [1 / (1 + np.exp(-(60 * 0.02 - 1))), 1 / (1 + np.exp(-(-60 * 0.01 - 1)))]
    np.testing.assert_allclose(calibrated[:, 0], expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- semantic features


def test_similarity_is_the_scaled_cosine(head: ModuleType) -> None:
    embedding, bank = unit(6, FOLDS, WIDTH), unit(FOLDS, len(GROUPS), WIDTH, seed=1)
    log_scale = np.array([0.0, np.log(1 / 0.07), 9.0], np.float32)
    scale = np.exp(np.minimum(log_scale, 4.6052))
    found = head.similarity(embedding, bank.astype(float), scale)
    for fold in range(FOLDS):
        state = {"logit_scale": torch.tensor(log_scale[fold])}
        expected = plain.similarity_of(state, torch.from_numpy(embedding[:, fold]), torch.from_numpy(bank[fold]))
        np.testing.assert_allclose(found[:, fold], expected.numpy(), rtol=0, atol=1e-4)


def test_semantic_is_a_softmax_in_each_feature_and_fold(head: ModuleType) -> None:
    similarities = np.random.default_rng(2).normal(0, 3, (6, FOLDS, len(GROUPS)))
    groups = [np.flatnonzero(g == GROUPS) for g in range(3)]
    expected = np.concatenate(plain.semantic_probabilities(similarities.transpose(1, 0, 2), groups), axis=-1)
    found = head.semantic(similarities, GROUPS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    for group in groups:
        np.testing.assert_allclose(found[:, group].sum(axis=1), 1, rtol=0, atol=1e-12)


def test_the_expected_similarities(head: ModuleType, expected: Expected, published_checkpoint: Path) -> None:
    model = expected.model
    scales = [
        torch.load(published_checkpoint / f"fold_{k}" / "best_both.pt", weights_only=True)["model"]["logit_scale"]
        for k in range(5)
    ]
    scale = np.exp(np.ravel(scales))
    found = head.similarity(model["embedding"].transpose(1, 0, 2), model["text_embedding"].astype(float), scale)
    np.testing.assert_allclose(found.transpose(1, 0, 2), model["similarity"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("top", [200.0, 1e6])
def test_extreme_similarities_are_numbers(head: ModuleType, top: float) -> None:
    similarities = np.full((2, FOLDS, len(GROUPS)), -top)
    similarities[0, :, 4] = top
    found = head.semantic(similarities, GROUPS)
    np.testing.assert_allclose(found[0, 3:5], [0, 1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found[1], [1 / 3] * 3 + [1 / 2] * 2 + [1 / 4] * 4, rtol=0, atol=1e-15)


# ---------------------------------------------------------------- batches, files


def test_a_nodule_s_numbers_do_not_depend_on_its_batch(head: ModuleType) -> None:
    logits, embedding = random_logits(9), unit(9, FOLDS, WIDTH)
    bank, scale = unit(FOLDS, len(GROUPS), WIDTH, seed=1).astype(float), np.array([20.0, 50.0, 99.0])

    def outputs(part: slice) -> list[Array]:
        similarities = head.similarity(embedding[part], bank, scale)
        return [*head.malignancy(logits[part], CALIBRATION), similarities, head.semantic(similarities, GROUPS)]

    together = outputs(np.s_[:])
    for slot in range(9):
        for alone, one in zip(outputs(np.s_[slot : slot + 1]), together, strict=True):
            np.testing.assert_allclose(alone[0], one[slot], rtol=0, atol=1e-13)


@pytest.mark.parametrize("calibrated", [True, False])
def test_what_a_release_holds_is_read(head: ModuleType, tmp_path: Path, calibrated: bool) -> None:
    bank = unit(FOLDS, len(GROUPS), WIDTH)
    np.savez(tmp_path / "text_bank.npz", embeddings=bank, scale=np.array([1, 2, 3], np.float32), groups=GROUPS)
    numbers = [{"c": c, "b": b, "a": a, "kind": "beta"} for a, b, c in CALIBRATION.tolist()] if calibrated else None
    (tmp_path / "calibration.json").write_text(json.dumps(numbers))
    read = head.Head.read(tmp_path)
    np.testing.assert_array_equal(read.bank, bank)
    np.testing.assert_array_equal(read.scale, [1, 2, 3])
    np.testing.assert_array_equal(read.groups, GROUPS)
    assert read.bank.dtype == read.scale.dtype == np.float64
    if calibrated:
        np.testing.assert_array_equal(read.calibration, CALIBRATION)
    else:
        assert read.calibration is None


def test_a_bank_with_a_pickle_in_it_is_not_opened(head: ModuleType, tmp_path: Path) -> None:
    arrays = {"embeddings": np.array([{"any": "object"}], object), "scale": np.ones(1), "groups": np.zeros(1, int)}
    np.savez(tmp_path / "text_bank.npz", **arrays)
    (tmp_path / "calibration.json").write_text("null")
    with pytest.raises(ValueError, match="pickle"):
        head.Head.read(tmp_path)
