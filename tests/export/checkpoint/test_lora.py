"""Whether LoRA is merged is found out or refused, never guessed; the update is in the weights exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Expected
from small_model import SMALL, Size, State, base_of, fold_of, folds_of, plain_of, write_checkpoint

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import Update, lora, read_checkpoint
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.proof.outputs import onnx_encoder, probability

STATES = [True, False]
Q_PROJ = "vision_model.transformer.resblocks.0.attn.q_proj"
V_PROJ = "transformer.resblocks.0.attn.v_proj"


def name(merged: bool) -> str:
    return "merged" if merged else "unmerged"


def detect(folds: list[State], base: State | None = None, alpha: float = SMALL.alpha) -> str:
    return lora.detect_state(folds, [lora.updates_of(fold, alpha) for fold in folds], base)


def merged_state(fold: State, state: str, twice: bool = False) -> State:
    return lora.merged_state(fold, lora.updates_of(fold, SMALL.alpha), state, twice=twice)


def undecidable(folds: list[State], base: State | None = None, alpha: float = SMALL.alpha) -> str:
    with pytest.raises(CheckpointError) as caught:
        detect(folds, base, alpha)
    assert caught.value.code == "LORA_STATE_UNDECIDABLE"
    assert "--lora-state" in caught.value.mend
    return caught.value.what


def without_updates(folds: list[State], part: str = "") -> list[State]:
    """B of the layers whose name holds `part` is zero, as before the first step of training."""
    return [{k: v * (0 if k.endswith("w_lora_B") and part in k else 1) for k, v in fold.items()} for fold in folds]


# ---------------------------------------------------------------- finding out


@pytest.mark.parametrize("merged", STATES)
@pytest.mark.parametrize("count", [2, 5])
def test_folds_tell(count: int, merged: bool) -> None:
    assert detect(folds_of(count, merged=merged)) == name(merged)


@pytest.mark.parametrize("merged", STATES)
@pytest.mark.parametrize("count", [1, 2])
def test_the_base_tells(count: int, merged: bool) -> None:
    assert detect(folds_of(count, merged=merged), base_of()) == name(merged)


@pytest.mark.parametrize("merged", STATES)
def test_one_fold_without_its_base_tells_nothing(merged: bool) -> None:
    assert "one fold only" in undecidable(folds_of(1, merged=merged))


@pytest.mark.parametrize("base", [None, base_of()])
def test_zero_updates_tell_nothing(base: State | None) -> None:
    assert "look alike" in undecidable(without_updates(folds_of(3, merged=False)), base)


def test_the_same_update_in_every_fold_tells_nothing() -> None:
    assert "look alike" in undecidable(folds_of(1) * 3)


@pytest.mark.parametrize("merged", STATES)
def test_one_tuned_layer_is_enough(merged: bool) -> None:
    folds = folds_of(2, merged=False)
    quiet = without_updates(folds)
    for still, fold in zip(quiet, folds, strict=True):
        still[f"{Q_PROJ}.w_lora_B"] = fold[f"{Q_PROJ}.w_lora_B"]
        if merged:
            still[f"{Q_PROJ}.weight"] = plain_of(fold, times=1)[f"{Q_PROJ}.weight"]
    assert detect(quiet) == name(merged)


@pytest.mark.parametrize("merged", STATES)
def test_folds_of_different_bases_tell_nothing(merged: bool) -> None:
    folds = [fold_of(base_of(seed=number), number, merged=merged) for number in range(2)]
    assert "do not share one base" in undecidable(folds)
    assert "do not share one base" in undecidable(folds, base_of())


@pytest.mark.parametrize("merged", STATES)
def test_one_layer_of_another_base_is_enough_to_refuse(merged: bool) -> None:
    folds = folds_of(3, merged=merged)
    folds[2][f"{V_PROJ}.weight"] = folds[2][f"{V_PROJ}.weight"] + np.float32(1e-3)
    assert "do not share one base" in undecidable(folds)


def test_folds_in_different_states_tell_nothing() -> None:
    assert "do not share one base" in undecidable([folds_of(1, merged=True)[0], folds_of(2, merged=False)[1]])


@pytest.mark.parametrize("alpha", [SMALL.alpha / SMALL.rank**0.5, -SMALL.alpha, 2 * SMALL.alpha])
def test_another_scaling_tells_nothing_of_merged_folds(alpha: float) -> None:
    undecidable(folds_of(2, merged=True), alpha=alpha)


@pytest.mark.parametrize("merged", STATES)
def test_not_a_number_tells_nothing(merged: bool) -> None:
    folds = folds_of(2, merged=merged)
    folds[1][f"{Q_PROJ}.weight"] = folds[1][f"{Q_PROJ}.weight"] * np.float32(np.nan)
    undecidable(folds)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("merged", STATES)
def test_a_fold_is_merged_once_from_either_state(merged: bool) -> None:
    (fold,), (unmerged,) = folds_of(1, merged=merged), folds_of(1, merged=False)
    before = {key: value.copy() for key, value in fold.items()}
    plain = merged_state(fold, name(merged))
    expected = plain_of(unmerged, times=1)
    assert plain.keys() == expected.keys()
    for key, value in expected.items():
        assert plain[key].dtype == np.float32
        np.testing.assert_allclose(plain[key], value, rtol=0, atol=1e-6)
    assert np.abs(plain[f"{Q_PROJ}.weight"] - unmerged[f"{Q_PROJ}.weight"]).max() > 0.01
    assert all(np.array_equal(fold[key], before[key]) for key in before)


def test_merging_a_merged_fold_changes_nothing() -> None:
    (fold,) = folds_of(1)
    for key, value in merged_state(fold, "merged").items():
        np.testing.assert_array_equal(value, fold[key])


@pytest.mark.parametrize("merged", STATES)
def test_twice_adds_the_update_once_more(merged: bool) -> None:
    (fold,), (unmerged,) = folds_of(1, merged=merged), folds_of(1, merged=False)
    twice = merged_state(fold, name(merged), twice=True)
    for key, value in plain_of(unmerged, times=2).items():
        np.testing.assert_allclose(twice[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rank", "alpha", "scaling"), [(4, 2, 1.0), (2, 1, 2**-0.5), (16, 1, 0.25), (1, 3, 3.0)])
def test_the_scaling_is_rank_stabilised(tmp_path: Path, rank: int, alpha: float, scaling: float) -> None:
    assert lora.scaling(rank, alpha) == pytest.approx(scaling, abs=1e-12)
    size = Size(rank=rank, alpha=alpha)
    assert size.scaling == pytest.approx(scaling)
    unmerged = folds_of(2, size, merged=False)
    expected = unmerged[1][f"{Q_PROJ}.weight"].astype(float)
    expected += scaling * unmerged[1][f"{Q_PROJ}.w_lora_B"].astype(float) @ unmerged[1][f"{Q_PROJ}.w_lora_A"]
    for merged in STATES:
        checkpoint = read_checkpoint(write_checkpoint(tmp_path / name(merged), folds_of(2, size, merged=merged), size))
        assert (checkpoint.lora_state, checkpoint.decided_by) == (name(merged), "folds")
        np.testing.assert_allclose(checkpoint.folds[1][f"{Q_PROJ}.weight"], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(64, 64, 2), (1, 3, 1), (65, 33, 5), (200, 8, 16)])
@pytest.mark.parametrize("times", [1, -1, 2])
def test_adding_an_update_rounds_once_and_in_one_order(rows: int, columns: int, rank: int, times: int) -> None:
    random = np.random.default_rng(rank)
    w, a, b = (random.standard_normal(s).astype(np.float32) for s in ((rows, columns), (rank, columns), (rows, rank)))
    got = lora.add_update(w, Update(a, b, 0.7), times)
    expected = np.empty_like(w)
    for i, j in np.ndindex(w.shape):  # number by number, in Python's own float64
        total = 0.0
        for k in range(rank):
            total += float(b[i, k]) * float(a[k, j])
        expected[i, j] = np.float32(total * (times * 0.7) + float(w[i, j]))
    np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_base_and_updates_make_the_fold(tmp_path: Path) -> None:
    for merged in STATES:
        checkpoint = read_checkpoint(write_checkpoint(tmp_path / name(merged), folds_of(3, merged=merged)))
        for fold, updates in zip(checkpoint.folds, checkpoint.updates, strict=True):
            assert updates.keys() == checkpoint.base.keys() and len(updates) == 9
            for layer, update in updates.items():
                assert update.scale == pytest.approx(SMALL.scaling) and update.alpha == SMALL.alpha
                whole = lora.add_update(checkpoint.base[layer], update)
                np.testing.assert_allclose(whole, fold[f"{layer}.weight"], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- in a checkpoint


def test_both_states_of_a_checkpoint_give_the_same_model(tmp_path: Path) -> None:
    checkpoints = [read_checkpoint(write_checkpoint(tmp_path / name(m), folds_of(3, merged=m))) for m in STATES]
    assert [c.lora_state for c in checkpoints] == ["merged", "unmerged"]
    for one, other in zip(*(c.folds for c in checkpoints), strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_allclose(one[key], other[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("says", STATES)
@pytest.mark.parametrize("is_merged", STATES)
def test_lora_state_overrules_what_the_folds_say(tmp_path: Path, is_merged: bool, says: bool) -> None:
    folds = folds_of(2, merged=is_merged)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds), lora_state=name(says))
    assert (checkpoint.lora_state, checkpoint.decided_by) == (name(says), "--lora-state")
    for read, fold in zip(checkpoint.folds, folds, strict=True):
        expected = plain_of(fold, times=0 if says else 1)
        np.testing.assert_allclose(read[f"{V_PROJ}.weight"], expected[f"{V_PROJ}.weight"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("says", STATES)
def test_lora_state_decides_with_one_fold(tmp_path: Path, says: bool) -> None:
    folder = write_checkpoint(tmp_path, folds_of(1))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert caught.value.code == "LORA_STATE_UNDECIDABLE"
    assert read_checkpoint(folder, lora_state=name(says)).lora_state == name(says)


# ---------------------------------------------------------------- the published script


def test_reproducing_the_published_script_touches_fold_0_only(tmp_path: Path) -> None:
    folds = folds_of(3)
    folder = write_checkpoint(tmp_path, folds)
    right, published = read_checkpoint(folder), read_checkpoint(folder, reproduce_published=True)
    assert (right.reproduces_published, published.reproduces_published) == (False, True)
    for key in right.folds[0]:
        for number in (1, 2):
            np.testing.assert_array_equal(published.folds[number][key], right.folds[number][key])
        expected = plain_of(folds[0], times=1)[key]  # once more than the files hold
        np.testing.assert_allclose(published.folds[0][key], expected, rtol=0, atol=1e-6)
    changed = {k for k in right.folds[0] if not np.array_equal(published.folds[0][k], right.folds[0][k])}
    assert changed == {f"{layer}.weight" for layer in lora.lora_layers(folds[0])}


def test_the_published_script_s_numbers(published_checkpoint: Path, expected: Expected, tmp_path: Path) -> None:
    views = expected.preprocessing["views"]
    probabilities = []
    for reproduce in (False, True):
        checkpoint = read_checkpoint(published_checkpoint, reproduce_published=reproduce)
        file = tmp_path / "encoder.onnx"
        onnx.save(build_encoder(checkpoint.folds, checkpoint.dimensions), file)
        probabilities.append(probability(onnx_encoder(file)(views)[2]).T)  # [F, nodules]
    right, published = probabilities
    np.testing.assert_allclose(right, expected.model["prob"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(published[1:], expected.model["prob"][1:], rtol=0, atol=1e-4)
    np.testing.assert_allclose(published[0], expected.model["prob_published_script_fold0"], rtol=0, atol=1e-4)
    assert np.abs(published[0] - right[0]).max() > 0.01
