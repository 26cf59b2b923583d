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
Updates = Mapping[str, Update]

LORA_A, LORA_B = ".w_lora_A", ".w_lora_B"
# Merging in float32 moves a weight by rounding, about 1e-7 of it; a LoRA update moves it by far more than 1e-4.
_AGREES = 1e-5
_ROWS = 64  # of a weight at a time, so that the float64 numbers stay in the processor's cache


def lora_layers(state: State) -> list[str]:
    """The layers that carry an update, e.g. `vision_model.transformer.resblocks.0.attn.q_proj`."""
    return sorted(key.removesuffix(LORA_A) for key in state if key.endswith(LORA_A))


def scaling(rank: int, alpha: float) -> float:
    """Rank-stabilised scaling alpha / sqrt(r) (`use_rslora` in PEFT), not alpha / r."""
    return alpha / math.sqrt(rank)


def updates_of(state: State, alpha: float) -> dict[str, Update]:
    """The rank-stabilised update of each layer that carries one."""
    updates = {}
    for layer in lora_layers(state):
        a, b = state[layer + LORA_A], state[layer + LORA_B]
        updates[layer] = Update(a, b, scaling(a.shape[0], alpha), alpha)
    return updates


def add_update(weight: NDArray[np.float32], update: Update, times: int = 1) -> NDArray[np.float32]:
    """weight + times * scale * B @ A, the same bits on every machine.

    A matrix product adds in an order that depends on the processor. Here the rank-1 terms are added one after the
    other in float64, in which each product of two float32 numbers is exact, and the sum is rounded once.

    Args:
        weight: float32 [out, in].
        update: of this layer.
        times: -1 takes the update off.
    """
    a, b = update.a.astype(np.float64), update.b.astype(np.float64)
    total, term = (np.empty((min(_ROWS, len(weight)), weight.shape[1])) for _ in range(2))
    merged = np.empty_like(weight)
    for start in range(0, len(weight), _ROWS):
        rows = slice(start, min(start + _ROWS, len(weight)))
        sums, products = (array[: rows.stop - start] for array in (total, term))
        sums[:] = 0
        for k in range(update.rank):
            np.multiply(b[rows, k, None], a[k], out=products)
            sums += products
        sums *= times * update.scale
        sums += weight[rows]
        merged[rows] = sums
    return merged


def base_of(state: State, updates: Updates, lora_state: LoraState) -> dict[str, NDArray[np.float32]]:
    """The weights of the layers that carry an update, before it."""
    weights = {layer: state[f"{layer}.weight"] for layer in updates}
    if lora_state == "unmerged":
        return weights
    return {layer: add_update(weight, updates[layer], -1) for layer, weight in weights.items()}


def detect_state(folds: Sequence[State], updates: Sequence[Updates], base: State | None = None) -> LoraState:
    """Whether `weight` holds the update already.

    Args:
        folds: the state of each fold.
        updates: of each fold.
        base: the weights before fine-tuning, by the same keys; needed only with a single fold.

    Raises:
        CheckpointError: LORA_STATE_UNDECIDABLE where the folds (or the base) support neither state, or both.
    """
    if len(folds) < 2 and base is None:
        raise _undecidable("There is one fold only, so that no other fold shows what the base weights are")
    votes = [_vote(folds, [fold[layer] for fold in updates], base, layer) for layer in updates[0]]
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


def merged_state(
    state: State, updates: Updates, lora_state: LoraState, *, twice: bool = False
) -> dict[str, NDArray[np.float32]]:
    """The plain weights of one fold, without A and B, the update added exactly once.

    Args:
        state: of one fold.
        updates: of the same fold.
        lora_state: of the file.
        twice: add the update once more than is right; only to reproduce the published evaluation of fold 0.
    """
    plain = {key: value for key, value in state.items() if not key.endswith((LORA_A, LORA_B))}
    additions = (lora_state == "unmerged") + twice
    for layer, update in updates.items() if additions else ():
        plain[f"{layer}.weight"] = add_update(plain[f"{layer}.weight"], update, additions)
    return plain


def _vote(folds: Sequence[State], updates: Sequence[Update], base: State | None, layer: str) -> tuple[float, float]:
    """How far the folds are from one base if `weight` is merged, and if it is not; relative to the weights' size."""
    weights = [fold[f"{layer}.weight"] for fold in folds]
    # Matrix products will do for a vote, and are much faster than `add_update`.
    without = [weight - (u.b @ u.a) * np.float32(u.scale) for u, weight in zip(updates, weights, strict=True)]
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
