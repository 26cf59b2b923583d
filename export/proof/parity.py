"""The parity proof: a chain of links from the checkpoint to what is served, and the encoder against itself.

    checkpoint with LoRA beside the weights, PyTorch
      -> merged, PyTorch                    link `merge`
      -> one graph of all folds, FP32       link `graph`
      -> the target's precision             link `precision`

Each link has the largest and the mean difference of every quantity in every fold, and what it may be.  `slots` is the
same nodule alone and in every slot of every batch size.  A release carries these figures; one that misses a tolerance
is not written, unless it is asked for, and then it is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import ParityError

from .outputs import Encode, Outputs, probability

QUANTITIES = ("embedding", "view_attention", "logits", "probability")
FP32 = {"embedding": 1e-5, "view_attention": 1e-5, "logits": 1e-3, "probability": 1e-4}
# Largest absolute difference that a link may have; a precision is compared with the FP32 graph.
TOLERANCE: dict[str, dict[str, float]] = {
    "merge": FP32,
    "graph": FP32,
    "fp32": FP32,
    "fp16": {"embedding": 5e-3, "view_attention": 5e-3, "logits": 0.1, "probability": 0.01},
    "bf16": {"embedding": 0.03, "view_attention": 0.1, "logits": 0.5, "probability": 0.05},
    "int8": {"embedding": 0.05, "view_attention": 0.1, "logits": 0.5, "probability": 0.05},
    "fp8": {"embedding": 0.05, "view_attention": 0.1, "logits": 0.5, "probability": 0.05},
}
SLOTS = 1e-6  # of a probability, alone against in a batch


@dataclass(frozen=True)
class Link:
    """One step of the chain.

    Attributes:
        name: `merge`, `graph` or `precision`.
        before, after: what is compared, in words.
        largest, mean: absolute difference of each quantity in each fold, [F] each.
        tolerance: what the largest of each quantity may be.
    """

    name: str
    before: str
    after: str
    largest: dict[str, list[float]]
    mean: dict[str, list[float]]
    tolerance: dict[str, float]

    @property
    def missed(self) -> list[str]:
        """Quantities beyond their tolerance in a fold; a NaN is beyond every one."""
        return [q for q, limit in self.tolerance.items() if not all(value <= limit for value in self.largest[q])]


@dataclass(frozen=True)
class Slots:
    """The same nodule alone and in a batch.

    Attributes:
        batch_sizes: each was filled in every slot.
        largest: largest difference of a probability.
        tolerance: what it may be.
    """

    batch_sizes: list[int]
    largest: float
    tolerance: float

    @property
    def missed(self) -> bool:
        """Whether it is beyond its tolerance."""
        return not self.largest <= self.tolerance


@dataclass(frozen=True)
class Decisions:
    """What a low precision changes for a programme that acts on a threshold; of the mean over the folds.

    Attributes:
        nodules: number of nodules compared.
        changed_at_half: how many are on another side of 0.5.
        top_decile: how many nodules the highest tenth has.
        left_top_decile: how many of them another precision would put elsewhere.
    """

    nodules: int
    changed_at_half: int
    top_decile: int
    left_top_decile: int


@dataclass(frozen=True)
class Parity:
    """One whole proof.

    Attributes:
        source: where the views came from: `synthetic`, `phantom` or `worklist`, joined by " + ".
        nodules: how many there were.
        links: the chain.
        slots: the encoder against itself.
        decisions: for a precision other than FP32.
        not_run: what could not be run here, and why.
    """

    source: str
    nodules: int
    links: tuple[Link, ...]
    slots: Slots
    decisions: Decisions | None = None
    not_run: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """Every tolerance that is missed, in words."""
        links = [
            f"{link.name} {q} {max(link.largest[q], key=_nan_last):.3g} (at most {link.tolerance[q]:g})"
            for link in self.links
            for q in link.missed
        ]
        slots = self.slots
        return links + (
            [f"slots probability {slots.largest:.3g} (at most {slots.tolerance:g})"] if slots.missed else []
        )

    def require(self) -> None:
        """Raise ParityError (PARITY_MISSED) if a tolerance is missed."""
        if self.missed:
            raise ParityError(
                "PARITY_MISSED",
                f"What was exported does not compute what the checkpoint computes: {', '.join(self.missed)}.",
                "No release was written. Choose a higher precision, or look at it with --allow-parity-failure, which "
                "writes a release that is marked as failed.",
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ok": not self.missed}


def measure_link(name: str, before: tuple[str, Outputs], after: tuple[str, Outputs], limits: dict[str, float]) -> Link:
    """Compare two outputs of the same views, fold by fold."""
    pairs = {q: (_quantity(before[1], q), _quantity(after[1], q)) for q in QUANTITIES}
    apart = {q: np.abs(b.astype(np.float64) - a.astype(np.float64)) for q, (b, a) in pairs.items()}  # [N,F,...]
    by_fold = {q: np.moveaxis(d, 1, 0).reshape(d.shape[1], -1) for q, d in apart.items()}
    return Link(
        name,
        before[0],
        after[0],
        {q: d.max(axis=1).tolist() for q, d in by_fold.items()},
        {q: d.mean(axis=1).tolist() for q, d in by_fold.items()},
        dict(limits),
    )


def measure_slots(
    encode: Encode, views: NDArray[np.float32], single: Outputs, sizes: Sequence[int], tolerance: float = SLOTS
) -> Slots:
    """Fill every slot of every batch size, each nodule in another slot from size to size.

    Args:
        encode: the encoder.
        views: [N,9,50,50].
        single: what it made of each nodule alone.
        sizes: of the batches.
        tolerance: what a probability may differ.
    """
    wanted, worst = probability(single.logits), [0.0]
    for size in sizes:
        chosen = (np.arange(size) + size * 3) % len(views)
        worst.append(np.abs(probability(encode(views[chosen]).logits) - wanted[chosen]).max())
    return Slots(list(sizes), float(np.max(worst)), tolerance)  # unlike max(), np.max lets no NaN go


def measure_decisions(before: Outputs, after: Outputs) -> Decisions:
    """Compare what a threshold would decide."""
    first, second = (probability(outputs.logits).mean(axis=1) for outputs in (before, after))
    top = -(-len(first) // 10)
    highest = [set(np.argsort(-p, kind="stable")[:top].tolist()) for p in (first, second)]
    return Decisions(len(first), int(((first > 0.5) != (second > 0.5)).sum()), top, len(highest[0] - highest[1]))


def _quantity(outputs: Outputs, name: str) -> NDArray:
    return probability(outputs.logits) if name == "probability" else getattr(outputs, name)


def _nan_last(value: float) -> tuple[bool, float]:
    return (value != value, value)
