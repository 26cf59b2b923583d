"""Writing the layout open_clip + PEFT: one base for all folds, and for each an adapter, its heads and its rounding."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from . import lora
from .adapter import CONFIG, PREFIX, WEIGHTS
from .clip_names import HEADS as HEAD_KEYS
from .clip_names import open_clip_name, packed
from .layout import KNOWN, LEFT_BY_TRAINING, Dimensions
from .lora_config import lora_config
from .model_json import FILE, ModelFile
from .open_clip_peft import HEADS, ROUNDING
from .rounding import differences
from .tensors import same_bits
from .weights import Contents, LoraState, State, Update

_BASE = "base.safetensors"
_OPEN_CLIP = {"ViT-B/32": "ViT-B-32-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu", "ViT-L/14": "ViT-L-14-quickgelu"}


def write_open_clip_peft(
    contents: Contents,
    base: Mapping[str, NDArray[np.float32]],
    lora_state: LoraState | None,
    out: Path,
    tell: Callable[[str], None],
) -> None:
    """Write a checkpoint's files into a folder that is there.

    Args:
        contents: the checkpoint.
        base: the weights of the layers that carry LoRA before any update.
        lora_state: of `contents.folds`; None where there is no LoRA.
        out: the folder.
        tell: is called with a line of progress before each long step.
    """
    tell("writing the base")
    shared = _shared(contents) | {f"{layer}.weight": weight for layer, weight in base.items()}
    if shared:
        _save(packed(shared), out / _BASE)
    model = ModelFile(
        tuning=contents.tuning,
        folds=len(contents.folds),
        open_clip=_name(contents.dimensions),
        base=_BASE if shared else None,
        args=json.loads(json.dumps(contents.args, default=str)),
        args_txt=contents.args_text,
        lora_state=lora_state,
    )
    (out / FILE).write_text(model.text())
    for number, state in enumerate(contents.folds):
        tell(f"writing fold_{number}")
        folder = out / f"fold_{number}"
        folder.mkdir()
        updates = contents.updates[number] if contents.updates else {}
        own = {k: v for k, v in state.items() if k not in shared and not k.endswith((lora.LORA_A, lora.LORA_B))}
        _save(own, folder / HEADS)
        if lora_state:
            _write_adapter(updates, contents.dimensions, folder)
            _write_rounding(state, updates, base, lora_state == "merged", folder / ROUNDING)


def _shared(contents: Contents) -> State:
    """What all folds have in common and the base can hold: tensors of the towers."""
    first, *others = contents.folds
    return {
        key: value
        for key, value in first.items()
        if key != "logit_scale"  # files hold it in two shapes, so that the fold keeps its own
        and not key.startswith((*HEAD_KEYS, *LEFT_BY_TRAINING))
        and not key.endswith((lora.LORA_A, lora.LORA_B))
        and all(same_bits(value, other[key]) for other in others)
    }


def _name(dimensions: Dimensions) -> str | None:
    """What open_clip calls these towers with QuickGELU; None where it has no name for them."""
    for name, known in KNOWN.items():
        same = (getattr(known, part) == getattr(dimensions, part) for part in ("image", "text", "patch", "embed"))
        if all(same) and known.vocabulary == dimensions.vocabulary:
            return _OPEN_CLIP[name]
    return None


def _write_adapter(updates: Mapping[str, Update], dimensions: Dimensions, folder: Path) -> None:
    config: dict[str, Any] = lora_config(updates, dimensions).to_dict()
    config["inference_mode"] = True
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=1, sort_keys=True, default=str) + "\n")
    tensors: dict[str, NDArray] = {}
    for layer, update in updates.items():
        name = PREFIX + open_clip_name(layer)
        tensors |= {f"{name}.lora_A.weight": update.a, f"{name}.lora_B.weight": update.b}
    _save(tensors, folder / WEIGHTS)


def _write_rounding(
    state: State,
    updates: Mapping[str, Update],
    base: Mapping[str, NDArray[np.float32]],
    merged: bool,
    file: Path,
) -> None:
    """What the fold's weight differs in from what a reader computes of the base and the update."""
    tensors: dict[str, NDArray] = {}
    for layer, update in updates.items():
        key = f"{layer}.weight"
        computed = lora.add_update(base[layer], update) if merged else base[layer]
        tensors |= differences(key, state[key], computed)
    if tensors:
        _save(tensors, file)


def _save(tensors: Mapping[str, NDArray], file: Path) -> None:
    save_file(  # which leaves a file that only its owner can read
        {key: torch.from_numpy(np.asarray(value)).contiguous() for key, value in tensors.items()},
        file,
        metadata={"format": "pt"},
    )
    file.chmod(0o644)
