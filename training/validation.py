"""What a network makes of nodules, and how good that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from noduleserve.export.text.features import Features
from noduleserve.export.text.text_bank import value_embeddings

from .batches import UNKNOWN, Batches, Material
from .model.loss import LOSSES
from .step import Stepper

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of N nodules, as they would be served.

    Attributes:
        embedding: L2-normalised, [N, out].
        malignancy: probability by the image, [N].
        report_malignancy: probability by the plain report, [N].
        semantic: probability of each value of each semantic feature, [N, S].
        losses: means over the batches.
    """

    embedding: _Floats
    malignancy: _Floats
    report_malignancy: _Floats
    semantic: _Floats
    losses: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """How good predictions are; None where only one kind of nodule is there.

    Attributes:
        nodules: that were looked at.
        losses: by name.
        malignancy: AUROC of the image's probability.
        report_malignancy: AUROC of the report's.
        semantic: AUROC of each value of each feature ("feature.value") among the nodules of which it is known.
    """

    nodules: int
    losses: dict[str, float]
    malignancy: float | None
    report_malignancy: float | None
    semantic: dict[str, float]

    @property
    def mean_semantic(self) -> float | None:
        """Mean over the features, each the mean of its values."""
        of_feature: dict[str, list[float]] = {}
        for label, figure in self.semantic.items():
            of_feature.setdefault(label.partition(".")[0], []).append(figure)
        means = [float(np.mean(figures)) for figures in of_feature.values()]
        return float(np.mean(means)) if means else None

    def score(self, monitor: str) -> float:
        """What is to become larger; minus infinity where it cannot be told."""
        known = {"malignancy": self.malignancy, "semantic": self.mean_semantic}
        if monitor == "loss":
            value: float | None = -self.losses["total"]
        elif monitor == "both":
            given = [figure for figure in known.values() if figure is not None]
            value = float(np.mean(given)) if given else None
        else:
            value = known[monitor]
        return -np.inf if value is None or np.isnan(value) else value


def predict(stepper: Stepper, batches: Batches, numbers: NDArray[np.int64], batch: int) -> Predictions:
    """Run the network on nodules as they are, dropout off."""
    network = stepper.network
    was_training = network.training
    network.eval()
    images, chances, reports, losses = [], [], [], []
    with torch.inference_mode():
        for part in batches.plain(numbers, batch):
            outputs, lost = stepper.forward(part)
            images.append(outputs.images.float().cpu())
            chances.append(outputs.image_logits.float().softmax(dim=-1)[:, 1].cpu())
            reports.append(outputs.text_logits.float().softmax(dim=-1)[:, 1].cpu())
            losses.append((len(part.tokens), lost.numbers()))
        semantic = _semantic(stepper, batches, torch.cat(images))
    network.train(was_training)
    total = sum(count for count, _ in losses)
    return Predictions(
        torch.cat(images).numpy(),
        torch.cat(chances).numpy(),
        torch.cat(reports).numpy(),
        semantic,
        {name: sum(count * lost[name] for count, lost in losses) / total for name in LOSSES},
    )


def figures_of(predictions: Predictions, material: Material, numbers: NDArray[np.int64]) -> Figures:
    """Hold predictions against what is known of the nodules."""
    labels, values = material.labels[numbers], material.values[numbers]
    semantic: dict[str, float] = {}
    for place, (label, group) in enumerate(zip(material.features.labels, material.features.groups, strict=True)):
        known = values[:, group] != UNKNOWN
        figure = auroc(predictions.semantic[known, place], values[known, group] == place)
        if figure is not None:
            semantic[label] = figure
    known = labels != UNKNOWN
    return Figures(
        len(numbers),
        predictions.losses,
        auroc(predictions.malignancy[known], labels[known] == 1),
        auroc(predictions.report_malignancy[known], labels[known] == 1),
        semantic,
    )


def auroc(scores: NDArray, positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve; None where all are of one kind, or a score is no number."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any() or not np.isfinite(scores).all():
        return None
    return float(roc_auc_score(positive, scores))


class _Texts:
    """The network as the text bank wants it."""

    def __init__(self, stepper: Stepper, batches: Batches) -> None:
        self._stepper, self._batches = stepper, batches

    def encode_texts(self, prompts: Sequence[str]) -> _Floats:
        """L2-normalised, float32 [P, out]."""
        tokens = self._batches.tokens(list(prompts)).to(self._stepper.device)
        return self._stepper.network.encode_texts(tokens).float().cpu().numpy()


def _semantic(stepper: Stepper, batches: Batches, images: torch.Tensor) -> _Floats:
    """Softmax within each feature, as nodule_similarity has it, [N, S]."""
    features: Features = batches.material.features
    bank = torch.from_numpy(value_embeddings(features, _Texts(stepper, batches)))
    similar = stepper.network.scale.detach().float().cpu() * images @ bank.T
    groups = batches.material.groups
    parts = [similar[:, groups == number].softmax(dim=-1) for number in range(len(features.prompts))]
    return torch.cat(parts, dim=1).numpy()
