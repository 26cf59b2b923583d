"""One step: a batch through the network, its losses, and what an optimiser makes of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .batches import Batch
from .devices import has_bfloat16
from .model.lesson import Lesson
from .model.loss import Losses, classification, contrast, feature_loss, rating_loss
from .model.network import NoduleClip
from .muon import Muon
from .recipe import Recipe


@dataclass(frozen=True)
class Outputs:
    """Of N nodules.

    Attributes:
        images: L2-normalised [N, out].
        reports: L2-normalised [N, out].
        image_logits: [N, 2].
        text_logits: [N, 2].
    """

    images: torch.Tensor
    reports: torch.Tensor
    image_logits: torch.Tensor
    text_logits: torch.Tensor


class _Rater(nn.Module):
    """A linear layer from the pooled views to standardised ratings, which no checkpoint holds."""

    scale: torch.Tensor

    def __init__(self, out: int, scale: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(scale.shape[1], out))  # zeros, which need no random numbers
        self.bias = nn.Parameter(torch.zeros(scale.shape[1]))
        self.register_buffer("scale", scale)

    def forward(self, pooled: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
        """The loss: pooled [N, out], ratings [N, R] with NaN where not known."""
        return rating_loss(F.linear(pooled, self.weight, self.bias), (ratings - self.scale[0]) / self.scale[1])


class Stepper:
    """A network with the optimiser of its trained weights, and their running average where a recipe asks for one."""

    def __init__(
        self,
        network: NoduleClip,
        recipe: Recipe,
        groups: torch.Tensor,
        device: torch.device,
        steps: int,
        rating_scale: torch.Tensor | None = None,
        lesson: Lesson | None = None,
    ) -> None:
        """Begin.

        Args:
            network: moved to the device.
            recipe: of the training.
            groups: for each value of the semantic features the number of its feature, int64 [S].
            device: that computes; on a GPU that has it, in bfloat16 with weights and sums in float32.
            steps: of an epoch.
            rating_scale: mean and standard deviation of each rating, [2, R], where the recipe learns from ratings.
            lesson: of a teacher, where there is one.
        """
        self.network, self.device, self._recipe = network.to(device), device, recipe
        self._groups = groups.to(device)
        self._steps, self._done = steps, 0
        self.trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._rater: _Rater | None = None
        if recipe.rating_weight and rating_scale is not None:
            self._rater = _Rater(network.dimensions.out, rating_scale).to(device)
            self.trained |= {f"rater.{name}": p for name, p in self._rater.named_parameters()}
        self._lesson = lesson.to(device) if lesson is not None else None
        if self._lesson is not None:
            self.trained |= {f"lesson.{name}": p for name, p in self._lesson.named_parameters()}
        self._optimizers = _optimizers(self.trained, recipe)
        self._averages = [p.detach().clone() for p in self.trained.values()] if recipe.average else []
        half = has_bfloat16(device)
        self._autocast: Any = lambda: torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext()

    def forward(self, batch: Batch) -> tuple[Outputs, Losses]:
        """The network's outputs and losses."""
        recipe, batch = self._recipe, batch.to(self.device)
        network = self.network
        with self._autocast():
            seen = network.see(batch.views, batch.present)
            images = F.normalize(seen.pooled, dim=-1)
            texts = network.encode_texts(
                torch.cat([batch.tokens, batch.prompts]) if recipe.feature_weight else batch.tokens
            )
            image_logits = network.classifier_image(images)
            reports = texts[: len(batch.tokens)]
            text_logits = network.classifier_text(reports)
        scale = network.scale
        apart = contrast(images, reports, scale, batch.tokens, recipe.label_smoothing)
        image = classification(image_logits.float(), batch.classes, recipe.class_smoothing)
        text = classification(text_logits.float(), batch.classes, recipe.class_smoothing)
        features = apart.new_zeros(())
        if recipe.feature_weight:
            prompts = texts[len(batch.tokens) :]
            features = feature_loss(images, prompts, scale, self._groups, batch.values)
        none = apart.new_zeros(())
        ratings = none if self._rater is None else self._rater(seen.pooled, batch.ratings)
        lesson = none if self._lesson is None else self._lesson(network, seen, batch.views)
        total = recipe.contrast_weight * apart + recipe.image_weight * image + recipe.text_weight * text
        total = total + recipe.feature_weight * features + recipe.rating_weight * ratings + lesson
        losses = Losses(total, apart, image, text, features, ratings, lesson)
        return Outputs(images, reports, image_logits, text_logits), losses

    def step(self, batch: Batch) -> dict[str, float]:
        """Move the weights by one batch; returns its losses by name."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * self._rate()
            optimizer.zero_grad(set_to_none=True)
        _, losses = self.forward(batch)
        losses.total.backward()
        if self._recipe.largest_gradient:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), self._recipe.largest_gradient)
        for optimizer in self._optimizers:
            optimizer.step()
        self._done += 1
        if self._averages:
            kept = min(self._recipe.average, (1 + self._done) / (10 + self._done))  # the first weights are soon gone
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, list(self.trained.values()), 1 - kept)
        return losses.numbers()

    def _rate(self) -> float:
        """The share of the learning rate at this step."""
        recipe = self._recipe
        warmup, end = recipe.warmup_epochs * self._steps, recipe.epochs * self._steps
        if self._done < warmup:
            return (self._done + 1) / (warmup + 1)
        if recipe.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * min(1.0, (self._done - warmup) / max(1.0, end - warmup)))) / 2

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the network has the averaged weights where there are averages."""
        if not self._averages:
            yield
            return
        own = [p.detach().clone() for p in self.trained.values()]
        self._set(self._averages)
        try:
            yield
        finally:
            self._set(own)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the trained weights, on the CPU."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.trained.items()}

    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Take on the weights that `weights` gave."""
        self._set([weights[name].to(self.device) for name in self.trained])

    def state(self) -> dict[str, Any]:
        """Everything that a later step depends on."""
        return {
            "weights": self.weights(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "averages": [average.cpu() for average in self._averages],
            "done": self._done,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.set_weights(state["weights"])
        for optimizer, own in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self._averages = [average.to(self.device) for average in state["averages"]]
        self._done = state["done"]

    def _set(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.trained.values(), values, strict=True):
                parameter.copy_(value)


def _optimizers(trained: dict[str, torch.nn.Parameter], recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices of the towers' blocks where the recipe wants it."""
    within = {n: p for n, p in trained.items() if recipe.matrix_learning_rate and ".resblocks." in n and p.ndim == 2}
    rest = {name: p for name, p in trained.items() if name not in within}
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(_parameter_groups(rest, recipe), betas=(0.9, recipe.momentum), fused=True)
    ]
    if within:
        highest = recipe.matrix_learning_rate
        group = {"params": list(within.values()), "weight_decay": recipe.weight_decay, "highest": highest}
        found.append(Muon([group], lr=highest))
    return found


def _parameter_groups(trained: dict[str, torch.nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices decay; vectors, and tables whose rows are each seen by few nodules, do not."""
    groups: list[dict[str, Any]] = []
    for heads in (False, True):
        highest = recipe.head_learning_rate if heads and recipe.head_learning_rate else recipe.learning_rate
        for decays in (False, True):
            own = [
                p
                for name, p in trained.items()
                if name.startswith("clip.") != heads and (p.ndim > 1 and "embedding" not in name) == decays
            ]
            if own:
                decay = recipe.weight_decay if decays else 0.0
                groups.append({"params": own, "lr": highest, "weight_decay": decay, "highest": highest})
    return groups
