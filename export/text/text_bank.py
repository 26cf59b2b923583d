"""The text bank: one embedding for each value of each semantic feature, from each fold's text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noduleserve.export.checkpoint import State

from .features import Features
from .tokens import require_short_prompts

__all__ = ["TextBank", "require_short_prompts", "scale_of", "value_embeddings"]

LARGEST_LOG_SCALE = 4.6052  # ln 100, as the method clips it
BATCH = 32  # prompts at once; more take memory and, on a CPU, no less time


class TextEncoder(Protocol):
    """One fold's text tower and head."""

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Prompts to L2-normalised text embeddings, float32 [P, out]."""


@dataclass(frozen=True, eq=False)
class TextBank:
    """What nodule_similarity compares an image embedding with.

    Attributes:
        embeddings: L2-normalised, float32 [F, S, out].
        scale: exp(min(logit_scale, 4.6052)) of each fold, float32 [F].
        groups: for each value the number of its feature, int64 [S].
    """

    embeddings: NDArray[np.float32]
    scale: NDArray[np.float32]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, features: Features, folds: Sequence[State], embeddings: Sequence[NDArray[np.float32]]) -> TextBank:
        """Put together what `value_embeddings` gives of each fold."""
        scale = np.array([scale_of(fold) for fold in folds], np.float32)
        return cls(np.stack(embeddings), scale, np.array(features.groups, np.int64))

    def save(self, path: Path) -> None:
        """Write text_bank.npz; the same bank gives the same bytes."""
        np.savez(path, embeddings=self.embeddings, scale=self.scale, groups=self.groups)


def value_embeddings(features: Features, model: TextEncoder) -> NDArray[np.float32]:
    """One fold's embedding of each value, [S, out]: its prompts' embeddings, averaged and normalised again."""
    prompts = [prompt for _, _, several in features.values() for prompt in several]
    counts = [len(several) for _, _, several in features.values()]
    batches = [model.encode_texts(prompts[at : at + BATCH]) for at in range(0, len(prompts), BATCH)]
    embeddings = np.concatenate(batches).astype(np.float64)
    rows = [of_value.mean(axis=0) for of_value in np.split(embeddings, np.cumsum(counts)[:-1])]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def scale_of(fold: State) -> np.float32:
    """What a fold multiplies a cosine with."""
    return np.float32(np.exp(min(float(fold["logit_scale"]), LARGEST_LOG_SCALE)))
