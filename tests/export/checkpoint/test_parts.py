"""A checkpoint's base file, what the folds share, and reading the part that a text bank needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import Size, State, as_torch, base_of, folds_of, plain_of, write_checkpoint

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import Checkpoint, read_checkpoint

Q_PROJ = "vision_model.transformer.resblocks.0.attn.q_proj"


def refusal(folder: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder, **options)
    return caught.value


def put_nan(state: State, key: str) -> None:
    state[key] = state[key].copy()
    state[key].flat[-1] = np.nan


# ---------------------------------------------------------------- the base


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_base_decides_with_one_fold(tmp_path: Path, wrapped: bool) -> None:
    base, file = as_torch(base_of()), tmp_path / "base.pt"
    torch.save({"model": base} if wrapped else base, file)
    for merged in (True, False):
        fold = folds_of(1, merged=merged)[0]
        checkpoint: Checkpoint = read_checkpoint(write_checkpoint(tmp_path / "c", [fold]), base=file)
        assert (checkpoint.lora_state, checkpoint.decided_by) == ("merged" if merged else "unmerged", "base")
        for key, value in plain_of(fold, times=0 if merged else 1).items():
            np.testing.assert_allclose(checkpoint.folds[0][key], value, rtol=0, atol=1e-6)


def test_a_base_of_another_model(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", folds_of(1))
    other = base_of()
    del other[f"{Q_PROJ}.weight"]
    torch.save(as_torch(other), tmp_path / "lacking.pt")
    error = refusal(folder, base=tmp_path / "lacking.pt")
    assert error.code == "CHECKPOINT_KEYS" and "lacking.pt" in error.what
    torch.save(as_torch(base_of(Size(width=128))), tmp_path / "wider.pt")
    error = refusal(folder, base=tmp_path / "wider.pt")
    assert error.code == "CHECKPOINT_SHAPES" and "wider.pt" in error.what
    assert refusal(folder, base=tmp_path / "nowhere.pt").code == "CHECKPOINT_UNREADABLE"


# ---------------------------------------------------------------- what is kept in memory, and what is read


def test_what_the_folds_share_is_in_memory_once(tmp_path: Path) -> None:
    for merged in (True, False):
        folds = read_checkpoint(write_checkpoint(tmp_path / str(merged), folds_of(3, merged=merged))).folds
        for key in folds[0]:
            alike = all(np.array_equal(folds[0][key], fold[key]) for fold in folds[1:])
            assert all((folds[0][key] is fold[key]) == alike for fold in folds[1:]), key
        assert folds[0]["token_embedding.weight"] is folds[2]["token_embedding.weight"]


def test_minus_zero_and_zero_are_not_shared(tmp_path: Path) -> None:
    folds = folds_of(2)
    for fold, zero in zip(folds, (0.0, -0.0), strict=True):
        fold["ln_final.bias"] = np.full_like(fold["ln_final.bias"], zero)
    read = read_checkpoint(write_checkpoint(tmp_path, folds)).folds
    assert [bool(np.signbit(fold["ln_final.bias"]).all()) for fold in read] == [False, True]


@pytest.mark.parametrize("merged", [True, False])
def test_the_text_part_is_that_of_the_whole(tmp_path: Path, merged: bool) -> None:
    folder = write_checkpoint(tmp_path, folds_of(3, merged=merged))
    whole, text = read_checkpoint(folder), read_checkpoint(folder, part="text")
    assert (text.sha256, text.dimensions, text.lora_state) == (whole.sha256, whole.dimensions, whole.lora_state)
    images = ("vision_model.", "image_projection.", "classifier_")
    for part, fold in zip(text.folds, whole.folds, strict=True):
        assert part.keys() == {key for key in fold if not key.startswith(images)}
        for key in part:
            np.testing.assert_array_equal(part[key], fold[key])
    assert text.base.keys() == {layer for layer in whole.base if not layer.startswith("vision_model.")}


def test_the_text_part_does_not_look_at_the_image_tower_s_numbers(tmp_path: Path) -> None:
    folds = folds_of(2)
    put_nan(folds[1], "vision_model.proj")
    folder = write_checkpoint(tmp_path, folds)
    assert refusal(folder).code == "CHECKPOINT_NOT_FINITE"
    assert len(read_checkpoint(folder, part="text").folds) == 2
    put_nan(folds[1], "text_projection")
    assert refusal(write_checkpoint(tmp_path, folds), part="text").code == "CHECKPOINT_NOT_FINITE"
