"""One fold: epochs, validation after each, an early end, and the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noduleserve.errors import TrainingError

from .batches import Batches, torch_seed
from .model.lesson import Lesson
from .model.loss import LOSSES
from .model.network import NoduleClip
from .recipe import Recipe
from .step import Stepper
from .teaching import new_teacher, train_teacher
from .validation import Figures, figures_of, predict


@dataclass(frozen=True, eq=False)
class Part:
    """The nodules of one fold, by their numbers in the source.

    Attributes:
        fold: its number.
        training: int64, ascending.
        validation: int64, ascending; of other patients.
    """

    fold: int
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """What became of one epoch.

    Attributes:
        number: from 0.
        seconds: that it took, validation included.
        training: mean losses by name.
        validation: figures of the fold's validation part.
        score: of the monitor; larger is better.
        best: whether it is kept: better than all before, or the last where a recipe wants that.
    """

    number: int
    seconds: float
    training: dict[str, float]
    validation: Figures
    score: float
    best: bool


@dataclass
class State:
    """A fold between two epochs: what is needed to go on.

    Attributes:
        next: number of the next epoch.
        epochs: what became of each, as plain data.
        best: trained weights of the best epoch.
        best_score: of it.
        best_epoch: its number; -1 before the first.
        stepper: weights, optimiser and averages.
        teacher: weights of the teacher, where there is one.
    """

    next: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_score: float = -np.inf
    best_epoch: int = -1
    stepper: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """What is told while a fold is trained; each may do nothing.

    Attributes:
        step: after each step: its number in the epoch, the steps of an epoch, losses by name.
        teacher: after each epoch of a teacher: its number and the loss.
        epoch: after each epoch.
        state: after each epoch, the state to go on from; it is changed by the next.
    """

    step: Callable[[int, int, dict[str, float]], None] = lambda *_: None
    teacher: Callable[[int, float], None] = lambda *_: None
    epoch: Callable[[Epoch], None] = lambda _: None
    state: Callable[[State], None] = lambda _: None


def fit(
    network: NoduleClip,
    batches: Batches,
    part: Part,
    recipe: Recipe,
    device: torch.device,
    *,
    state: State | None = None,
    watch: Watch | None = None,
) -> State:
    """Train a network on one fold; it has the best epoch's weights afterwards.

    Args:
        network: prepared for the recipe's tuning; changed in place.
        batches: of the material.
        part: the fold's nodules.
        recipe: of the training.
        device: that computes.
        state: of a training that was interrupted.
        watch: is told.

    Returns:
        The last state.

    Raises:
        TrainingError: LOSS_NOT_FINITE.
    """
    watch = watch or Watch()
    steps = max(1, -(-len(part.training) // recipe.batch))
    scale = batches.material.rating_scale(part.training)
    state = state or State()
    lesson = None if finished(state, recipe) else _lesson(network, batches, part, recipe, device, state, watch)
    stepper = Stepper(network, recipe, batches.material.groups, device, steps, scale, lesson)
    if state.stepper:
        stepper.set_state(state.stepper)
    while not finished(state, recipe):
        _epoch(stepper, batches, part, recipe, state, watch)
        state.stepper = stepper.state()
        watch.state(state)
    stepper.set_weights(state.best)
    network.eval()
    return state


def _lesson(
    network: NoduleClip,
    batches: Batches,
    part: Part,
    recipe: Recipe,
    device: torch.device,
    state: State,
    watch: Watch,
) -> Lesson | None:
    """The lesson of a teacher, who is trained where the state has none; None where the recipe wants none."""
    if not recipe.teaching.epochs:
        return None
    if state.teacher:
        teacher = new_teacher(batches, recipe.teaching)
        teacher.load_state_dict(state.teacher)
    else:
        teacher = train_teacher(batches, part.training, part.fold, recipe, device, watch.teacher)
        state.teacher = {name: value.cpu() for name, value in teacher.state_dict().items()}
    return Lesson(network, teacher.to(device), recipe.teaching)


def finished(state: State, recipe: Recipe) -> bool:
    """Whether there is no epoch left, or patience is at its end."""
    waited = state.next - 1 - state.best_epoch
    return state.next >= recipe.epochs or 0 < recipe.patience <= waited


def _epoch(stepper: Stepper, batches: Batches, part: Part, recipe: Recipe, state: State, watch: Watch) -> None:
    """One epoch with its validation, put down in the state."""
    began, number = time.monotonic(), state.next
    with _own_random_numbers(torch_seed(recipe.seed, part.fold, number), stepper.device):
        losses = _train(stepper, batches, part, recipe, number, watch)
    with stepper.averaged():
        predictions = predict(stepper, batches, part.validation, recipe.batch)
        figures = figures_of(predictions, batches.material, part.validation)
        score = figures.score(recipe.monitor)
        if best := score > state.best_score or not state.best or not recipe.patience:
            state.best, state.best_score, state.best_epoch = stepper.weights(), score, number
    epoch = Epoch(number, round(time.monotonic() - began, 3), losses, figures, score, best)
    state.epochs.append(asdict(epoch))
    state.next = number + 1
    watch.epoch(epoch)


def _train(
    stepper: Stepper, batches: Batches, part: Part, recipe: Recipe, epoch: int, watch: Watch
) -> dict[str, float]:
    """The steps of an epoch; returns mean losses by name."""
    stepper.network.train()
    steps, sums = max(1, -(-len(part.training) // recipe.batch)), dict.fromkeys(LOSSES, 0.0)
    made = batches.training(part.training, recipe.batch, recipe.balanced, recipe.seed, part.fold, epoch)
    done = 0
    for done, batch in enumerate(made, 1):
        losses = stepper.step(batch)
        if not np.isfinite(losses["total"]):
            raise TrainingError(
                "LOSS_NOT_FINITE",
                f"The loss of fold {part.fold} is {losses['total']} in epoch {epoch}.",
                "Lower learning_rate, or set largest_gradient, in the recipe.",
            )
        for name, value in losses.items():
            sums[name] += value
        watch.step(done, steps, losses)
    return {name: value / max(1, done) for name, value in sums.items()}


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """torch's random numbers begin at the seed, and are the caller's again afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
