"""What PEFT does with the output projection of a packed attention: releases up to 0.21.2 add its update twice.

PEFT runs `nn.MultiheadAttention` by merging before each forward pass, in training as well, and that merge adds the
update of `out_proj` once itself and once more through the layer that it wraps. The trained network is the one with
two, so two is right for its adapters, whatever a later PEFT does. Which PEFT trained an adapter is in its
configuration; releases before that was written down all add twice.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import peft
import torch
from torch import nn

from noduleserve.errors import CheckpointError

LAST_THAT_IS_KNOWN = "0.21.2"


def out_projection_times(trained_with: str | None, where: str) -> int:
    """How often the update of `out_proj` is in the network that was trained.

    Args:
        trained_with: PEFT's version in adapter_config.json.
        where: names the file.

    Raises:
        CheckpointError: ADAPTER_UNSUPPORTED where that release is newer than is known here and another is installed.
    """
    if trained_with is None or _number(trained_with) <= _number(LAST_THAT_IS_KNOWN):
        return 2
    if trained_with != peft.__version__:
        raise CheckpointError(
            "ADAPTER_UNSUPPORTED",
            f"{where} adapts packed attentions and is of PEFT {trained_with}; PEFT up to {LAST_THAT_IS_KNOWN} adds the "
            f"update of their output projection twice, and what {trained_with} does, {peft.__version__} does not tell.",
            f"Install peft=={trained_with}, or adapt attentions with q, k and v apart.",
        )
    return measured_times()


@functools.cache
def measured_times() -> int:
    """How often the installed PEFT adds it."""
    model = nn.Module()
    model.add_module("attn", nn.MultiheadAttention(4, 1))
    peft.inject_adapter_in_model(peft.LoraConfig(r=1, target_modules=["attn"]), model)
    attention: Any = model.get_submodule("attn")
    projection = attention.base_layer.out_proj
    for side in (projection.lora_A, projection.lora_B):
        nn.init.ones_(side["default"].weight)
    before = projection.base_layer.weight.detach().clone()
    attention.merge()
    with torch.no_grad():
        added = (projection.base_layer.weight - before) / projection.get_delta_weight("default")
    return round(float(added.mean()))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
