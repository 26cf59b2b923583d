"""Untrained demo checkpoints: reproducible, in the published layout, with LoRA merged or not as asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import plain

from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint

State = dict[str, torch.Tensor]


def load(folder: Path, fold: int = 0) -> State:
    return torch.load(folder / f"fold_{fold}" / "best_both.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    write_untrained_checkpoint(folder, seed=7)
    return folder


@pytest.fixture(scope="module")
def unmerged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unmerged")
    write_untrained_checkpoint(folder, seed=7, folds=2, lora_state="unmerged", calibration=False)
    return folder


def described(state: State) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (value.shape, value.dtype) for key, value in state.items()}


def test_keys_shapes_and_types_are_those_of_the_published_layout(checkpoint: Path, published_checkpoint: Path) -> None:
    for fold in range(5):
        assert described(load(checkpoint, fold)) == described(load(published_checkpoint, fold))


def test_args_record_the_same_settings_as_the_published_layout(checkpoint: Path, published_checkpoint: Path) -> None:
    def settings(folder: Path) -> dict[str, Any]:
        text = (folder / "args.txt").read_text().strip()
        assert text.startswith("Namespace(")
        return eval(text, {"__builtins__": {}, "Namespace": dict})

    ours, published = settings(checkpoint), settings(published_checkpoint)
    assert ours.keys() == published.keys()
    for key in ("model", "tuning", "params", "encoder", "position", "r", "alpha", "out_dim", "n_splits"):
        assert ours[key] == published[key]


def test_a_seed_gives_the_same_tensors_again(checkpoint: Path, tmp_path: Path) -> None:
    write_untrained_checkpoint(tmp_path / "again", seed=7, folds=2)
    write_untrained_checkpoint(tmp_path / "other", seed=8, folds=1)
    for fold in range(2):  # the number of folds changes none of them
        state, again = load(checkpoint, fold), load(tmp_path / "again", fold)
        assert all(torch.equal(state[key], again[key]) for key in state)
        assert all(value.is_contiguous() and value.isfinite().all() for value in state.values())
    state, other = load(checkpoint), load(tmp_path / "other")
    assert not torch.equal(state["vision_model.proj"], other["vision_model.proj"])


def test_merged_weights_are_the_unmerged_ones_plus_scaled_lora(checkpoint: Path, unmerged: Path) -> None:
    for fold in range(2):
        merged, plus_lora = load(checkpoint, fold), plain.add_lora(load(unmerged, fold), 1 / math.sqrt(2))
        for key in merged:
            torch.testing.assert_close(merged[key], plus_lora[key], rtol=0, atol=1e-6)
        name = "vision_model.transformer.resblocks.0.attn.q_proj.weight"
        assert (merged[name] - load(unmerged, fold)[name]).abs().max() > 0.01


def test_folds_share_the_towers_and_nothing_else(checkpoint: Path, unmerged: Path) -> None:
    first, second = load(unmerged, 0), load(unmerged, 1)
    own = {key for key in first if not torch.equal(first[key], second[key])}
    assert own
    assert all("lora" in key or key.startswith(("image_proj", "semantic_proj", "classifier")) for key in own)
    assert {key.rsplit(".", 1)[-1] for key in own if "lora" in key} == {"w_lora_A", "w_lora_B"}
    name = "transformer.resblocks.1.attn.v_proj.weight"
    assert not torch.equal(load(checkpoint, 0)[name], load(checkpoint, 1)[name])


def test_calibrations_are_plain_increasing_numbers(checkpoint: Path, unmerged: Path) -> None:
    for fold in range(5):
        numbers = json.loads((checkpoint / f"fold_{fold}" / "calibration.json").read_text())
        assert numbers.keys() == {"kind", "a", "b", "c"}
        assert numbers["kind"] == "beta"
        p = np.linspace(0.01, 0.99, 50)
        calibrated = plain.beta_calibrated(p, numbers["a"], numbers["b"], numbers["c"])
        assert (np.diff(calibrated) > 0).all()
    assert not list(unmerged.rglob("calibration.json"))


def test_scores_differ_between_nodules_and_are_not_all_at_an_end(checkpoint: Path) -> None:
    # Bright balls of growing size in dark lung, in place of CT.
    z, y, x = np.meshgrid(*[np.arange(100) - 50] * 3, indexing="ij")
    distance = np.sqrt(x * x + 0.7 * y * y + 1.3 * z * z)
    cubes = [np.where(distance < radius, 40.0, -850.0) for radius in (4, 9, 16, 30)]
    states = [load(checkpoint, fold) for fold in range(5)]
    prob = plain.score_views([plain.views_of(cube) for cube in cubes], states)["prob"]
    assert np.ptp(prob, axis=1).max() > 0.05
    assert np.all((prob.mean(axis=0) > 0.02) & (prob.mean(axis=0) < 0.98))


@pytest.mark.parametrize("wrong", [{"size": "ViT-L/14"}, {"lora_state": "both"}, {"folds": 0}])
def test_what_cannot_be_written_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        write_untrained_checkpoint(tmp_path, seed=1, **wrong)
    assert not list(tmp_path.iterdir())
