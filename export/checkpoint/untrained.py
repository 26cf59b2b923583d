"""Untrained demo weights: a checkpoint in the published layout, filled with seeded random numbers.

THE WEIGHTS MEAN NOTHING CLINICALLY. A release made of them shows how the deployment works, and how fast,
until a trained model takes its place; the scores are those of a random function of the picture.

The layout is that of the published training code:

    FOLDER/args.txt                  one line, Namespace(key=value, ...)
    FOLDER/fold_K/best_both.pt       {"model": state dict}
    FOLDER/fold_K/calibration.json   {"kind": "beta", "a": ..., "b": ..., "c": ...}, never a pickle

Every tensor has a random stream of its own, named by the seed, the fold and the tensor's key. So a tensor
does not depend on the order of drawing, and what the folds share (the towers without LoRA) is drawn once for
all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

Size = Literal["tiny", "ViT-B/32"]
LoraState = Literal["merged", "unmerged"]

PATCH, SIDE = 32, 224  # pixels
VOCABULARY, CONTEXT = 49408, 77  # tokens
FEATURES, EMBEDDING = 512, 256  # what the towers give, what the heads make of it
RANK, ALPHA = 2, 1
LORA_SCALING = ALPHA / math.sqrt(RANK)  # rank-stabilised
ADAPTED = ("q_proj", "k_proj", "v_proj")
SHARED = -1  # stands for "fold" in the stream of a tensor that all folds have in common


class Towers(NamedTuple):
    """Widths (channels) and depths (blocks) of the two towers."""

    image_width: int
    image_layers: int
    text_width: int
    text_layers: int


SIZES: dict[str, Towers] = {"tiny": Towers(64, 2, 64, 2), "ViT-B/32": Towers(768, 12, 512, 12)}


class Tensor(NamedTuple):
    """How a tensor of the state dict is drawn: normal about a mean; a spread of 0 is a constant."""

    key: str
    shape: tuple[int, ...]
    spread: float
    mean: float = 0.0


# Gains, chosen by trying on CT nodules. With a spread of gain / sqrt(inputs) and a gain of 1 a linear layer
# keeps the size of its input. A plain random network answers almost the same to every picture, since what no
# picture changes (class token, positions, biases, the mean of an activation) drowns the rest. Hence small
# positions and biases, loud attention against quiet MLPs, and a projector whose negative bias lets the ReLU
# pass only what stands out. The classifier's gain spreads a fold's logits by about 1 from nodule to nodule
# and by about 2 from fold to fold: scores all over 0..1, hardly any at its ends.
POSITION_SPREAD = 0.05
BIAS_SPREAD = 0.01
LORA_B_SPREAD = 0.3  # large enough that merging twice or not at all changes every score visibly
ATTENTION_OUT_GAIN = 4.0
MLP_OUT_GAIN = 0.3
PROJECTOR_GAIN = 1.4
PROJECTOR_BIAS = -0.6
POOLING_GAIN = 3.0
CLASSIFIER_GAIN = 30.0
LOGIT_SCALE = math.log(100.0)  # where trained CLIPs end up, so that prompts tell nodules apart


def _linear(name: str, inputs: int, outputs: int, gain: float = 1.0, bias: float = 0.0) -> Iterator[Tensor]:
    """Weight [outputs, inputs] and bias [outputs] of a linear layer."""
    yield Tensor(f"{name}.weight", (outputs, inputs), gain / math.sqrt(inputs))
    yield Tensor(f"{name}.bias", (outputs,), BIAS_SPREAD, bias)


def _norm(name: str, width: int, spread: float = 0.0) -> Iterator[Tensor]:
    """Scale and shift of a layer norm, about 1 and 0."""
    yield Tensor(f"{name}.weight", (width,), spread, 1.0)
    yield Tensor(f"{name}.bias", (width,), spread)


def _block_names(towers: Towers) -> Iterator[tuple[str, int]]:
    """(prefix, width) of every residual attention block of the two towers."""
    for layer in range(towers.image_layers):
        yield f"vision_model.transformer.resblocks.{layer}", towers.image_width
    for layer in range(towers.text_layers):
        yield f"transformer.resblocks.{layer}", towers.text_width


def _shared_tensors(towers: Towers) -> Iterator[Tensor]:
    """What stays as it was before fine-tuning, in every fold: the two towers without LoRA."""
    width = towers.image_width
    yield Tensor("vision_model.conv1.weight", (width, 3, PATCH, PATCH), 1 / PATCH)
    yield Tensor("vision_model.class_embedding", (width,), POSITION_SPREAD)
    yield Tensor("vision_model.positional_embedding", ((SIDE // PATCH) ** 2 + 1, width), POSITION_SPREAD)
    yield Tensor("vision_model.proj", (width, FEATURES), 1 / math.sqrt(width))
    yield from _norm("vision_model.ln_pre", width)
    yield from _norm("vision_model.ln_post", width)
    width = towers.text_width
    yield Tensor("token_embedding.weight", (VOCABULARY, width), 0.5)
    yield Tensor("positional_embedding", (CONTEXT, width), POSITION_SPREAD)
    yield Tensor("text_projection", (width, FEATURES), 1 / math.sqrt(width))
    yield from _norm("ln_final", width)
    for block, width in _block_names(towers):
        for name in ADAPTED:
            yield from _linear(f"{block}.attn.{name}", width, width)
        yield from _linear(f"{block}.attn.proj", width, width, ATTENTION_OUT_GAIN)
        yield from _linear(f"{block}.mlp.c_fc", width, 4 * width)
        yield from _linear(f"{block}.mlp.c_proj", 4 * width, width, MLP_OUT_GAIN)
        yield from _norm(f"{block}.ln_1", width, 0.05)
        yield from _norm(f"{block}.ln_2", width, 0.05)


def _fold_tensors(towers: Towers) -> Iterator[Tensor]:
    """What fine-tuning gives each fold for itself: LoRA's A and B, the heads, the losses' constants."""
    for block, width in _block_names(towers):
        for name in ADAPTED:
            yield Tensor(f"{block}.attn.{name}.w_lora_A", (RANK, width), 1 / math.sqrt(width))
            yield Tensor(f"{block}.attn.{name}.w_lora_B", (width, RANK), LORA_B_SPREAD)
    yield from _linear("image_projection.projector.0", FEATURES, EMBEDDING, PROJECTOR_GAIN, PROJECTOR_BIAS)
    yield from _linear("image_projection.attention.0", EMBEDDING, EMBEDDING // 2, POOLING_GAIN)
    yield from _linear("image_projection.attention.2", EMBEDDING // 2, 1, POOLING_GAIN)
    yield from _linear("semantic_projection.projection", FEATURES, EMBEDDING)
    yield from _linear("semantic_projection.fc", EMBEDDING, EMBEDDING)
    yield from _norm("semantic_projection.layer_norm", EMBEDDING)
    yield from _linear("classifier_image", EMBEDDING, 2, CLASSIFIER_GAIN)
    yield from _linear("classifier_text", EMBEDDING, 2, CLASSIFIER_GAIN)
    yield Tensor("logit_scale", (1,), 0.0, LOGIT_SCALE)
    yield Tensor("pred_criterion_val.weight", (2,), 0.0, 0.5)  # a loss's constant, left by training


def _stream(seed: int, fold: int, name: str) -> np.random.Generator:
    """The random numbers of one tensor."""
    return np.random.default_rng([seed, fold - SHARED, zlib.crc32(name.encode())])


def _draw(tensor: Tensor, seed: int, fold: int) -> torch.Tensor:
    """The tensor itself, float32."""
    values = np.full(tensor.shape, tensor.mean, np.float32)
    if tensor.spread:
        noise = _stream(seed, fold, tensor.key).standard_normal(tensor.shape, np.float32)
        values += np.float32(tensor.spread) * noise
    return torch.from_numpy(values)


def _merge_lora(state: dict[str, torch.Tensor]) -> None:
    """Replace W of every adapted layer by W + scaling * B @ A, leaving the shared W itself alone."""
    for key in [key for key in state if key.endswith(".w_lora_A")]:
        layer = key.removesuffix(".w_lora_A")
        change = state[f"{layer}.w_lora_B"] @ state[f"{layer}.w_lora_A"]
        state[f"{layer}.weight"] = state[f"{layer}.weight"] + LORA_SCALING * change


def _arguments(folds: int) -> argparse.Namespace:
    """What the training command would have been given, as far as the published args.txt records it."""
    return argparse.Namespace(
        dataset_path="untrained", img_dir="untrained", split_dir="untrained", text_dir="untrained",
        n_splits=folds, model="openai_ViT-B/32", tuning="lora", position="all", encoder="both",
        params=["q", "k", "v"], r=RANK, alpha=ALPHA, dropout_rate=0.25, out_dim=EMBEDDING, tau=0.07,
        weighted="diagnosis", clip_loss_weight=1.0, img_loss_weight=1.0, text_loss_weight=1.0,
    )  # fmt: skip


def _calibration(seed: int, fold: int) -> dict[str, str | float]:
    """A beta calibration that bends the score a little: increasing, since a and b are positive."""
    rng = _stream(seed, fold, "calibration")
    a, b, c = rng.uniform((0.6, 0.6, -0.6), (1.2, 1.2, 0.0))
    return {"kind": "beta", "a": float(a), "b": float(b), "c": float(c)}


def write_untrained_checkpoint(
    folder: Path,
    *,
    size: Size = "tiny",
    seed: int,
    folds: int = 5,
    lora_state: LoraState = "merged",
    calibration: bool = True,
) -> None:
    """Write a checkpoint of untrained demo weights.

    `tiny` has two blocks of width 64 in each tower (15 MB a fold), `ViT-B/32` the real dimensions (610 MB a
    fold). `merged`, as the published training saves, holds W + scaling * B @ A in the adapted weights,
    `unmerged` holds W.
    """
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown: one of {', '.join(SIZES)}")
    if lora_state not in ("merged", "unmerged"):
        raise ValueError(f"lora_state {lora_state!r} is unknown: merged or unmerged")
    if folds < 1:
        raise ValueError(f"{folds} folds: a checkpoint has at least one")
    towers = SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "args.txt").write_text(f"{_arguments(folds)}\n")
    shared = {tensor.key: _draw(tensor, seed, SHARED) for tensor in _shared_tensors(towers)}
    for fold in range(folds):
        state = shared | {tensor.key: _draw(tensor, seed, fold) for tensor in _fold_tensors(towers)}
        if lora_state == "merged":
            _merge_lora(state)
        fold_folder = folder / f"fold_{fold}"
        fold_folder.mkdir(exist_ok=True)
        torch.save({"model": state}, fold_folder / "best_both.pt")
        if calibration:
            (fold_folder / "calibration.json").write_text(json.dumps(_calibration(seed, fold)) + "\n")
