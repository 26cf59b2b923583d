"""LoRA beside the weights, run by PEFT, computes what the merged weights do; with another scaling it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_model import Size, folds_of, random_views, tuned_folds_of, write_checkpoint

from noduleserve.export.checkpoint import Checkpoint, read_checkpoint
from noduleserve.export.checkpoint.unmerged import UnmergedModel
from noduleserve.export.proof.torch_model import TorchModel

VIEWS = random_views(2)
LARGE = Size(layers=1, text_layers=1, rank=4, alpha=3)


def differences(checkpoint: Checkpoint, unmerged: UnmergedModel) -> list[float]:
    """Largest difference to the merged model over embedding, attention and logits, of each fold."""
    merged, largest = TorchModel(checkpoint.dimensions), []
    for number, fold in enumerate(checkpoint.folds):
        merged.load(fold)
        unmerged.load(number)
        pairs = zip(merged.encode_views(VIEWS), unmerged.encode_views(VIEWS), strict=True)
        largest.append(max(float(np.abs(a - b).max()) for a, b in pairs))
    return largest


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("size", [Size(), LARGE])
def test_it_agrees_with_the_merged_model(tmp_path: Path, size: Size, merged: bool) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(3, size, merged=merged), size))
    assert max(differences(checkpoint, UnmergedModel(checkpoint))) < 1e-5


@pytest.mark.parametrize("merged", [True, False])
def test_it_does_not_agree_when_lora_is_scaled_by_alpha_over_r(tmp_path: Path, merged: bool) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(3, merged=merged)))
    plain = [{layer: replace(u, rank_stabilised=False) for layer, u in fold.items()} for fold in checkpoint.updates]
    assert min(differences(checkpoint, UnmergedModel(replace(checkpoint, updates=tuple(plain))))) > 1e-3


def test_it_does_not_agree_when_one_layer_of_one_fold_is_left_out(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(2)))
    image = next(layer for layer in checkpoint.updates[1] if layer.startswith("vision_model."))
    fewer = {layer: u for layer, u in checkpoint.updates[1].items() if layer != image}
    changed = replace(checkpoint, updates=(checkpoint.updates[0], fewer))
    base = checkpoint.folds[1] | {f"{image}.weight": checkpoint.base[image]}
    unmerged = UnmergedModel(replace(changed, folds=(checkpoint.folds[0], base)))
    same, other = differences(checkpoint, unmerged)
    assert same < 1e-5 < 1e-3 < other


def test_the_published_script_s_second_update_is_in_it(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(2)), reproduce_published=True)
    assert max(differences(checkpoint, UnmergedModel(checkpoint))) < 1e-5


def test_ranks_and_scalings_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(2, merged=False)))
    first = next(iter(checkpoint.updates[0]))
    updates = []
    for fold in checkpoint.updates:
        a, b = (np.concatenate([fold[first].a] * 2), np.concatenate([fold[first].b] * 2, axis=1))
        updates.append(dict(fold) | {first: replace(fold[first], a=a / 2, b=b, scale=0.5 * 2**0.5, alpha=2**0.5)})
    doubled = replace(checkpoint, updates=tuple(updates))  # rank 4, scaled by sqrt(2) / 2: the same product
    assert max(differences(checkpoint, UnmergedModel(doubled))) < 1e-5


def test_without_lora_it_is_the_model_itself(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, tuned_folds_of(2, "ft"), tuning="ft"))
    assert max(differences(checkpoint, UnmergedModel(checkpoint))) < 1e-5


def test_texts_go_the_same_way(tmp_path: Path) -> None:
    size = Size(layers=1, tokens=49408)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, folds_of(2, size), size))
    merged, unmerged = TorchModel(checkpoint.dimensions), UnmergedModel(checkpoint)
    merged.load(checkpoint.folds[1])
    unmerged.load(1)
    prompts = ["a spiculated nodule", "a nodule"]
    np.testing.assert_allclose(unmerged.encode_texts(prompts), merged.encode_texts(prompts), rtol=0, atol=1e-5)
