"""What a training makes small: the contrast between nodules and reports, and two classifications.

    loss = contrast + (cross-entropy of the image + cross-entropy of the text) / 2  [+ features] [+ ratings] [+ lesson]

The last three are not the paper's and are off unless a recipe asks for them. `features`: the value of each semantic
feature is told from the other values of that feature by the prompts that are served. `ratings`: a linear layer, thrown
away afterwards, tells readers' mean ratings and the diameter from the image. `lesson`: what a teacher says of the same
views; see lesson.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Losses:
    """Each a number that gradients flow through; a part that nothing was known for is 0."""

    total: torch.Tensor
    contrast: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor
    features: torch.Tensor
    ratings: torch.Tensor
    lesson: torch.Tensor

    def numbers(self) -> dict[str, float]:
        """By name, for the record."""
        return {name: float(getattr(self, name).detach()) for name in LOSSES}


LOSSES = ("total", "contrast", "image", "text", "features", "ratings", "lesson")


def contrast(
    images: torch.Tensor, reports: torch.Tensor, scale: torch.Tensor, tokens: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Symmetric contrastive loss: each nodule is to find its report among the batch's, each report its nodule.

    Two nodules whose reports are the same to the letter cannot be told apart by them: each has then the other's
    report for its own as well, in equal parts.

    Args:
        images: L2-normalised [N, out].
        reports: L2-normalised [N, out].
        scale: what a cosine is multiplied with.
        tokens: of the reports, int64 [N, L].
        smoothing: of the labels, 0..1.
    """
    logits = scale * images @ reports.T
    same = (tokens[:, None] == tokens[None]).all(dim=-1).float()
    target = same / same.sum(dim=1, keepdim=True)  # symmetric, so that it serves both ways
    one_way = F.cross_entropy(logits, target, label_smoothing=smoothing)
    return (one_way + F.cross_entropy(logits.T, target, label_smoothing=smoothing)) / 2


def classification(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy, the mean over the nodules that something is known of; 0 where nothing is known of any.

    Args:
        logits: [N, classes].
        targets: the share of each class, [N, classes]: rows add up to 1, or are 0 where nothing is known.
        smoothing: of the targets, 0..1.
    """
    known = targets.sum(dim=-1) > 0
    of_nodule = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    return torch.where(known, of_nodule, 0).sum() / known.sum().clamp(min=1)


def feature_loss(
    images: torch.Tensor, prompts: torch.Tensor, scale: torch.Tensor, groups: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy within each semantic feature, as it is served: the mean over the features that are known of.

    Args:
        images: L2-normalised [N, out].
        prompts: L2-normalised [S, out], one for each value of each feature.
        scale: what a cosine is multiplied with.
        groups: the number of the feature of each value, int64 [S], ascending from 0.
        targets: the share of each value, [N, S]: within a feature they add up to 1, or are 0 where it is not known.
    """
    similar = scale * images @ prompts.T
    terms = []
    for number in range(int(groups[-1]) + 1):
        own = groups == number
        if bool(targets[:, own].any()):
            terms.append(classification(similar[:, own], targets[:, own]))
    return torch.stack(terms).mean() if terms else similar.new_zeros(())


def rating_loss(found: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the ratings that are known; 0 where none is.

    Args:
        found: [N, R].
        ratings: standardised, [N, R]; NaN where not known.
    """
    known = ratings.isfinite()
    apart = torch.where(known, found - torch.where(known, ratings, 0), 0)
    return apart.square().sum() / known.sum().clamp(min=1)
