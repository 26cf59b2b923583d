"""A graph that computes anything else than its checkpoint, or not always the same, becomes no release."""

from __future__ import annotations

import re
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
from noduleserve.export.proof.outputs import Outputs, probability, synthetic_views
from noduleserve.export.proof.parity import (
    QUANTITIES,
    TOLERANCE,
    Decisions,
    Link,
    Parity,
    Slots,
    measure_decisions,
    measure_link,
    measure_slots,
)
from noduleserve.export.proof.report import write_report
from noduleserve.export.text.features import Features

Array = np.ndarray[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NaN is what some of them are about


# ---------------------------------------------------------------- what is measured


def steady(views: Array) -> Outputs:
    """Stands for an encoder of two folds: each nodule's outputs are made of its own views only."""
    mean = views.mean(axis=(1, 2, 3), dtype=float)
    logits = np.stack([-mean, 2 * mean], axis=-1)[:, None].repeat(2, axis=1)
    return Outputs(views[:, :2, 0, :4].astype(float), views[:, :2, 0, :9].astype(float), logits)


VIEWS = synthetic_views(4)


def shifted(output: int, by: float, *, nodule: int = 2) -> Outputs:
    """What `steady` makes of the views, one number of the second fold moved."""
    outputs = [o.copy() for o in steady(VIEWS)]
    outputs[output][nodule, 1, -1] += by
    return Outputs(*outputs)


def link(after: Outputs, limits: dict[str, float] = TOLERANCE["fp32"]) -> Link:
    return measure_link("graph", ("one", steady(VIEWS)), ("another", after), limits)


def parity_of(measured: Link, slots: float = 0.0) -> Parity:
    return Parity("synthetic", len(VIEWS), (measured,), Slots([1, 2], slots, 1e-6))


def test_nothing_differs() -> None:
    measured = link(steady(VIEWS))
    assert measured.largest == measured.mean == {key: [0.0, 0.0] for key in QUANTITIES}
    parity = parity_of(measured)
    assert parity.missed == [] and parity.as_dict()["ok"] is True
    parity.require()


@pytest.mark.parametrize("nodule", range(4))
@pytest.mark.parametrize(("output", "numbers"), [(0, 16), (1, 36), (2, 8)])
def test_one_number_that_differs_is_measured_in_its_fold(output: int, numbers: int, nodule: int) -> None:
    measured = link(shifted(output, -2e-3, nodule=nodule))
    name = QUANTITIES[output]
    assert measured.largest[name] == [0, pytest.approx(2e-3, rel=1e-6)]
    assert measured.mean[name] == [0, pytest.approx(2e-3 / numbers, rel=1e-6)]
    assert measured.missed == ([name] if output < 2 else ["logits", "probability"])


def test_the_probability_is_that_of_the_logits() -> None:
    before, after = (probability(o.logits) for o in (steady(VIEWS), shifted(2, 1e-3)))
    measured = link(shifted(2, 1e-3))
    assert max(measured.largest["probability"]) == pytest.approx(np.abs(after - before).max(), rel=1e-9)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_a_number_that_is_none_misses_every_tolerance(output: int) -> None:
    parity = parity_of(link(shifted(output, np.nan), TOLERANCE["int8"]))
    assert parity.as_dict()["ok"] is False
    with pytest.raises(ParityError) as caught:
        parity.require()
    assert caught.value.code == "PARITY_MISSED"
    assert f"graph {QUANTITIES[output]} nan (at most" in caught.value.what
    assert "--allow-parity-failure" in caught.value.mend


@pytest.mark.parametrize("by", [1e-4, np.nan])
@pytest.mark.parametrize(("size", "slot"), [(size, slot) for size in range(1, 9) for slot in range(size)])
def test_every_slot_of_every_batch_size_is_looked_at(size: int, slot: int, by: float) -> None:
    def encode(batch: Array) -> Outputs:
        outputs = steady(batch)
        if len(batch) == size:
            outputs.logits[slot, 0, 1] += by
        return outputs

    slots = measure_slots(encode, VIEWS, steady(VIEWS), range(1, 9))
    assert slots.missed and slots.batch_sizes == list(range(1, 9))
    assert np.isnan(by) or 1e-6 < slots.largest < 1e-4
    assert not measure_slots(steady, VIEWS, steady(VIEWS), range(1, 9)).missed


def test_a_batch_in_which_nodules_change_places_is_found() -> None:
    for size in range(2, 9):

        def encode(batch: Array, size: int = size) -> Outputs:
            turned = batch[::-1] if len(batch) == size else batch
            return steady(turned)

        assert measure_slots(encode, VIEWS, steady(VIEWS), range(1, 9)).missed, size


def test_what_a_threshold_would_decide() -> None:
    def outputs(probabilities: list[float]) -> Outputs:
        p = np.array(probabilities)
        logits = np.stack([np.zeros_like(p), np.log(p / (1 - p))], axis=-1)[:, None].repeat(2, axis=1)
        return Outputs(logits, logits, logits)

    before = [0.9, 0.8, 0.6, 0.51, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03]  # the highest tenth of 11 are 2
    after = [0.9, 0.5, 0.85, 0.49, 0.55, *before[5:]]
    assert measure_decisions(outputs(before), outputs(after)) == Decisions(11, 3, 2, 1)
    assert measure_decisions(outputs(before), outputs(before)) == Decisions(11, 0, 2, 0)


def test_probability() -> None:
    logits = np.array([[0, 0], [1, 3], [3, 1], [-200, 200], [200, -200], [3e38, 3e38]], np.float32)
    expected = [0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 1, np.exp(-400), 0.5]
    np.testing.assert_allclose(probability(logits), expected, rtol=1e-12, atol=0)


def test_the_views_of_the_proof_are_pictures_and_the_same_every_time() -> None:
    assert VIEWS.shape == (4, 9, 50, 50) and VIEWS.dtype == np.float32
    assert VIEWS.min() >= 0 and VIEWS.max() <= 1
    assert VIEWS.std(axis=(2, 3)).min() > 0.005
    assert len(np.unique(VIEWS.reshape(36, -1), axis=0)) == 36
    np.testing.assert_array_equal(synthetic_views(4), VIEWS)


def test_the_report_shows_every_link_and_loads_nothing(tmp_path: Path) -> None:
    parity = Parity("synthetic", 4, (link(shifted(0, 1e-3)),), Slots([1, 2], 0.0, 1e-6), Decisions(11, 3, 2, 1), ["it"])
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, parity)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert page.count("<svg") == 1 and "graph embedding 0.001 (at most 1e-05)" in page
    assert "3 are on another side of 0.5" in page and "Not run here: it" in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(target.startswith("#") for target in links) and "<script" not in page and "@import" not in page


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
