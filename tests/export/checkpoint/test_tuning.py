"""Checkpoints that were tuned without LoRA, and towers of every size that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from small_model import (
    Size,
    as_torch,
    folds_of,
    plain_encode,
    random_views,
    tuned_folds_of,
    write_checkpoint,
    write_fold,
)

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.layout import KNOWN, Dimensions, Tower, check_model
from noduleserve.export.proof.torch_model import TorchModel

NAMES = {"ViT-B/32": "ViT-B-32", "ViT-B/16": "ViT-B-16", "ViT-L/14": "ViT-L-14"}


def write(folder: Path, tuning: str, count: int = 2, **changes: Any) -> Path:
    """A checkpoint whose args.txt has neither r nor alpha."""
    write_checkpoint(folder, tuned_folds_of(count, tuning), tuning=tuning)
    args = {"n_splits": count, "model": "openai_ViT-B/32", "tuning": tuning} | changes
    (folder / "args.txt").write_text(f"Namespace({', '.join(f'{k}={v!r}' for k, v in args.items())})\n")
    return folder


@pytest.mark.parametrize("tuning", ["ft", "pt"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_weights_are_taken_as_they_are(tmp_path: Path, tuning: str, count: int) -> None:
    checkpoint = read_checkpoint(write(tmp_path, tuning, count))
    folds = tuned_folds_of(count, tuning)
    assert (checkpoint.tuning, checkpoint.lora_state, checkpoint.updates, checkpoint.base) == (tuning, None, (), {})
    assert len(checkpoint.folds) == count
    for read, fold in zip(checkpoint.folds, folds, strict=True):
        assert read.keys() == fold.keys()
        for key in fold:
            np.testing.assert_array_equal(read[key], fold[key])


@pytest.mark.parametrize("tuning", ["ft", "pt"])
def test_they_compute_what_the_plain_reference_does(tmp_path: Path, tuning: str) -> None:
    checkpoint, views = read_checkpoint(write(tmp_path, tuning)), random_views(2)
    model, expected = TorchModel(checkpoint.dimensions), plain_encode(tuned_folds_of(2, tuning), views)
    for number, fold in enumerate(checkpoint.folds):
        model.load(fold)
        for got, whole in zip(model.encode_views(views), expected, strict=True):
            np.testing.assert_allclose(got, whole[:, number], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tuning", ["ft", "pt"])
def test_lora_where_there_must_be_none(tmp_path: Path, tuning: str) -> None:
    folder = write(tmp_path, tuning)
    write_fold(folder, 1, {"model": as_torch(folds_of(2)[1])})
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert caught.value.code == "CHECKPOINT_TUNING" and "fold_1" in caught.value.what


@pytest.mark.parametrize("asked", ["merged", "unmerged"])
def test_a_lora_state_where_there_is_no_lora(tmp_path: Path, asked: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write(tmp_path, "ft"), lora_state=asked)
    assert caught.value.code == "LORA_STATE_WRONG"


# ---------------------------------------------------------------- towers of every size


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_that_of_open_clip_s_own_model(name: str) -> None:
    with torch.device("meta"):
        model = CLIP(**open_clip.get_model_config(NAMES[name]))
    expected: dict[str, tuple[int, ...]] = {}
    for key, tensor in model.state_dict().items():
        renamed = key.replace("visual.", "vision_model.", 1).replace(".attn.out_proj.", ".attn.proj.")
        if ".attn.in_proj_" in renamed:
            rows, *columns = tensor.shape
            for part in ("q_proj", "k_proj", "v_proj"):
                expected[renamed.replace("in_proj_", f"{part}.")] = (rows // 3, *columns)
        else:
            expected[renamed] = tuple(tensor.shape)
    heads = ("image_projection.", "semantic_projection.", "classifier_")
    table = {key: shape for key, shape in KNOWN[name].shapes({}).items() if not key.startswith(heads)}
    assert table == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_sizes_of_a_known_model_are_read_off_its_weights(name: str) -> None:
    known = KNOWN[name]
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in known.shapes({}).items()}
    assert Dimensions.of(state, "here") == known
    check_model(known, {"model": f"openai_{name}"}, "here")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_last_block_that_no_fold_has_is_missed(name: str, tower: str) -> None:
    blocks = {"image": "vision_model.transformer", "text": "transformer"}[tower]
    last = f"{blocks}.resblocks.{getattr(KNOWN[name], tower).layers - 1}."
    shapes = KNOWN[name].shapes({}).items()
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes if not key.startswith(last)}
    with pytest.raises(CheckpointError) as caught:
        check_model(Dimensions.of(state, "here"), {"model": f"openai_{name}"}, "here")
    assert caught.value.code == "CHECKPOINT_MODEL" and f"blocks of the {tower} tower" in caught.value.what


def test_another_model_than_the_one_that_is_named() -> None:
    with pytest.raises(CheckpointError, match="pixels a patch"):
        check_model(KNOWN["ViT-B/16"], {"model": "openai_ViT-B/32"}, "here")
    small = Dimensions(Tower(64, 2), Tower(64, 2), 32, 49408, 512, 256)
    check_model(small, {"model": "openai_ViT-B/32"}, "a smaller one of the same family")
    for model in ({}, {"model": None}, {"model": "ViT-Z/1"}):
        check_model(KNOWN["ViT-L/14"], model, "nothing known of it")


def test_a_checkpoint_that_lacks_a_block_in_all_folds(tmp_path: Path) -> None:
    size = Size(text_width=512, text_layers=1)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write_checkpoint(tmp_path, folds_of(2, size), size))
    assert caught.value.code == "CHECKPOINT_MODEL" and "12" in caught.value.what


@pytest.mark.parametrize("size", [Size(patch=16), Size(patch=14, width=128, text_width=128, embed=48)])
def test_other_patches_compute_what_the_plain_reference_does(tmp_path: Path, size: Size) -> None:
    folds, views = folds_of(2, size), random_views(1)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds, size))
    model, expected = TorchModel(checkpoint.dimensions), plain_encode(folds, views)
    model.load(checkpoint.folds[1])
    for got, whole in zip(model.encode_views(views), expected, strict=True):
        np.testing.assert_allclose(got, whole[:, 1], rtol=0, atol=1e-5)
