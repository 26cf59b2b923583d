"""The text bank: one embedding for each value of each semantic feature, from each fold's text tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint import State
from noduleserve.export.checkpoint.layout import CONTEXT
from noduleserve.export.proof.torch_model import TorchModel

from .features import Features

LARGEST_LOG_SCALE = 4.6052  # ln 100, as the method clips it


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

    def save(self, path: Path) -> None:
        """Write text_bank.npz; the same bank gives the same bytes."""
        np.savez(path, embeddings=self.embeddings, scale=self.scale, groups=self.groups)


def require_short_prompts(features: Features, model: TorchModel) -> None:
    """Refuse a prompt that CLIP would cut off (PROMPT_TOO_LONG)."""
    for feature, value, prompts in features.values():
        for prompt in prompts:
            if (tokens := model.token_count(prompt)) > CONTEXT:
                raise CheckpointError(
                    "PROMPT_TOO_LONG",
                    f"A prompt of {feature!r}, {value!r} has {tokens} tokens; CLIP reads {CONTEXT} and drops the rest.",
                    "Shorten it.",
                )


def value_embeddings(features: Features, model: TorchModel) -> NDArray[np.float32]:
    """One fold's embedding of each value, [S, out]: its prompts' embeddings, averaged and normalised again."""
    rows = []
    for _, _, prompts in features.values():
        mean = model.encode_texts(prompts).astype(np.float64).mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows, np.float32)


def scale_of(fold: State) -> np.float32:
    """What a fold multiplies a cosine with."""
    return np.float32(np.exp(min(float(fold["logit_scale"]), LARGEST_LOG_SCALE)))
