"""A trained ensemble as a checkpoint in the layout open_clip + PEFT, which `noduleserve export` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from noduleserve.export.checkpoint.model_json import LAYOUT
from noduleserve.export.checkpoint.tensors import share
from noduleserve.export.checkpoint.weights import Contents, State, Update
from noduleserve.export.checkpoint.write_open_clip_peft import write_open_clip_peft

from .model.lora import STORED_AS, Tuning
from .model.towers import Towers

_BASE = "base.safetensors"


def write_checkpoint(
    folder: Path,
    folds: Sequence[tuple[State, Mapping[str, Update]]],
    towers: Towers,
    tuning: Tuning,
    args: Mapping[str, Any],
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the files of a checkpoint into an empty folder.

    A base whose every number is one of half precision is stored in half precision, from which it is read exactly.

    Args:
        folder: is there.
        folds: of each, the weights without any update and the updates, as `published_state` gives them.
        towers: that the training began with.
        tuning: of the training.
        args: what the training was given, for JSON.
        tell: is called with a line of progress before each long step.
    """
    states = [dict(state) for state, _ in folds]
    for state in states[1:]:
        share((states[0], state), list(state))
    updates = tuple(dict(own) for _, own in folds) if tuning == "lora" else ()
    base = {layer: states[0][f"{layer}.weight"] for layer in updates[0]} if updates else {}
    contents = Contents(
        folds=tuple(states),
        dimensions=towers.dimensions,
        args=dict(args),
        args_text=None,
        layout=LAYOUT,
        tuning=STORED_AS[tuning],
        updates=updates,
        sha256={},
    )
    write_open_clip_peft(contents, base, "unmerged" if updates else None, folder, tell)
    _halve(folder / _BASE)


def to_half(state: State) -> State:
    """Towers rounded to numbers of half precision, still float32; heads as they are."""
    heads = ("image_projection.", "semantic_projection.", "classifier_", "logit_scale")
    return {
        key: value if key.startswith(heads) else value.astype(np.float16).astype(np.float32)
        for key, value in state.items()
    }


def _halve(file: Path) -> None:
    """Store a base in half precision where that loses nothing."""
    if not file.exists():
        return
    tensors = load_file(file)
    halves = {key: tensor.half() for key, tensor in tensors.items()}
    if all(torch.equal(halves[key].float(), tensor) for key, tensor in tensors.items()):
        save_file(halves, file, metadata={"format": "pt"})
        file.chmod(0o644)
