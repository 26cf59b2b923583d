"""Checkpoints in the layout open_clip + PEFT, their adapters made and written by PEFT itself.

Nothing here shares code with the product.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from small_model import SMALL, as_torch, base_of, fold_of, open_clip_keys
from torch import nn

HEADS = ("image_projection.", "semantic_projection.", "classifier_", "logit_scale")


def clip() -> CLIP:
    """open_clip's own model with the base's weights, attention packed."""
    vision = {"layers": SMALL.layers, "width": SMALL.width, "patch_size": SMALL.patch, "image_size": 224}
    text = {"context_length": 77, "vocab_size": SMALL.tokens, "width": SMALL.text_width, "heads": 1, "layers": 1}
    model = CLIP(SMALL.embed, vision, text, quick_gelu=True)
    model.load_state_dict(open_clip_keys(base_of()), strict=False)
    return model.eval()


class Tree(nn.Module):
    """Linear layers under open_clip's names, q, k and v apart: enough for PEFT to adapt, save and merge."""

    def __init__(self) -> None:
        super().__init__()
        for key, value in as_torch(base_of()).items():
            if ".resblocks." in key and key.endswith(".weight") and value.ndim == 2:
                name = key.removesuffix(".weight").replace("vision_model.", "visual.")
                self._put(name.replace(".attn.proj", ".attn.out_proj").split("."), value)

    def _put(self, names: list[str], weight: torch.Tensor) -> None:
        module: nn.Module = self
        for name in names[:-1]:
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module._modules[name]
        module.add_module(names[-1], nn.Linear(weight.shape[1], weight.shape[0]))
        module._modules[names[-1]].weight.data = weight.clone()


def adapted(model: nn.Module, number: int, **config: Any) -> peft.PeftModel:
    """A model with an adapter that has learnt something."""
    torch.manual_seed(number)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 2, "lora_alpha": 3, "use_rslora": True} | config))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
    return wrapped.eval()


def write_peft(folder: Path, models: list[peft.PeftModel], **changes: Any) -> Path:
    """The checkpoint of these folds."""
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in open_clip_keys(base_of()).items()}, folder / "base.safetensors")
    content = {"format": 1, "layout": "open_clip+peft", "open_clip": None, "pretrained": None}
    content |= {"base": "base.safetensors", "tuning": "lora", "folds": len(models), "args": {"seed": 3}}
    (folder / "model.json").write_text(json.dumps(content | changes))
    for number, model in enumerate(models):
        model.save_pretrained(folder / f"fold_{number}")
        fold = as_torch(fold_of(base_of(), number, merged=False))
        save_file(
            {k: v for k, v in fold.items() if k.startswith(HEADS)}, folder / f"fold_{number}" / "heads.safetensors"
        )
    return folder


def two(make: Callable[[], nn.Module] = Tree, **config: Any) -> list[peft.PeftModel]:
    """Two folds' models."""
    return [
        adapted(make(), number, **{"target_modules": ["q_proj", "k_proj", "v_proj"]} | config) for number in range(2)
    ]
