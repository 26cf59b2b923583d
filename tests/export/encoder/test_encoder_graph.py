"""The ONNX encoder computes what the plain reference does, whatever folds share, and stores nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scipy import ndimage
from small_model import SMALL, Size, State, base_of, fold_of, folds_of, plain_encode, plain_of, random_views

from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import build_encoder, resize_matrix
from noduleserve.export.proof.outputs import Encode, onnx_encoder, probability

Array = np.ndarray[Any, Any]


def graph_of(folds: Sequence[State]) -> onnx.ModelProto:
    return build_encoder(folds, Dimensions.of(folds[0], "a fold"))


def encoder_of(folds: Sequence[State], folder: Path) -> Encode:
    model = graph_of(folds)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "encoder.onnx")
    return onnx_encoder(folder / "encoder.onnx")


def assert_right(folds: Sequence[State], folder: Path, count: int = 3) -> tuple[Array, Array, Array]:
    views = random_views(count)
    found, expected = encoder_of(folds, folder)(views), plain_encode(folds, views)
    for name, one, other, atol in zip(("embedding", "attention"), found, expected, (1e-5, 1e-5), strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=name)
    np.testing.assert_allclose(probability(found[2]), probability(expected[2]), rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=-1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1].sum(axis=-1), 1, rtol=0, atol=1e-6)
    return found


@pytest.fixture(scope="module")
def five() -> list[State]:
    return [plain_of(fold) for fold in folds_of(5)]


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("count", [1, 2, 5])
def test_folds_of_one_base(five: list[State], tmp_path: Path, count: int) -> None:
    embedding, attention, logits = assert_right(five[:count], tmp_path)
    assert embedding.shape == (3, count, SMALL.out)
    assert attention.shape == (3, count, 9)
    assert logits.shape == (3, count, 2)
    # The test is worth something only where nodules and folds differ and no probability is at an end.
    p = probability(logits)
    assert np.ptp(p, axis=0).max() > 1e-2 and ((p > 1e-3) & (p < 1 - 1e-3)).any()
    assert count == 1 or np.ptp(p, axis=1).max() > 1e-2
    assert np.ptp(attention, axis=-1).min() > 1e-3


@pytest.mark.parametrize(
    "size",
    [
        Size(patch=16, layers=1),
        Size(width=128, layers=3, embed=48, out=32),
        Size(layers=1, patch=56),
        Size(width=192, layers=1, out=8, embed=16),
    ],
    ids=["patch 16", "two heads, three blocks", "patch 56, one block", "three heads"],
)
def test_towers_of_other_sizes(tmp_path: Path, size: Size) -> None:
    assert_right([plain_of(fold) for fold in folds_of(2, size)], tmp_path, count=2)


def test_two_folds_of_identical_weights(five: list[State], tmp_path: Path) -> None:
    embedding, attention, logits = assert_right([five[0], dict(five[0])], tmp_path)
    for output in (embedding, attention, logits):
        np.testing.assert_array_equal(output[:, 0], output[:, 1])


def test_folds_of_different_bases(tmp_path: Path) -> None:
    assert_right([plain_of(fold_of(base_of(seed=n), n)) for n in range(3)], tmp_path)


BLOCK = "vision_model.transformer.resblocks"
# Tensors of the image tower by what LoRA leaves alone, and those it tunes one by one.
APART = [
    f"vision_model.{name}"
    for name in (
        "conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight", "ln_pre.bias",
        "ln_post.weight", "ln_post.bias", "proj",
    )
] + [
    f"{BLOCK}.{number}.{name}.{part}"
    for number in range(2)
    for name in (
        "ln_1", "ln_2", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj", "mlp.c_fc", "mlp.c_proj"
    )
    for part in ("weight", "bias")
]  # fmt: skip


@pytest.mark.parametrize("key", APART)
def test_folds_that_differ_in_one_tensor(tmp_path: Path, key: str) -> None:
    """Without anything else in the tower that differs, so that the fold axis begins to count right there."""
    base = plain_of(fold_of(base_of(), 0, merged=False))
    random = np.random.default_rng(5)
    noise = random.standard_normal(base[key].shape).astype(np.float32) * (np.abs(base[key]).mean() + 0.1)
    folds = [base, base | {key: base[key] + noise}, base]
    embedding, _, _ = assert_right(folds, tmp_path, count=2)
    np.testing.assert_array_equal(embedding[:, 0], embedding[:, 2])
    # A bias of k moves all scores of a query alike, so that the softmax over them does not see it.
    if not key.endswith("k_proj.bias"):
        assert np.abs(embedding[:, 0] - embedding[:, 1]).max() > 1e-4


def test_folds_that_differ_in_everything_but_a_bias(tmp_path: Path) -> None:
    first, second = (plain_of(fold_of(base_of(seed=n), n)) for n in range(2))
    key = f"{BLOCK}.0.mlp.c_fc.bias"
    assert_right([first, second | {key: first[key]}], tmp_path)


# ---------------------------------------------------------------- the graph itself


def test_inputs_outputs_and_their_shapes(five: list[State]) -> None:
    model = graph_of(five)
    onnx.checker.check_model(model, full_check=True)

    def described(values: Any) -> dict[str, list[str | int]]:
        return {
            v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in values
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }

    assert described(model.graph.input) == {"VIEWS": ["N", 9, 50, 50]}
    assert described(model.graph.output) == {
        "EMBEDDING": ["N", 5, 16], "VIEW_ATTENTION": ["N", 5, 9], "LOGITS": ["N", 5, 2]
    }  # fmt: skip
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_weight_is_stored_twice(five: list[State], count: int) -> None:
    weights = [numpy_helper.to_array(tensor) for tensor in graph_of(five[:count]).graph.initializer]
    contents = [(w.dtype.str, w.shape, w.tobytes()) for w in weights]
    assert len(set(contents)) == len(contents) > 30


def test_weights_of_one_content_and_several_names_are_stored_once(five: list[State]) -> None:
    """All layer norms of a fresh model are ones and zeros, and every bias is zero."""
    fresh = {
        key: np.full_like(value, float(key.endswith("weight"))) if value.ndim == 1 else value
        for key, value in five[0].items()
    }
    for folds in ([fresh], [fresh, five[1]]):
        weights = [numpy_helper.to_array(tensor) for tensor in graph_of(folds).graph.initializer]
        contents = [(w.dtype.str, w.shape, w.tobytes()) for w in weights]
        assert len(set(contents)) == len(contents)
    ones = np.ones(SMALL.width, np.float32).tobytes()
    assert sum(tensor.raw_data == ones for tensor in graph_of([fresh]).graph.initializer) == 1


def test_five_folds_take_little_more_than_what_differs(five: list[State]) -> None:
    one, together = graph_of(five[:1]).ByteSize(), graph_of(five).ByteSize()
    apart = sum(graph_of([fold]).ByteSize() for fold in five)
    own = [
        k
        for k in five[0]
        if k.startswith(("vision_model.", "image_projection.", "classifier_image"))
        and not np.array_equal(five[0][k], five[1][k])
    ]
    assert {k.split(".")[-2] for k in own if k.startswith("vision")} == {"q_proj", "k_proj", "v_proj"}
    expected = one + 4 * sum(five[0][k].nbytes for k in own)
    assert together < apart / 2
    assert expected <= together < 1.02 * expected


def test_the_graph_is_the_same_bytes_again(five: list[State]) -> None:
    again = [{key: value.copy() for key, value in fold.items()} for fold in five]
    assert graph_of(five).SerializeToString() == graph_of(again).SerializeToString()


# ---------------------------------------------------------------- batches


def test_a_nodule_s_numbers_are_the_same_in_every_slot_of_every_batch(five: list[State], tmp_path: Path) -> None:
    encoder, views = encoder_of(five, tmp_path), random_views(10, seed=4)
    nodule, others = views[:1], views[1:]
    embedding, attention, logits = encoder(nodule)
    for size in range(1, 10):
        for slot in range(size):
            batch = np.insert(others[: size - 1], slot, nodule[0], axis=0)
            again = [output[slot] for output in encoder(batch)]
            np.testing.assert_allclose(probability(again[2]), probability(logits[0]), rtol=0, atol=1e-6)
            np.testing.assert_allclose(again[0], embedding[0], rtol=0, atol=1e-6)
            np.testing.assert_allclose(again[1], attention[0], rtol=0, atol=1e-6)


def test_an_empty_view_is_a_number(five: list[State], tmp_path: Path) -> None:
    encoder = encoder_of(five, tmp_path)
    for level in (0, 1):
        views = np.full((1, 9, 50, 50), level, np.float32)
        found, expected = encoder(views), plain_encode(five, views)
        np.testing.assert_allclose(found[1], 1 / 9, rtol=0, atol=1e-6)
        np.testing.assert_allclose(probability(found[2]), probability(expected[2]), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- pixels


def test_resizing_is_that_of_scipy() -> None:
    matrix = resize_matrix()
    assert matrix.shape == (224, 50)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-7)
    view = np.random.default_rng(6).random((50, 50))
    expected = ndimage.zoom(view, 224 / 50, order=1)
    np.testing.assert_allclose(matrix @ view @ matrix.T, expected, rtol=0, atol=1e-6)
    corners = np.ix_([0, -1], [0, -1])
    np.testing.assert_allclose((matrix @ view @ matrix.T)[corners], view[corners], rtol=0, atol=1e-7)
