"""The two spellings of CLIP's weights: the published keys, and those of OpenAI and open_clip.

OpenAI and open_clip keep q, k and v of an attention in one matrix, `attn.in_proj_weight`; the published layout keeps
them apart. In the modules that LoRA is injected into they are apart as well, under open_clip's names otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

HEADS = ("image_projection.", "semantic_projection.", "classifier_")
QKV = ("q_proj", "k_proj", "v_proj")
State = Mapping[str, NDArray[np.float32]]


def open_clip_name(published: str) -> str:
    """A published key or layer in open_clip's spelling, q, k and v still apart."""
    name = f"{published}.".replace("vision_model.", "visual.").replace(".attn.proj.", ".attn.out_proj.")
    return name.removesuffix(".")


def published_name(open_clip: str) -> str:
    """An open_clip key or layer, q, k and v apart, in the published spelling."""
    name = f"{open_clip}.".replace(".attn.out_proj.", ".attn.proj.")
    return (name.replace("visual.", "vision_model.", 1) if name.startswith("visual.") else name).removesuffix(".")


def packed(state: State) -> dict[str, NDArray[np.float32]]:
    """Published keys to open_clip's, without the heads; q, k and v become one matrix where all three are there."""
    renamed: dict[str, NDArray[np.float32]] = {}
    for key, value in state.items():
        if key.startswith(HEADS):
            continue
        own = next((name for name in QKV if f".attn.{name}." in key), None)
        parts = [key.replace(f".{own}.", f".{name}.") for name in QKV] if own else []
        if not own or not all(part in state for part in parts):
            renamed[open_clip_name(key)] = value
        elif own == QKV[0]:
            renamed[open_clip_name(key).replace("q_proj.", "in_proj_")] = np.concatenate([state[p] for p in parts])
    return renamed


def unpacked(state: State, where: str) -> dict[str, NDArray[np.float32]]:
    """open_clip's keys to the published ones; q, k and v are views of the packed array, not copies.

    Raises:
        CheckpointError: CHECKPOINT_SHAPES.
    """
    renamed: dict[str, NDArray[np.float32]] = {}
    for key, value in state.items():
        if ".attn.in_proj_" not in key:
            renamed[published_name(key)] = value
            continue
        if not value.ndim or value.shape[0] % 3:
            raise CheckpointError(
                "CHECKPOINT_SHAPES",
                f"{where}: {key} has the shape {list(value.shape)}; q, k and v need three equal parts.",
            )
        third = value.shape[0] // 3
        for number, name in enumerate(QKV):
            split = published_name(key).replace("in_proj_", f"{name}.")
            renamed[split] = value[number * third : (number + 1) * third]
    return renamed
