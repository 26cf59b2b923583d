"""What is not the paper's and serves a small model from nothing: a first weight from the views, a teacher, Muon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import Squares, material, recipe, towers

from noduleserve.errors import TrainingError
from noduleserve.training.batches import Batches
from noduleserve.training.fit import Part, State, Watch, fit
from noduleserve.training.model.beginning import begin_image_tower
from noduleserve.training.model.lesson import Lesson, Teaching
from noduleserve.training.model.network import NoduleClip
from noduleserve.training.model.teacher import Teacher
from noduleserve.training.muon import Muon, orthogonalised
from noduleserve.training.recipe import read_recipe, require_sense
from noduleserve.training.teaching import train_teacher
from noduleserve.training.train import Job, Telling, new_network, train

CPU = torch.device("cpu")
TEACHING = Teaching(epochs=3, channels=4, batch=16, average=0.8, dropout=0.1)


def job(folder: Path, **changes: Any) -> Job:
    own = {"tuning": "full", "folds": 1, "epochs": 2, "validation_share": 0.25} | changes
    return Job(material(), "squares", towers(folder), recipe(**own), CPU)


def views(count: int = 24) -> torch.Tensor:
    source = Squares(count)
    return torch.from_numpy(np.concatenate([source.views(n, None) for n in range(count)]))


# --- the beginning ----------------------------------------------------------------------------------------------


def test_the_first_kernels_answer_to_patches_with_equal_spread(tmp_path: Path) -> None:
    network = NoduleClip(towers(tmp_path), 0)
    random = torch.rand(200, 50, 50, generator=torch.Generator().manual_seed(0))
    begin_image_tower(network, random, 0)
    with torch.no_grad():
        answers = network._patches(random).flatten(0, 1)
        own = network.patches_of(random) @ network.clip.visual.conv1.weight.div(network._std).sum(1).flatten(1).T
    # What comes out is the kernels' answer to pixels of 0..1, but for a constant ...
    torch.testing.assert_close(answers - answers.mean(0), own - own.mean(0), atol=1e-3, rtol=0)
    # ... uncorrelated and of one spread, as far as the patches have so many components.
    spread = torch.linalg.eigvalsh(torch.cov(answers.T))
    assert float(spread.max()) < 1.1
    assert float(spread.median()) > 0.9


def test_places_differ_and_the_class_token_stays(tmp_path: Path) -> None:
    network, before = NoduleClip(towers(tmp_path), 0), NoduleClip(towers(tmp_path), 0)
    begin_image_tower(network, views(), 0)
    places, old = network.clip.visual.positional_embedding, before.clip.visual.positional_embedding
    assert torch.equal(places[0], old[0])
    assert float(torch.pdist(places[1:].detach()).min()) > 0.5
    again = NoduleClip(towers(tmp_path), 0)
    begin_image_tower(again, views(), 0)
    assert torch.equal(network.clip.visual.conv1.weight, again.clip.visual.conv1.weight)


def test_only_towers_that_nobody_has_trained_begin_with_the_views(tmp_path: Path) -> None:
    drawn = job(tmp_path, beginning="views", epochs=1, learning_rate=1e-9)
    train(drawn, tmp_path / "begun")
    trained = replace(drawn, towers=replace(drawn.towers, trained=True))
    train(trained, tmp_path / "kept")
    kernels = [_conv(tmp_path / name) for name in ("begun", "kept")]
    own = torch.from_numpy(np.array(drawn.towers.state["vision_model.conv1.weight"]))
    assert float((kernels[0] - own).abs().max()) > 0.01
    torch.testing.assert_close(kernels[1], own, atol=1e-6, rtol=0)


def _conv(checkpoint: Path) -> torch.Tensor:
    from noduleserve.export.checkpoint import read_checkpoint

    return torch.from_numpy(np.array(read_checkpoint(checkpoint).folds[0]["vision_model.conv1.weight"]))


# --- Muon -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 16), (2, 16, 4)])
def test_an_update_keeps_its_directions_and_equals_their_strength(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    found = orthogonalised(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    within = u.mT @ found @ v.mT
    strength = within.diagonal(dim1=-2, dim2=-1)
    assert float(strength.min()) > 0.5 and float(strength.max()) < 1.3
    assert float((within - torch.diag_embed(strength)).abs().max()) < 1e-9


def test_a_step_has_the_size_that_was_asked_for_and_weights_decay() -> None:
    wide, tall, still = (torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 8), (8, 2), (3, 3)))
    wide.grad, tall.grad = torch.randn(4, 8), torch.randn(8, 2)
    Muon([wide, tall, still], lr=0.1, weight_decay=0.5).step()
    for matrix, size in ((wide, 0.1), (tall, 0.1 * 2)):
        strength = torch.linalg.svdvals(matrix.detach() - 0.95)
        assert 0.5 * size < float(strength.min()) and float(strength.max()) < 1.3 * size
    assert torch.equal(still, torch.ones(3, 3))


def test_muon_has_the_matrices_of_blocks_and_adamw_the_rest(tmp_path: Path) -> None:
    from noduleserve.training.step import Stepper

    own = job(tmp_path, matrix_learning_rate=0.02)
    stepper = Stepper(new_network(own, 0), own.recipe, own.material.groups, CPU, 1)
    adam, muon = stepper._optimizers
    theirs = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in stepper.trained.items() if id(p) in theirs}
    assert len(names) == 2 * 6  # q, k, v, output and the two of the MLP, in the only block of each tower
    assert all(".resblocks." in name and name.endswith("weight") for name in names)
    assert len(stepper.trained) == len(names) + sum(len(group["params"]) for group in adam.param_groups)


# --- the teacher ------------------------------------------------------------------------------------------------


def rated_material() -> Any:
    """Squares whose readers rate texture by the brightness that makes them malignant."""
    own = material()
    for number, example in enumerate(own.source.examples):
        own.source.examples[number] = replace(example, ratings={"texture": 1.0 + 4 * (number % 2)})
    return own


def test_a_teacher_learns_classes_and_ratings_and_repeats_itself() -> None:
    batches, numbers = Batches(rated_material()), np.arange(48)
    own = recipe(tuning="full", teaching=replace(TEACHING, epochs=12))
    losses: list[float] = []
    teacher = train_teacher(batches, numbers, 0, own, CPU, lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        taught = teacher(views(48))
    malignant = torch.tensor([False, True, True]).repeat(24)  # the benign have one view, the malignant two
    assert float((taught.logits.argmax(1) == malignant.long()).float().mean()) > 0.95
    texture = taught.ratings[:, 5]
    assert float(texture[malignant].mean()) > float(texture[~malignant].mean()) + 1
    again = train_teacher(batches, numbers, 0, own, CPU)
    assert all(
        torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_lesson_is_learned_and_thrown_away(tmp_path: Path) -> None:
    own = job(tmp_path, epochs=6, patience=0, teaching=TEACHING)
    part = Part(0, np.arange(40), np.arange(40, 48))
    told: list[int] = []
    network = new_network(own, 0)
    watch = Watch(teacher=lambda number, _: told.append(number))
    state = fit(network, Batches(own.material), part, own.recipe, CPU, watch=watch)
    losses = [epoch["training"]["lesson"] for epoch in state.epochs]
    assert told == [0, 1, 2]
    assert losses[-1] < 0.9 * losses[0]
    assert any(name.startswith("lesson.") for name in state.best)
    assert not any("lesson" in name or "teacher" in name for name in network.state_dict())


def test_a_lesson_measures_what_is_said_against_what_is_taught(tmp_path: Path) -> None:
    network, teacher = NoduleClip(towers(tmp_path), 0), Teacher(4, 9, 0.0)
    lesson = Lesson(network, teacher, Teaching(feature_weight=0.0, place_weight=0.0))
    seen = network.see(views(4), torch.ones(6, 1, dtype=torch.bool))
    with torch.no_grad():
        taught = teacher(views(4))
        shares = taught.logits.softmax(-1)
        least = float(-(shares * shares.log()).sum(-1).mean())
        loss = float(lesson(network, seen, views(4)))
        ratings = float(taught.ratings.square().mean())  # the layer that tells them begins at zero
    assert loss > least + ratings - 1e-6
    places = Lesson(network, teacher, Teaching(answer_weight=0.0, feature_weight=0.0))
    with torch.no_grad():
        there = float(places(network, seen, views(4)))
    assert 0.5 < there < 1.001  # standardised, and zero is said; 1 but for channels that answer nowhere


def test_an_interrupted_training_with_a_teacher_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    changes = {"beginning": "views", "matrix_learning_rate": 0.02, "teaching": TEACHING, "rating_weight": 0.5}
    own = job(tmp_path, epochs=3, average=0.9, schedule="cosine", **changes)
    train(own, tmp_path / "whole")
    seen: list[object] = []

    def step(*_: object) -> None:
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own, tmp_path / "parts", telling=Telling(watch=Watch(step=step, epoch=seen.append)))
    states: list[State] = []
    told: list[int] = []
    watch = Watch(state=states.append, teacher=lambda number, _: told.append(number))
    train(own, tmp_path / "parts", resume=True, telling=Telling(watch=watch))
    assert told == []  # the teacher was kept
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors"))
    assert files
    assert all((tmp_path / "whole" / f).read_bytes() == (tmp_path / "parts" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"matrix_learning_rate": 0.02}, "matrix_learning_rate is for tuning full"),
        ({"beginning": "views"}, "beginning views is for tuning full"),
        ({"teaching": TEACHING}, "teaching is for tuning full"),
        ({"tuning": "full", "teaching": replace(TEACHING, dropout=1.0)}, "dropout must be from 0 to below 1"),
        ({"tuning": "full", "teaching": replace(TEACHING, channels=0)}, "channels must be above 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        require_sense(recipe(**changes), "a test")


def test_a_recipe_with_a_teacher_is_written_and_read_back(tmp_path: Path) -> None:
    own = recipe(tuning="full", teaching=TEACHING, beginning="views", matrix_learning_rate=0.02)
    (tmp_path / "recipe.toml").write_text(own.as_toml())
    assert read_recipe(tmp_path / "recipe.toml") == own


def test_calcium_is_a_rating_of_its_own() -> None:
    own = material(4)
    for number, code in enumerate((6.0, 3.0, None)):
        ratings = {} if code is None else {"calcification": code}
        own.source.examples[number] = replace(own.source.examples[number], ratings=ratings)
    np.testing.assert_array_equal(own.ratings[:4, -2], [0, 1, np.nan, np.nan])
