"""The text bank holds what the plain text tower makes of the prompts, those of one value averaged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reference import plain
from small_model import ALL_TOKENS, Size, State, as_torch, folds_of, plain_of

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.proof.torch_model import TorchModel
from noduleserve.export.text.features import Features, read_features
from noduleserve.export.text.text_bank import BATCH, TextBank, require_short_prompts, scale_of, value_embeddings
from noduleserve.export.text.tokens import ClipTokens

if TYPE_CHECKING:
    from conftest import Expected

Array = np.ndarray[Any, Any]
SIZE = Size(layers=1, text_layers=2, tokens=ALL_TOKENS)
FEATURES = Features(
    {
        "shape": {"round": ("a round nodule", "a Spherical nodule!", "ball"), "oval": ("an oval nodule",)},
        "size": {"1-2 mm": ("  measuring 1 to 2 mm  ",), "größer": ("größer als 2 mm", "larger than 2 mm")},
    }
)


@pytest.fixture(scope="module")
def folds() -> list[State]:
    return [plain_of(fold) for fold in folds_of(2, SIZE)]


@pytest.fixture(scope="module")
def model(folds: list[State]) -> TorchModel:
    return TorchModel(Dimensions.of(folds[0], "a fold"))


def plain_embeddings(state: State, prompts: tuple[str, ...]) -> Array:
    return plain.text_forward(as_torch(state), plain.tokens_of(prompts)).numpy()


@pytest.mark.parametrize("number", [0, 1])
def test_values_are_their_prompts_averaged(folds: list[State], model: TorchModel, number: int) -> None:
    model.load(folds[number])
    found = value_embeddings(FEATURES, model)
    expected = []
    for _, _, prompts in FEATURES.values():
        mean = plain_embeddings(folds[number], prompts).mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-6)
    first = plain_embeddings(folds[number], ("a round nodule",))[0]
    assert np.abs(found[0] - first).max() > 0.01  # the other prompts count


def test_each_prompt_is_encoded_by_itself(folds: list[State], model: TorchModel) -> None:
    model.load(folds[0])
    prompts = [p for _, _, several in FEATURES.values() for p in several]
    together = model.encode_texts(prompts)
    np.testing.assert_allclose(together, plain_embeddings(folds[0], tuple(prompts)), rtol=0, atol=1e-5)
    for prompt, embedding in zip(prompts, together, strict=True):
        np.testing.assert_allclose(model.encode_texts([prompt])[0], embedding, rtol=0, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_the_expected_text_embeddings(published_checkpoint: Path, expected: Expected) -> None:
    checkpoint = read_checkpoint(published_checkpoint)
    model = TorchModel(checkpoint.dimensions)
    for fold, embeddings in zip(checkpoint.folds, expected.model["text_embedding"], strict=True):
        model.load(fold)
        np.testing.assert_allclose(model.encode_texts(expected.prompts), embeddings, rtol=0, atol=1e-5)


def test_prompts_of_many_values_are_encoded_together(folds: list[State], model: TorchModel) -> None:
    """The built-in features, in batches that part the prompts of a value, as encoded value by value."""
    features = read_features()
    batches: list[int] = []

    class Watched:
        def encode_texts(self, prompts: Sequence[str]) -> Array:
            batches.append(len(prompts))
            return model.encode_texts(prompts)

    model.load(folds[0])
    found = value_embeddings(features, Watched())
    assert sum(batches) == sum(len(prompts) for _, _, prompts in features.values())
    assert set(batches[:-1]) == {BATCH}
    for row, (_, _, prompts) in zip(found, features.values(), strict=True):
        mean = model.encode_texts(prompts).astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=0, atol=1e-6)


def test_the_built_in_prompts_are_short_enough(model: TorchModel) -> None:
    require_short_prompts(read_features(), model)
    prompts = [prompt for _, _, several in read_features().values() for prompt in several]
    tokens = ClipTokens()
    assert [tokens.token_count(p) for p in prompts] == [model.token_count(p) for p in prompts]


@pytest.mark.parametrize(
    ("log_scale", "scale"),
    [(0.0, 1.0), (np.log(1 / 0.07), 1 / 0.07), (4.6, np.exp(4.6)), (4.6052, np.exp(4.6052)), (9.0, np.exp(4.6052))],
)
def test_the_scale_is_clipped_at_a_hundred(log_scale: float, scale: float) -> None:
    found = scale_of({"logit_scale": np.array(log_scale, np.float32)})
    assert found == pytest.approx(scale, rel=1e-6)


def test_the_same_bank_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    arrays = random.random((2, 3, 4), np.float32), random.random(2, np.float32), np.array([0, 0, 1], np.int64)
    TextBank(*arrays).save(tmp_path / "one.npz")
    written = (tmp_path / "one.npz").read_bytes()
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(1.9e9))  # what a zip archive may note
    TextBank(*(a.copy() for a in arrays)).save(tmp_path / "two.npz")
    assert (tmp_path / "two.npz").read_bytes() == written
    with np.load(tmp_path / "one.npz", allow_pickle=False) as bank:
        for name, array in zip(("embeddings", "scale", "groups"), arrays, strict=True):
            np.testing.assert_array_equal(bank[name], array)


def test_prompts_longer_than_clip_reads_are_refused(model: TorchModel) -> None:
    fits, too_long = " ".join(["a"] * 75), " ".join(["a"] * 76)
    assert model.token_count(fits) == 77
    require_short_prompts(Features({"shape": {"a": (fits,), "b": ("x",)}}), model)
    with pytest.raises(CheckpointError) as caught:
        require_short_prompts(Features({"shape": {"a": (fits,), "b": ("x", too_long)}}), model)
    assert caught.value.code == "PROMPT_TOO_LONG"
    assert "'shape', 'b' has 78 tokens" in caught.value.what
