"""What a base learns from its teacher: to say the same of every view, and to see the same in the same places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .network import NoduleClip, Seen
from .teacher import FEATURES, Taught, Teacher

_SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class Teaching:
    """A teacher and its lesson; without epochs there is none.

    Attributes:
        epochs: of the teacher's training.
        channels: of its first layer.
        batch: nodules in a step.
        learning_rate: of AdamW, climbing for the first twentieth of the steps, then down to 0 as a cosine.
        weight_decay: of its matrices and kernels.
        dropout: of its features.
        average: share of the running average of its weights that a step keeps; the average teaches.
        answer_weight: of the loss on its classes and ratings.
        feature_weight: of the loss on its features.
        place_weight: of the loss on its map.
    """

    epochs: int = 0
    channels: int = 16
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.3
    average: float = 0.998
    answer_weight: float = 1.0
    feature_weight: float = 1.0
    place_weight: float = 1.0


class Lesson(nn.Module):
    """Linear layers from what the base has to what the teacher has; no checkpoint holds them.

    They begin at zero, for which no random numbers are needed.
    """

    def __init__(self, network: NoduleClip, teacher: Teacher, teaching: Teaching) -> None:
        super().__init__()
        sizes, out = network.dimensions, network.dimensions.out
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that its weights are not trained
        self._teaching = teaching
        self.ratings = _zero(out, teacher.ratings.out_features)
        self.features = _zero(out, FEATURES)
        self.places = _zero(sizes.image.width, teacher.places)

    def forward(self, network: NoduleClip, seen: Seen, views: torch.Tensor) -> torch.Tensor:
        """The loss of views [M, 50, 50] that the base has seen."""
        with torch.no_grad():
            taught: Taught = self._teacher[0](views)
        said = network.classifier_image(F.normalize(seen.views, dim=-1))
        answers = F.cross_entropy(said.float(), taught.logits.float().softmax(dim=-1))
        answers = answers + F.mse_loss(self.ratings(seen.views), taught.ratings)
        features = F.mse_loss(self.features(seen.views), taught.features) / taught.features.var().clamp(min=1e-6)
        places = F.mse_loss(self.places(seen.places), _on_patches(taught.places, seen.places.shape[1]))
        weights = self._teaching
        return weights.answer_weight * answers + weights.feature_weight * features + weights.place_weight * places


def _zero(wide: int, wider: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, wide, wider)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _on_patches(places: torch.Tensor, patches: int) -> torch.Tensor:
    """The map where the patches lie, each channel standardised over the views: [M, patches, channels]."""
    side = round(patches**0.5)
    there = F.interpolate(places, size=(side, side), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    mean, spread = there.mean(dim=(0, 1)), there.std(dim=(0, 1), correction=0)
    return (there - mean) / spread.clamp(min=_SMALLEST_SPREAD)
