"""The parity proof: what the exported graph computes against the checkpoint in PyTorch, and against itself.

A release carries these figures; one that misses a tolerance is not written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noduleserve.errors import ParityError
from noduleserve.preprocessing.views import VIEW, VIEW_NAMES

# Largest absolute differences that a release in FP32 may have.
TOLERANCE = {
    "embedding": 1e-5,  # against torch
    "view_attention": 1e-5,
    "probability": 1e-4,
    "probability_over_batches": 1e-6,  # the same nodule alone and in every slot of a batch
}
NODULES = 4


@dataclass(frozen=True)
class Parity:
    """Figures of one proof.

    Attributes:
        nodules: number of nodules compared.
        largest: largest absolute difference of each quantity.
        tolerance: what each may be.
    """

    nodules: int
    largest: dict[str, float]
    tolerance: dict[str, float]

    @property
    def missed(self) -> list[str]:
        """Quantities beyond their tolerance; a NaN is beyond every one."""
        return [name for name, limit in self.tolerance.items() if not self.largest[name] <= limit]

    def require(self) -> None:
        """Raise ParityError (PARITY_MISSED) if a tolerance is missed."""
        if self.missed:
            figures = ", ".join(f"{n} {self.largest[n]:.3g} (at most {self.tolerance[n]:g})" for n in self.missed)
            raise ParityError(
                "PARITY_MISSED",
                f"The exported graph does not compute what the checkpoint computes: {figures}.",
                "No release was written. Report it with the checkpoint's args.txt and the versions in use.",
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Encoder:
    """The exported graph on ONNX Runtime."""

    def __init__(self, model: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def __call__(self, views: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
        """Views [N,9,50,50] -> embedding [N,F,out], view attention [N,F,9], logits [N,F,2]."""
        embedding, attention, logits = self._session.run(["EMBEDDING", "VIEW_ATTENTION", "LOGITS"], {"VIEWS": views})
        return embedding, attention, logits


def parity_views(count: int = NODULES, seed: int = 20) -> NDArray[np.float32]:
    """Views like a nodule's, [count, 9, 50, 50]: a bright blob in dark lung, with texture from smooth to noise."""
    random = np.random.default_rng(seed)
    grid = np.arange(VIEW) - (VIEW - 1) / 2
    distance = np.hypot(grid[:, None], grid)
    views = np.empty((count, len(VIEW_NAMES), VIEW, VIEW))
    for nodule, view in np.ndindex(views.shape[:2]):
        radius, edge, level = random.uniform(2, 18), random.uniform(0.5, 4), random.uniform(0.3, 0.9)
        walk = random.standard_normal((VIEW, VIEW)).cumsum(axis=0).cumsum(axis=1)
        texture = 0.05 * walk / walk.std() + random.uniform(0, 0.05) * random.standard_normal((VIEW, VIEW))
        views[nodule, view] = 0.1 + level / (1 + np.exp((distance - radius) / edge)) + texture
    return np.clip(views, 0, 1).astype(np.float32)


def compare(encoder: Encoder, views: NDArray[np.float32], reference: tuple[NDArray, NDArray, NDArray]) -> Parity:
    """Measure the graph against a reference and against itself.

    Args:
        encoder: the graph.
        views: [N, 9, 50, 50].
        reference: embedding [N,F,out], view attention [N,F,9], logits [N,F,2] of the checkpoint in PyTorch.
    """
    together = encoder(views)
    largest = {
        "embedding": _difference(together[0], reference[0]),
        "view_attention": _difference(together[1], reference[1]),
        "probability": _difference(probability(together[2]), probability(reference[2])),
        "probability_over_batches": _over_batches(encoder, views, probability(together[2])),
    }
    return Parity(len(views), largest, dict(TOLERANCE))


def probability(logits: NDArray) -> NDArray[np.float64]:
    """Malignancy of logits [..., 2]."""
    odds = logits[..., 1].astype(np.float64) - logits[..., 0]
    return np.exp(-np.logaddexp(0, -odds))


def _over_batches(encoder: Encoder, views: NDArray[np.float32], together: NDArray[np.float64]) -> float:
    """How far a nodule's probability moves when it is alone, and when it has another slot of the batch."""
    alone = [probability(encoder(views[i : i + 1])[2]) for i in range(len(views))]
    turned = probability(encoder(np.roll(views, 1, axis=0))[2])
    differences = _difference(np.concatenate(alone), together), _difference(np.roll(turned, -1, axis=0), together)
    return float(np.max(differences))  # unlike max(), it lets no NaN go


def _difference(a: NDArray, b: NDArray) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
