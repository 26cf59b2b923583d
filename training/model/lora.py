"""Which weights a training moves: adapters on the attentions, every weight, or the heads alone.

    tuning   towers                               in a checkpoint
    lora     adapters of PEFT, all else frozen    `lora`
    full     every weight                         `ft`
    probe    frozen                               `pt`

Attentions have q, k and v apart, so that each adapter sits on a Linear layer of its own. On a packed attention PEFT
merges its update before every forward pass, has no dropout, and adds the output projection's update twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import peft
import torch
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer

from noduleserve.export.checkpoint.clip_names import published_name
from noduleserve.export.checkpoint.weights import State, Update
from noduleserve.export.checkpoint.weights import Tuning as Stored

from .network import NoduleClip

Tuning = Literal["lora", "full", "probe"]
STORED_AS: dict[Tuning, Stored] = {"lora": "lora", "full": "ft", "probe": "pt"}
LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")  # that an adapter may sit on


@dataclass(frozen=True)
class Lora:
    """The low-rank adapters of both towers.

    Attributes:
        rank: of an update.
        alpha: an update is multiplied with alpha / sqrt(rank), or alpha / rank where not rank-stabilised.
        dropout: of what goes into an update.
        rank_stabilised: see alpha.
        layers: that carry one, of every block.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    rank_stabilised: bool = True
    layers: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")


def prepare(network: NoduleClip, tuning: Tuning, lora: Lora, seed: int) -> None:
    """Let gradients reach what is to be trained, and put adapters in where there are to be some.

    Args:
        network: changed in place.
        tuning: see above; heads and temperature are always trained.
        lora: the adapters of tuning `lora`.
        seed: of the adapters' beginning, which changes nothing of what the network computes.
    """
    clip: Any = network.clip
    clip.requires_grad_(tuning == "full")
    if tuning == "lora":
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT only divides it
            lora_dropout=lora.dropout,
            use_rslora=lora.rank_stabilised,
            target_modules=list(lora.layers),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(config, clip)
    clip.logit_scale.requires_grad_(True)


def published_state(network: NoduleClip, lora: Lora) -> tuple[State, dict[str, Update]]:
    """The weights by the published keys without any update, and the updates by layer; copies of their own."""
    state: dict[str, NDArray[np.float32]] = {}
    for key, tensor in network.state_dict().items():
        if ".lora_" in key:
            continue
        own = key.removeprefix("clip.").replace(".base_layer.", ".")
        state[published_name(own) if key.startswith("clip.") else own] = _array(tensor)
    updates: dict[str, Update] = {}
    for name, module in network.clip.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            a, b = (_array(side["default"].weight) for side in (layer.lora_A, layer.lora_B))
            scale = float(layer.scaling["default"])
            updates[published_name(name)] = Update(a, b, scale, lora.alpha, lora.rank_stabilised)
    return state, updates


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().float().cpu().numpy())
