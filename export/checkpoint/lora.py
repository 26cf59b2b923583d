"""LoRA in a checkpoint: is it merged into the weights already, and if not, merge it.

The published training loop saves after `model.eval()`, which adds the low-rank update to `weight`; A and B stay in
the file beside it.  Adding them again would be wrong and would show nowhere but in the scores.  Nothing in the file
says which it is, but the folds do: they share one base, so whatever agrees over the folds *is* the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

from .weights import LoraState, Update

State = Mapping[str, NDArray[np.float32]]

_SUFFIX = ".w_lora_A"
# Merging in float32 moves a weight by rounding, about 1e-7 of it; a LoRA update moves it by far more than 1e-4.
_AGREES = 1e-5


def lora_layers(state: State) -> list[str]:
    """The layers that carry an update, e.g. `vision_model.transformer.resblocks.0.attn.q_proj`."""
    return sorted(key.removesuffix(_SUFFIX) for key in state if key.endswith(_SUFFIX))


def scaling(rank: int, alpha: float) -> float:
    """Rank-stabilised scaling alpha / sqrt(r) (`use_rslora` in PEFT), not alpha / r."""
    return alpha / math.sqrt(rank)


def update_of(state: State, layer: str, scale: float) -> NDArray[np.float32]:
    """scale * B @ A of one layer, float32 [out, in]."""
    return (state[f"{layer}.w_lora_B"] @ state[f"{layer}.w_lora_A"]) * np.float32(scale)


def updates_of(state: State, scale: float) -> dict[str, Update]:
    """The update of each layer that carries one."""
    return {
        layer: Update(state[f"{layer}.w_lora_A"], state[f"{layer}.w_lora_B"], scale) for layer in lora_layers(state)
    }


def base_of(state: State, scale: float, lora_state: LoraState) -> dict[str, NDArray[np.float32]]:
    """The weights of the layers that carry an update, before it."""
    return {
        layer: state[f"{layer}.weight"] - (update_of(state, layer, scale) if lora_state == "merged" else 0)
        for layer in lora_layers(state)
    }


def detect_state(folds: Sequence[State], scale: float, base: State | None = None) -> LoraState:
    """Whether `weight` holds the update already.

    Args:
        folds: the state of each fold.
        scale: see `scaling`.
        base: the weights before fine-tuning, by the same keys; needed only with a single fold.

    Raises:
        CheckpointError: LORA_STATE_UNDECIDABLE where the folds (or the base) support neither state, or both.
    """
    if len(folds) < 2 and base is None:
        raise _undecidable("There is one fold only, so that no other fold shows what the base weights are")
    votes = [_vote(folds, base, layer, scale) for layer in lora_layers(folds[0])]
    merged = all(spread_merged <= _AGREES for spread_merged, _ in votes)
    unmerged = all(spread_unmerged <= _AGREES for _, spread_unmerged in votes)
    if merged and unmerged:
        raise _undecidable("Every LoRA update is zero or the same in all folds, so that both states look alike")
    if not merged and not unmerged:
        worst = ", ".join(f"{max(spreads):.2g}" for spreads in zip(*votes, strict=True))
        raise _undecidable(
            "The folds do not share one base: neither weight - update nor weight agrees "
            f"(largest relative differences {worst})"
        )
    return "merged" if merged else "unmerged"


def merged_state(state: State, scale: float, lora_state: LoraState, *, twice: bool = False) -> dict[str, NDArray]:
    """The plain weights of one fold, without A and B, the update added exactly once.

    Args:
        state: of one fold.
        scale: see `scaling`.
        lora_state: of the file.
        twice: add the update once more than is right; only to reproduce the published evaluation of fold 0.
    """
    plain = {key: value for key, value in state.items() if ".w_lora_" not in key}
    additions = (lora_state == "unmerged") + twice
    for layer in lora_layers(state) if additions else ():
        plain[f"{layer}.weight"] = plain[f"{layer}.weight"] + additions * update_of(state, layer, scale)
    return plain


def _vote(folds: Sequence[State], base: State | None, layer: str, scale: float) -> tuple[float, float]:
    """How far the folds are from one base if `weight` is merged, and if it is not; relative to the weights' size."""
    weights = [fold[f"{layer}.weight"] for fold in folds]
    without = [weight - update_of(fold, layer, scale) for fold, weight in zip(folds, weights, strict=True)]
    bases = (without[0], weights[0]) if base is None else (base[f"{layer}.weight"],) * 2
    size = float(np.abs(weights[0]).max()) or 1.0
    spreads = [
        float(np.max([np.abs(candidate - reference).max() for candidate in candidates])) / size  # NaN stays NaN
        for candidates, reference in zip((without, weights), bases, strict=True)
    ]
    return spreads[0], spreads[1]


def _undecidable(why: str) -> CheckpointError:
    return CheckpointError(
        "LORA_STATE_UNDECIDABLE",
        f"Whether the checkpoint's weights hold their LoRA update already cannot be decided. {why}.",
        "Say which it is with --lora-state merged or --lora-state unmerged (files of the published training loop "
        "are merged), or name the base weights with --base.",
    )
