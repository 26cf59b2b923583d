"""The model with LoRA beside its weights, as PEFT runs it: the first link of the parity proof.

Merging is where a fine-tuned model is most easily changed unnoticed. Here nothing is merged: all folds stand on the
one base, PEFT's own layers add each fold's update to it in the forward pass, and PEFT scales it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import peft
import torch
from open_clip.model import CLIP

from noduleserve.export.proof.torch_model import TorchForward

from .clip_module import empty_split_clip
from .clip_names import HEADS, open_clip_name
from .layout import Dimensions
from .lora_config import lora_config
from .weights import Checkpoint, Update


class UnmergedModel(TorchForward):
    """One fold at a time, as `TorchModel`, but with LoRA unmerged."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        super().__init__(empty_split_clip(checkpoint.dimensions))

    def load(self, number: int) -> None:
        """Take on one fold: its own weights where LoRA is not, the shared base and the fold's A and B where it is."""
        checkpoint = self._checkpoint
        updates = checkpoint.updates[number] if checkpoint.updates else {}
        fold = checkpoint.folds[number] | {f"{layer}.weight": checkpoint.base[layer] for layer in updates}
        times = 2 if checkpoint.reproduces_published and number == 0 else 1
        self._clip = _adapted(checkpoint.dimensions, updates, times)
        state: dict[str, torch.Tensor] = {}
        for key, value in fold.items():
            layer, _, kind = key.rpartition(".")
            if not key.startswith(HEADS):
                beside = ".base_layer" if layer in updates else ""
                name = f"{open_clip_name(layer)}{beside}.{kind}" if layer else kind
                state[name] = torch.from_numpy(np.asarray(value))
        for layer, update in updates.items():
            for side, value in (("lora_A", update.a), ("lora_B", update.b)):
                state[f"{open_clip_name(layer)}.{side}.default.weight"] = torch.from_numpy(np.asarray(value))
        self._load_heads(fold)
        self._clip.load_state_dict(state, assign=True)


def _adapted(dimensions: Dimensions, updates: Mapping[str, Update], times: int) -> CLIP:
    """A CLIP without weights into which PEFT has put its layers."""
    clip = empty_split_clip(dimensions)
    if updates:
        peft.inject_adapter_in_model(lora_config(updates, dimensions, times), clip, low_cpu_mem_usage=True)
    return clip.eval()
