"""A small convolutional network that a base may learn from: it needs a tenth of the nodules that a transformer needs.

It says of a view what the readers said of the nodule, and has a map of what is where in it. It is trained first, then
teaches a base, and is thrown away: nothing of it is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from .network import CLASSES

FEATURES = 256
_GROWTH = (2, 4, 8)  # channels of the stages, in those of the first layer


@dataclass(frozen=True)
class Taught:
    """What a teacher makes of M views.

    Attributes:
        logits: of the classes, [M, 2].
        ratings: standardised, [M, R].
        features: what both are read from, [M, FEATURES].
        places: channels of a map over the view, [M, channels, rows, columns].
    """

    logits: torch.Tensor
    ratings: torch.Tensor
    features: torch.Tensor
    places: torch.Tensor


class Teacher(nn.Module):
    """Three residual stages, each halving rows and columns; mean and maximum over the view; two linear heads."""

    def __init__(self, channels: int, ratings: int, dropout: float) -> None:
        """Draw the weights.

        Args:
            channels: of the first layer.
            ratings: number of ratings.
            dropout: of the features, in training.
        """
        super().__init__()
        widths = [channels, *(growth * channels for growth in _GROWTH)]
        stages = [_Residual(wide, wider) for wide, wider in pairwise(widths)]
        self.stages = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), *stages
        )
        self.features = nn.Linear(2 * widths[-1], FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(FEATURES, CLASSES)
        self.ratings = nn.Linear(FEATURES, ratings)

    @property
    def places(self) -> int:
        """Channels of the map."""
        return self.features.in_features // 2

    def forward(self, views: torch.Tensor) -> Taught:
        """Views, float32 [M, 50, 50], 0..1."""
        places = self.stages((views.unsqueeze(1) - 0.4) / 0.27)
        pooled = torch.cat([places.mean(dim=(2, 3)), places.amax(dim=(2, 3))], dim=1)
        features = F.relu(self.features(pooled))
        seen = self.dropout(features)
        return Taught(self.classes(seen), self.ratings(seen), features, places)


class _Residual(nn.Module):
    """Two convolutions beside a shorter way; half the rows and columns."""

    def __init__(self, wide: int, wider: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(wide, wider, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
            nn.Conv2d(wider, wider, 3, padding=1, bias=False),
            nn.BatchNorm2d(wider),
        )
        self.short = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(wide, wider, 1, bias=False), nn.BatchNorm2d(wider)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.short(x) + self.main(x))
