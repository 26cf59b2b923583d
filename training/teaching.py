"""Trains the teacher of a base, on the nodules that the base is trained on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from noduleserve.errors import TrainingError

from .batches import Batches, torch_seed
from .model.lesson import Teaching
from .model.loss import classification, rating_loss
from .model.teacher import Teacher
from .recipe import Recipe

_EPOCHS_APART = 1_000_000  # its epochs are numbered from here on, so that it sees other variations than the base
_WARMUP = 0.05
_LARGEST_GRADIENT = 1.0
_RATINGS = 0.5  # weight of their loss beside that of the classes

State = dict[str, torch.Tensor]


def train_teacher(
    batches: Batches,
    numbers: NDArray[np.int64],
    fold: int,
    recipe: Recipe,
    device: torch.device,
    tell: Callable[[int, float], None] = lambda *_: None,
) -> Teacher:
    """Train a teacher on single views: to say what the readers say of the nodule, whose ratings must be known.

    Args:
        batches: of the material.
        numbers: of the nodules to learn from.
        fold: names its random numbers.
        recipe: its `teaching`, `balanced` and `seed`.
        device: that computes.
        tell: is told the number of each epoch and its loss.

    Returns:
        The teacher, in evaluation mode, its weights those of the running average.

    Raises:
        TrainingError: LOSS_NOT_FINITE.
    """
    teaching, scale = recipe.teaching, batches.material.rating_scale(numbers).to(device)
    steps = max(1, len(range(0, len(numbers), teaching.batch)) * teaching.epochs)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(torch_seed(recipe.seed, fold, _EPOCHS_APART - 1))
        teacher = new_teacher(batches, teaching).to(device)
        optimizer = _optimizer(teacher, teaching)
        average = {name: value.clone() for name, value in teacher.state_dict().items()}
        done = 0
        for epoch in range(teaching.epochs):
            teacher.train()
            losses = []
            apart = _EPOCHS_APART + epoch
            for batch in batches.training(numbers, teaching.batch, recipe.balanced, recipe.seed, fold, apart):
                part = batch.to(device)
                of_nodule = part.present.nonzero()[:, 0]  # the nodule of each view
                for group in optimizer.param_groups:
                    group["lr"] = teaching.learning_rate * _rate(done, steps)
                taught = teacher(part.views)
                ratings = (part.ratings[of_nodule] - scale[0]) / scale[1]
                loss = classification(taught.logits, part.classes[of_nodule])
                loss = loss + _RATINGS * rating_loss(taught.ratings, ratings)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(teacher.parameters(), _LARGEST_GRADIENT)
                optimizer.step()
                done += 1
                _follow(average, teacher.state_dict(), min(teaching.average, (1 + done) / (10 + done)))
                losses.append(float(loss.detach()))
            tell(epoch, _finite(losses, fold))
    teacher.load_state_dict(average)
    return teacher.eval()


def new_teacher(batches: Batches, teaching: Teaching) -> Teacher:
    """A teacher whose weights are drawn from torch's random numbers."""
    return Teacher(teaching.channels, batches.material.ratings.shape[1], teaching.dropout)


def _optimizer(teacher: Teacher, teaching: Teaching) -> torch.optim.Optimizer:
    decays = [p for p in teacher.parameters() if p.ndim > 1]
    others = [p for p in teacher.parameters() if p.ndim <= 1]
    groups = [{"params": decays, "weight_decay": teaching.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=teaching.learning_rate, betas=(0.9, 0.98))


def _rate(done: int, steps: int) -> float:
    return min((done + 1) / max(1.0, _WARMUP * steps), (1 + math.cos(math.pi * done / steps)) / 2)


def _follow(average: State, own: State, kept: float) -> None:
    """Move the running average, the statistics of normalisation with it; its counters are taken as they are."""
    with torch.no_grad():
        for name, value in own.items():
            if value.dtype.is_floating_point:
                average[name].lerp_(value, 1 - kept)
            else:
                average[name].copy_(value)


def _finite(losses: list[float], fold: int) -> float:
    mean = float(np.mean(losses))
    if not math.isfinite(mean):
        raise TrainingError(
            "LOSS_NOT_FINITE",
            f"The loss of the teacher of fold {fold} is {mean}.",
            "Lower teaching.learning_rate in the recipe.",
        )
    return mean
