"""A graph that computes anything else than its checkpoint, or not always the same, becomes no release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from noduleserve.errors import ParityError
from noduleserve.export import assemble
from noduleserve.export.checkpoint import Checkpoint
from noduleserve.export.proof.parity import TOLERANCE, Parity, compare, parity_views, probability
from noduleserve.export.text.features import Features

Array = np.ndarray[Any, Any]
Outputs = tuple[Array, Array, Array]
QUANTITIES = ["embedding", "view_attention", "probability", "probability_over_batches"]

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NaN is what some of them are about


# ---------------------------------------------------------------- what is measured


def steady(views: Array) -> Outputs:
    """Stands for a graph: each nodule's outputs are made of its own views only."""
    mean = views.mean(axis=(1, 2, 3), dtype=float)
    logits = np.stack([-mean, 2 * mean], axis=-1)[:, None].repeat(2, axis=1)
    return views[:, :2, 0, :4].astype(float), views[:, :2, 0, :9].astype(float), logits


def measured(graph: Callable[[Array], Outputs], reference: Callable[[Array], Outputs] = steady) -> Parity:
    views = parity_views(4)
    return compare(graph, views, reference(views))


def shifted(output: int, by: float, *, nodule: int = 2) -> Callable[[Array], Outputs]:
    def graph(views: Array) -> Outputs:
        outputs = [o.copy() for o in steady(views)]
        place = np.flatnonzero((views == parity_views(4)[nodule]).all(axis=(1, 2, 3)))
        outputs[output][place, 1, -1] += by
        return tuple(outputs)

    return graph


def test_nothing_differs() -> None:
    parity = measured(steady)
    assert parity.largest == dict.fromkeys(QUANTITIES, 0.0)
    assert parity.tolerance == TOLERANCE
    assert parity.missed == []
    parity.require()


@pytest.mark.parametrize("nodule", range(4))
@pytest.mark.parametrize("output", [0, 1])
def test_one_number_that_differs_is_measured(output: int, nodule: int) -> None:
    parity = measured(shifted(output, -3e-5, nodule=nodule))
    assert parity.largest[QUANTITIES[output]] == pytest.approx(3e-5, rel=1e-6)
    assert parity.missed == [QUANTITIES[output]]


@pytest.mark.parametrize(("by", "missed"), [(1e-3, ["probability"]), (1e-5, [])])
def test_logits_are_compared_as_probabilities(by: float, missed: list[str]) -> None:
    parity = measured(shifted(2, by))
    before, after = (probability(graph(parity_views(4))[2]) for graph in (steady, shifted(2, by)))
    assert parity.largest["probability"] == pytest.approx(np.abs(after - before).max(), rel=1e-9)
    assert parity.missed == missed


@pytest.mark.parametrize("output", [0, 1, 2])
def test_a_number_that_is_none_misses_every_tolerance(output: int) -> None:
    for graph, reference in ((shifted(output, np.nan), steady), (steady, shifted(output, np.nan))):
        parity = measured(graph, reference)
        assert QUANTITIES[output] in parity.missed
        with pytest.raises(ParityError) as caught:
            parity.require()
        assert caught.value.code == "PARITY_MISSED"
        assert f"{QUANTITIES[output]} nan" in caught.value.what


@pytest.mark.parametrize("by", [1e-4, np.nan])
@pytest.mark.parametrize("when", ["alone", "turned"])
def test_a_nodule_that_depends_on_its_batch_is_measured(when: str, by: float) -> None:
    views = parity_views(4)

    def graph(batch: Array) -> Outputs:
        outputs = steady(batch)
        alone, turned = len(batch) == 1, len(batch) == 4 and not np.array_equal(batch, views)
        if alone if when == "alone" else turned:
            outputs[2][-1, 0, 1] += by
        return outputs

    parity = measured(graph)
    assert parity.missed == ["probability_over_batches"]
    assert np.isnan(by) or 1e-6 < parity.largest["probability_over_batches"] < 1e-4


def test_probability() -> None:
    logits = np.array([[0, 0], [1, 3], [3, 1], [-200, 200], [200, -200], [3e38, 3e38]], np.float32)
    expected = [0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 1, np.exp(-400), 0.5]
    np.testing.assert_allclose(probability(logits), expected, rtol=1e-12, atol=0)


def test_the_views_of_the_proof_are_pictures_and_the_same_every_time() -> None:
    views = parity_views()
    assert views.shape == (4, 9, 50, 50) and views.dtype == np.float32
    assert views.min() >= 0 and views.max() <= 1
    assert views.std(axis=(2, 3)).min() > 0.005
    assert len(np.unique(views.reshape(36, -1), axis=0)) == 36
    np.testing.assert_array_equal(parity_views(), views)


# ---------------------------------------------------------------- in an export


def export_nudged(
    nudge: Callable[[onnx.ModelProto], None],
    checkpoint: Checkpoint,
    features: Features,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ParityError:
    def build(*arguments: Any) -> onnx.ModelProto:
        model = original(*arguments)
        nudge(model)
        return model

    original = assemble.build_encoder
    monkeypatch.setattr(assemble, "build_encoder", build)
    with pytest.raises(ParityError) as caught:
        assemble.export_release(checkpoint, None, features, folder / "release")
    assert list(folder.iterdir()) == []
    return caught.value


def set_weight(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


def one_more(array: Array) -> Array:
    """One number of the last fold, moved by a fifth of the spread."""
    array.flat[-1] += 0.2 * (np.abs(array).max() or 1)
    return array


@pytest.mark.parametrize(
    "name",
    [
        "positions",
        "block0/attention/q_flat.weight",
        "block0/attention/k_flat.weight",
        "block0/mlp_out.bias",
        "ln_post.weight",
        "projector.bias",
        "pooling_hidden.bias",
        "classifier.weight",
    ],
)
def test_one_number_of_a_weight_nudged(
    name: str, small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nudge(model: onnx.ModelProto) -> None:
        set_weight(model, name, one_more)

    error = export_nudged(nudge, small_checkpoint, small_features, tmp_path, monkeypatch)
    assert error.code == "PARITY_MISSED"
    assert ("view_attention " if "pooling" in name else "embedding " if "/k_" in name else "probability ") in error.what


def test_a_weight_that_is_not_a_number(
    small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nudge(model: onnx.ModelProto) -> None:
        set_weight(model, "classifier.bias", lambda w: w * np.float32(np.nan))

    error = export_nudged(nudge, small_checkpoint, small_features, tmp_path, monkeypatch)
    assert error.code == "PARITY_MISSED" and "probability nan" in error.what


def test_another_epsilon(
    small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nudge(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "epsilon":
                    attribute.f = 1e-3

    export_nudged(nudge, small_checkpoint, small_features, tmp_path, monkeypatch)
