"""Small random models in the published layout, spelt out key by key: states, checkpoint folders, plain scores.

Nothing here shares code with the product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import plain

Array = np.ndarray[Any, Any]
State = dict[str, Array]
ALL_TOKENS = 49408  # of CLIP's tokenizer; a model that encodes no text does with fewer


@dataclass(frozen=True)
class Size:
    """Everything about a model's size; widths are multiples of 64."""

    width: int = 64
    layers: int = 2
    patch: int = 32
    text_width: int = 64
    text_layers: int = 1
    tokens: int = 11
    embed: int = 32
    out: int = 16
    rank: int = 2
    alpha: float = 1

    @property
    def scaling(self) -> float:
        """Rank-stabilised."""
        return self.alpha / math.sqrt(self.rank)


SMALL = Size()
LORA_LAYERS = ("q_proj", "k_proj", "v_proj")


def _blocks(size: Size) -> list[tuple[str, int]]:
    """Prefix and width of each attention block of both towers."""
    image = [(f"vision_model.transformer.resblocks.{n}", size.width) for n in range(size.layers)]
    return image + [(f"transformer.resblocks.{n}", size.text_width) for n in range(size.text_layers)]


def base_of(size: Size = SMALL, seed: int = 0) -> State:
    """What the folds share: both towers before fine-tuning."""
    random = np.random.default_rng(seed)
    state: State = {}

    def draw(key: str, *shape: int, gain: float = 1.0, mean: float = 0.0) -> None:
        state[key] = (mean + gain * random.standard_normal(shape)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        draw(f"{name}.weight", rows, columns, gain=1 / math.sqrt(columns))
        draw(f"{name}.bias", rows, gain=0.05)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.weight", width, gain=0.05, mean=1)
        draw(f"{name}.bias", width, gain=0.05)

    draw("vision_model.conv1.weight", size.width, 3, size.patch, size.patch, gain=1 / size.patch)
    draw("vision_model.class_embedding", size.width, gain=0.1)
    draw("vision_model.positional_embedding", (224 // size.patch) ** 2 + 1, size.width, gain=0.1)
    draw("vision_model.proj", size.width, size.embed, gain=1 / math.sqrt(size.width))
    draw("token_embedding.weight", size.tokens, size.text_width, gain=0.5)
    draw("positional_embedding", 77, size.text_width, gain=0.1)
    draw("text_projection", size.text_width, size.embed, gain=1 / math.sqrt(size.text_width))
    for name, width in (
        ("vision_model.ln_pre", size.width),
        ("vision_model.ln_post", size.width),
        ("ln_final", size.text_width),
    ):
        norm(name, width)
    for block, width in _blocks(size):
        for name in (*LORA_LAYERS, "proj"):
            linear(f"{block}.attn.{name}", width, width)
        linear(f"{block}.mlp.c_fc", 4 * width, width)
        linear(f"{block}.mlp.c_proj", width, 4 * width)
        norm(f"{block}.ln_1", width)
        norm(f"{block}.ln_2", width)
    return state


def fold_of(base: Mapping[str, Array], number: int, size: Size = SMALL, *, merged: bool = True) -> State:
    """One fold as its file holds it: the base, A and B of LoRA (added to the weights where merged), the heads."""
    random = np.random.default_rng([77, number])
    state = dict(base)

    def draw(key: str, *shape: int, gain: float) -> None:
        state[key] = (gain * random.standard_normal(shape)).astype(np.float32)

    for block, width in _blocks(size):
        for name in LORA_LAYERS:
            layer = f"{block}.attn.{name}"
            draw(f"{layer}.w_lora_A", size.rank, width, gain=1 / math.sqrt(width))
            draw(f"{layer}.w_lora_B", width, size.rank, gain=0.3)
            if merged:
                change = state[f"{layer}.w_lora_B"] @ state[f"{layer}.w_lora_A"]
                state[f"{layer}.weight"] = state[f"{layer}.weight"] + np.float32(size.scaling) * change
    for name, rows, columns, gain in (
        ("image_projection.projector.0", size.out, size.embed, 1.4),
        ("image_projection.attention.0", size.out // 2, size.out, 3.0),
        ("image_projection.attention.2", 1, size.out // 2, 3.0),
        ("semantic_projection.projection", size.out, size.embed, 1.0),
        ("semantic_projection.fc", size.out, size.out, 1.0),
        ("classifier_image", 2, size.out, 10.0),
        ("classifier_text", 2, size.out, 10.0),
    ):
        draw(f"{name}.weight", rows, columns, gain=gain / math.sqrt(columns))
        draw(f"{name}.bias", rows, gain=0.05)
    state["semantic_projection.layer_norm.weight"] = np.ones(size.out, np.float32)
    state["semantic_projection.layer_norm.bias"] = np.zeros(size.out, np.float32)
    state["logit_scale"] = np.array(2.5 + 0.1 * number, np.float32)
    return state


def folds_of(count: int, size: Size = SMALL, *, merged: bool = True) -> list[State]:
    """Folds of one training run."""
    base = base_of(size)
    return [fold_of(base, number, size, merged=merged) for number in range(count)]


def plain_of(state: Mapping[str, Array], size: Size = SMALL, times: int = 0) -> State:
    """The weights without A and B, after adding scaling * B @ A some times."""
    torched = as_torch(state)
    for _ in range(times):
        torched = plain.add_lora(torched, size.scaling)
    return {key: value.numpy() for key, value in torched.items() if ".w_lora_" not in key}


def as_torch(state: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """The same tensors in torch."""
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def write_checkpoint(folder: Path, folds: Sequence[Mapping[str, Array]], size: Size = SMALL, **changes: Any) -> Path:
    """A checkpoint folder in the published layout; `changes` are made to its args.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, state in enumerate(folds):
        write_fold(folder, number, {"model": as_torch(state)})
    args = {"n_splits": len(folds), "model": "openai_ViT-B/32", "tuning": "lora", "params": ["q", "k", "v"]}
    args |= {"r": size.rank, "alpha": size.alpha} | changes
    text = ", ".join(f"{key}={value!r}" for key, value in args.items())
    (folder / "args.txt").write_text(f"Namespace({text})\n")
    return folder


def write_fold(folder: Path, number: int, content: Any) -> Path:
    """Save anything as one fold's file."""
    file = folder / f"fold_{number}" / "best_both.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file


def random_views(count: int, seed: int = 0) -> Array:
    """Noise from coarse to fine, float32 [count, 9, 50, 50] in 0..1."""
    random = np.random.default_rng(seed)
    views = np.empty((count, 9, 50, 50), np.float32)
    for nodule, view in np.ndindex(count, 9):
        block = (50, 10, 5, 2)[(nodule + view) % 4]
        coarse = random.random((50 // block, 50 // block), np.float32)
        views[nodule, view] = np.kron(coarse, np.ones((block, block), np.float32))
    return views


def plain_encode(folds: Sequence[Mapping[str, Array]], views: Array) -> tuple[Array, Array, Array]:
    """The plain reference's embedding [N, F, out], attention [N, F, 9], logits [N, F, 2] of plain weights."""
    states = [as_torch(fold) for fold in folds]
    pixels = [torch.from_numpy(plain.pixels_of(nodule)).float() for nodule in views]
    runs = [[plain.image_forward(state, p) for state in states] for p in pixels]
    embedding, attention, logits = (np.stack([[fold[i].numpy() for fold in run] for run in runs]) for i in range(3))
    return embedding, attention, logits


def without_lora(state: Mapping[str, Array]) -> State:
    """A fold as full fine-tuning would leave it: no A and no B."""
    return {key: value for key, value in state.items() if ".w_lora_" not in key}


def tuned_folds_of(count: int, tuning: str, size: Size = SMALL) -> list[State]:
    """Folds of another tuning than LoRA: `ft` moves every weight of the towers, `pt` none."""
    folds = [without_lora(fold) for fold in folds_of(count, size, merged=False)]
    random = np.random.default_rng(5)
    for fold in folds if tuning == "ft" else ():
        for key in base_of(size):
            fold[key] = fold[key] + 0.01 * random.standard_normal(fold[key].shape).astype(np.float32)
    return folds


def open_clip_keys(state: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """The towers of a fold or base under OpenAI's and open_clip's names, q, k and v in one matrix."""
    packed: dict[str, torch.Tensor] = {}
    heads = ("image_projection.", "semantic_projection.", "classifier_")
    for key, value in as_torch(state).items():
        if key.startswith(heads) or ".w_lora_" in key or ".k_proj." in key or ".v_proj." in key:
            continue
        name = "visual." + key.removeprefix("vision_model.") if key.startswith("vision_model.") else key
        if ".q_proj." in key:
            parts = [torch.from_numpy(state[key.replace("q_proj", part)]) for part in LORA_LAYERS]
            packed[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        else:
            packed[name.replace(".attn.proj.", ".attn.out_proj.")] = value
    return packed
