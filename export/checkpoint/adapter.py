"""A LoRA adapter as PEFT writes it: adapter_config.json and adapter_model.safetensors, interpreted by PEFT itself.

PEFT's rules (which modules a pattern names, whose rank and alpha they have, how they are scaled) are not written down
here a second time: the adapter is injected into an open_clip model without weights, and what PEFT made of it is read
off.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear, MultiheadAttention
from peft.utils import get_peft_model_state_dict

from noduleserve.errors import CheckpointError

from .clip_module import empty_clip, empty_split_clip
from .clip_names import QKV, published_name, unpacked
from .layout import Dimensions, is_text
from .peft_attention import out_projection_times
from .tensors import float32_state, read_safetensors
from .weights import State, Update

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# What is read, and what has no part in a merge; anything else must be as PEFT has it by default.
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "rank_pattern"}
_READ |= {"alpha_pattern", "modules_to_save", "layers_to_transform", "layers_pattern", "peft_version"}
_NO_PART = {"task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
_NO_PART |= {"lora_dropout", "megatron_core", "qalora_group_size", "runtime_config"}
# Ways to begin that leave the base weights alone; others (PiSSA, OLoRA, LoftQ, ...) train against a changed base.
_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")
_AGREES = 1e-5  # of the largest number in an update


@dataclass(frozen=True, eq=False)
class Adapter:
    """What an adapter changes.

    Attributes:
        updates: by layer, in the published spelling; a packed q, k, v has become three.
        saved: the weights of modules that were trained as a whole (`modules_to_save`), by the published keys.
    """

    updates: dict[str, Update]
    saved: State


def read_adapter(folder: Path, where: str, dimensions: Dimensions, *, text_only: bool = False) -> Adapter:
    """Read one fold's adapter.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        where: names the folder.
        dimensions: of the model that it adapts.
        text_only: leave the image tower's updates out.

    Raises:
        CheckpointError: ADAPTER_CONFIG, ADAPTER_UNSUPPORTED, ADAPTER_KEYS, CHECKPOINT_NOT_FOUND and what reading
            tensors raises.
    """
    config, trained_with = read_config(folder / CONFIG, f"{where}/{CONFIG}")
    tensors = _read_weights(folder / WEIGHTS, f"{where}/{WEIGHTS}")
    low_rank = {key: value for key, value in tensors.items() if ".lora_" in key}
    whole = {key: value for key, value in tensors.items() if key not in low_rank}
    modules = tuple(config.modules_to_save or ())
    for key in whole:
        if not any(f".{module}." in f".{key}" for module in modules):
            raise CheckpointError(
                "ADAPTER_KEYS",
                f"{where}/{WEIGHTS} has {key}, which is neither LoRA nor of a module in modules_to_save.",
                "Save the adapter again with PEFT's save_pretrained.",
            )
    model = _injected(config, low_rank, where, dimensions)
    updates: dict[str, Update] = {}
    for name, module in model.named_modules():
        layer = published_name(name.replace(".base_layer.", "."))
        if isinstance(module, LoraLayer) and (is_text(layer) or not text_only):
            times = out_projection_times(trained_with, f"{where}/{CONFIG}") if ".base_layer.out_proj" in name else 1
            updates |= _of_layer(layer, module, bool(config.use_rslora), times, where)
    return Adapter(updates, unpacked(whole, where))


def read_config(file: Path, where: str) -> tuple[peft.LoraConfig, str | None]:
    """Read adapter_config.json; what would change the merge in a way that is not known here is refused by name.

    Returns:
        the configuration, and the version of PEFT that wrote it where it says so.

    Raises:
        CheckpointError: CHECKPOINT_NOT_FOUND, ADAPTER_CONFIG, ADAPTER_UNSUPPORTED.
    """
    try:
        content = json.loads(file.read_bytes())
    except OSError:
        raise CheckpointError(
            "CHECKPOINT_NOT_FOUND", f"There is no {where}.", "Copy the fold's whole adapter folder."
        ) from None
    except ValueError as error:
        raise CheckpointError("ADAPTER_CONFIG", f"{where} is not JSON: {error}.") from None
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise CheckpointError("ADAPTER_CONFIG", f"{where} is not the configuration of a LoRA adapter (peft_type LORA).")
    defaults = {f.name: _default(f) for f in dataclasses.fields(peft.LoraConfig)}
    for name, value in content.items():
        if name == "init_lora_weights":
            refused = value not in _BEGINNINGS
        else:
            refused = name not in _READ | _NO_PART and bool(value) and value != defaults.get(name)
        if refused:
            raise CheckpointError(
                "ADAPTER_UNSUPPORTED",
                f"{where} says {name}={value!r}, which is not supported.",
                "Merge the adapter with PEFT (merge_and_unload) and hand in the merged weights with tuning ft.",
            )
    try:
        config = peft.LoraConfig(**{k: content[k] for k in _READ & content.keys() - {"peft_type", "peft_version"}})
    except (TypeError, ValueError) as error:
        raise CheckpointError("ADAPTER_CONFIG", f"{where} is refused by PEFT: {error}.") from None
    version = content.get("peft_version")
    return config, None if version is None else str(version)


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default is not dataclasses.MISSING else None


def _read_weights(file: Path, where: str) -> State:
    if not file.is_file():
        raise CheckpointError("CHECKPOINT_NOT_FOUND", f"There is no {where}.", "Copy the fold's whole adapter folder.")
    tensors = float32_state(read_safetensors(file, where), where)
    for key in tensors:
        if not key.startswith(PREFIX):
            raise CheckpointError("ADAPTER_KEYS", f"{where} has {key}, which does not begin with {PREFIX}.")
    return {key.removeprefix(PREFIX): value for key, value in tensors.items()}


def _injected(config: peft.LoraConfig, tensors: State, where: str, dimensions: Dimensions) -> torch.nn.Module:
    """An empty model into which PEFT has put the adapter."""
    packed = any(key.endswith(".attn.lora_A.weight") for key in tensors)
    model = empty_clip(dimensions) if packed else empty_split_clip(dimensions)
    plain = dataclasses.replace(config, modules_to_save=None)
    try:
        peft.inject_adapter_in_model(plain, model, low_cpu_mem_usage=True)
        expected = get_peft_model_state_dict(model)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise CheckpointError("ADAPTER_CONFIG", f"{where}/{CONFIG} is refused by PEFT: {error}.") from None
    _require_same(expected, tensors, where)
    # PEFT's own loading would move the numbers to the base's device, which has no memory.
    named = {key.removesuffix("weight") + "default.weight": torch.from_numpy(v) for key, v in tensors.items()}
    model.load_state_dict(named, strict=False, assign=True)
    return model


def _require_same(expected: dict[str, Any], tensors: State, where: str) -> None:
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{verb} {keys[0]} ({len(keys)})" for verb, keys in (("lacks", missing), ("has", unknown)) if keys]
        raise CheckpointError(
            "ADAPTER_KEYS",
            f"{where}/{WEIGHTS} {' and '.join(parts)}, against what {CONFIG} makes of open_clip's CLIP.",
            "LoRA on the Linear layers and attentions of the two towers, by open_clip's names, is read.",
        )
    for key, tensor in expected.items():
        if tuple(tensor.shape) != tensors[key].shape:
            shapes = f"{list(tensors[key].shape)}, not {list(tensor.shape)}"
            raise CheckpointError("CHECKPOINT_SHAPES", f"{where}/{WEIGHTS}: {key} has the shape {shapes}.")
        if not np.isfinite(tensors[key]).all():
            raise CheckpointError("CHECKPOINT_NOT_FINITE", f"{where}/{WEIGHTS}: {key} holds NaN or infinity.")


def _of_layer(name: str, layer: LoraLayer, stabilised: bool, times: int, where: str) -> dict[str, Update]:
    """The update of a Linear layer, or the three of an attention, checked against PEFT's own product."""
    if not isinstance(layer, Linear | MultiheadAttention):
        raise CheckpointError(
            "ADAPTER_UNSUPPORTED",
            f"{where}/{CONFIG} adapts {name}, which is neither a Linear layer nor an attention.",
            "Adapt the Linear layers and attentions of the two towers.",
        )
    adapter, whole = "default", cast(Any, layer)  # PEFT's types do not say what its layers have in common
    a, b = (side[adapter].weight.detach().numpy() for side in (whole.lora_A, whole.lora_B))
    scale = float(layer.scaling[adapter])
    ours, theirs = (b @ a) * np.float32(scale), whole.get_delta_weight(adapter).detach().numpy()
    if np.abs(ours - theirs).max() > _AGREES * np.abs(theirs).max():
        raise CheckpointError(
            "ADAPTER_UNSUPPORTED",
            f"PEFT {peft.__version__} makes another update of {name} in {where} than scaling * B @ A.",
            "Report it with adapter_config.json.",
        )
    scale, alpha = times * scale, times * float(layer.lora_alpha[adapter])
    if isinstance(layer, Linear):
        return {name: Update(a, b, scale, alpha, stabilised)}
    thirds = zip(QKV, np.split(b, 3), strict=True)
    return {f"{name}.{part}": Update(a, third, scale, alpha, stabilised) for part, third in thirds}
