"""LoRA updates as PEFT's configuration: which modules, which ranks, which scaling."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import peft

from .clip_names import open_clip_name
from .layout import Dimensions
from .weights import Update


def lora_config(updates: Mapping[str, Update], dimensions: Dimensions, times: int = 1) -> peft.LoraConfig:
    """PEFT's configuration of exactly these updates on open_clip's CLIP with q, k and v apart.

    Args:
        updates: of one fold, by layer in the published spelling; at least one.
        dimensions: of the model.
        times: how often each is added.
    """
    names = {layer: open_clip_name(layer) for layer in sorted(updates)}
    ranks = {layer: update.rank for layer, update in updates.items()}
    alphas = {layer: times * _alpha(update) for layer, update in updates.items()}
    first = next(iter(names))
    patterns: dict[str, Any] = {}
    for key, values in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if len(set(values.values())) > 1:
            # Unlike target_modules, patterns fit the ends of names unless they begin with ^.
            patterns[key] = {f"^{re.escape(names[layer])}": values[layer] for layer in names}
    return peft.LoraConfig(
        r=ranks[first],
        lora_alpha=alphas[first],  # type: ignore[arg-type]  # PEFT only divides it
        use_rslora=updates[first].rank_stabilised,
        target_modules=_targets(set(names.values()), dimensions),
        **patterns,
    )


def _alpha(update: Update) -> float:
    if update.alpha is not None:
        return update.alpha
    return update.scale * (math.sqrt(update.rank) if update.rank_stabilised else update.rank)


def _targets(names: set[str], dimensions: Dimensions) -> list[str] | str:
    """The last parts of the names where they mean these modules and no other, else a pattern of the whole names.

    A list of whole names would not do: PEFT compares the ends of names, and `transformer.x` would mean
    `visual.transformer.x` as well.
    """
    linear = {
        open_clip_name(key.removesuffix(".weight"))
        for key, shape in dimensions.shapes({}).items()
        if ".resblocks." in key and len(shape) == 2
    }
    last = {name.rpartition(".")[2] for name in names}
    if {name for name in linear if name.rpartition(".")[2] in last} == names:
        return sorted(last)
    return "|".join(re.escape(name) for name in sorted(names))
