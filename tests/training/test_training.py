from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_model import random_views
from small_training import OUT, material, recipe, towers

from noduleserve.errors import TrainingError
from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.proof.torch_model import TorchModel
from noduleserve.export.text.features import Features
from noduleserve.training.batches import Batches, epoch_order, stream
from noduleserve.training.fit import Epoch, Part, State, Watch, fit
from noduleserve.training.folds import parts_of
from noduleserve.training.model.towers import checkpoint_towers
from noduleserve.training.train import Job, Telling, new_network, train

CPU = torch.device("cpu")


def base_job(folder: Path, **changes: Any) -> Job:
    own = {"tuning": "full", "folds": 1, "epochs": 2, "validation_share": 0.25} | changes
    return Job(material(), "squares", towers(folder), recipe(**own), CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base from scratch, its towers in half precision, and two folds of LoRA on it."""
    folder = tmp_path_factory.mktemp("trained")
    job = replace(base_job(folder, half=True, epochs=12), material=material(96), held_out_share=0.2)
    train(job, folder / "base")
    lora = replace(job, towers=checkpoint_towers(folder / "base", OUT), recipe=recipe(folds=2, epochs=2))
    train(lora, folder / "lora")
    return folder


def stop_after(epochs: int) -> Telling:
    """Ctrl-C in the first step after so many epochs."""
    seen: list[Epoch] = []

    def step(*_: object) -> None:
        if len(seen) == epochs:
            raise KeyboardInterrupt

    return Telling(watch=Watch(step=step, epoch=seen.append))


def test_the_loss_falls_and_the_squares_are_told_apart(trained: Path) -> None:
    record = json.loads((trained / "base" / "training.json").read_text())
    epochs = record["folds"][0]["epochs"]
    first, last = epochs[0], epochs[-1]
    assert last["training"]["total"] < 0.9 * first["training"]["total"]
    assert last["validation"]["losses"]["total"] < 0.9 * first["validation"]["losses"]["total"]
    assert record["folds"][0]["final"]["malignancy"] > 0.9
    with (trained / "lora" / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["fold"], row["epoch"]) for row in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert float(rows[0]["training_total"]) > 0 and rows[0]["auroc_consistency.solid"]
    assert (trained / "lora" / "training.png").read_bytes()[:4] == b"\x89PNG"


def test_a_record_says_what_was_seen_and_names_no_patient(trained: Path) -> None:
    text = (trained / "lora" / "training.json").read_text()
    record = json.loads(text)
    everyone, held_out = record["data"]["all"], record["data"]["held_out"]
    assert everyone["patients"] == 48 and held_out["patients"] == 10
    assert everyone["malignant"] + everyone["benign"] + everyone["unlabelled"] == everyone["nodules"] == 96
    assert len(record["seen"]) == everyone["patients"] - held_out["patients"]
    assert record["held_out"]["nodules"] == 20
    assert record["held_out"]["diameter_alone"] == 1.0  # the malignant are a millimetre larger
    assert '"p1"' not in text and "torch" in record["versions"]


def test_the_base_is_stored_in_half_precision_and_read_as_it_was(trained: Path) -> None:
    stored = load_file(trained / "base" / "base.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    again = load_file(trained / "lora" / "base.safetensors")
    assert stored.keys() == again.keys() and all(torch.equal(stored[key], again[key]) for key in stored)
    found = checkpoint_towers(trained / "base", OUT)
    assert found.halves and "image_projection.projector.0.weight" in found.heads


def test_what_was_trained_is_what_is_exported(trained: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained / "lora")
    assert (checkpoint.tuning, checkpoint.lora_state, len(checkpoint.folds)) == ("lora", "unmerged", 2)
    assert all(np.abs(update.b).max() > 0 for fold in checkpoint.updates for update in fold.values())
    features: Features = material().features
    release = export_release(checkpoint, None, features, tmp_path / "release", ExportOptions())
    links = {link["name"]: link for link in release.manifest["parity"]["links"]}
    assert release.manifest["parity"]["ok"]
    assert max(links["merge"]["largest"]["embedding"]) < 1e-6  # LoRA merged against LoRA beside the weights
    assert max(links["graph"]["largest"]["embedding"]) < 1e-6


@pytest.mark.parametrize("tuning", ["lora", "full", "probe"])
def test_the_network_in_training_is_the_one_that_is_read(tmp_path: Path, tuning: str) -> None:
    job = base_job(tmp_path, tuning=tuning, epochs=1, folds=2)
    networks = []
    train(job, tmp_path / "out", telling=Telling(watch=Watch()))
    checkpoint = read_checkpoint(tmp_path / "out")
    assert checkpoint.tuning == {"lora": "lora", "full": "ft", "probe": "pt"}[tuning]
    parts, _ = parts_of(job.material.examples, job.recipe, 0.0, ())
    views, texts = random_views(2), ["a solid nodule", "spiculated margins of a nodule"]
    model = TorchModel(checkpoint.dimensions)
    for part, fold in zip(parts, checkpoint.folds, strict=True):
        network = new_network(job, part.fold)
        batches = Batches(job.material)
        fit(network, batches, part, job.recipe, CPU)
        networks.append(network)
        model.load(fold)
        embedding, attention, logits = model.encode_views(views)
        with torch.no_grad():
            own, weights = network.encode_views(
                torch.from_numpy(views.reshape(-1, 50, 50)), torch.ones(2, 9, dtype=torch.bool)
            )
            chances = network.classifier_image(own)
            reports = network.encode_texts(batches.tokens(texts))
        np.testing.assert_allclose(own.numpy(), embedding, atol=2e-6)
        np.testing.assert_allclose(weights.numpy(), attention, atol=2e-6)
        np.testing.assert_allclose(chances.numpy(), logits, atol=5e-6)
        np.testing.assert_allclose(reports.numpy(), model.encode_texts(texts), atol=2e-6)
        assert float(network.scale.detach()) == pytest.approx(float(np.exp(fold["logit_scale"])))


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    job = base_job(tmp_path, tuning="lora", folds=2, epochs=3, average=0.9, warmup_epochs=0.5, schedule="cosine")
    train(job, tmp_path / "whole")
    for resume, epochs in ((False, 1), (True, 3)):  # in the second epoch of the first fold, then of the second
        with pytest.raises(KeyboardInterrupt):
            train(job, tmp_path / "parts", resume=resume, telling=stop_after(epochs))
        assert not (tmp_path / "parts").exists()
    with pytest.raises(TrainingError, match="TRAINING_STARTED"):
        train(job, tmp_path / "parts")
    with pytest.raises(TrainingError, match=r"RESUME_MISMATCH.*recipe"):
        train(replace(job, recipe=replace(job.recipe, learning_rate=1e-5)), tmp_path / "parts", resume=True)
    train(job, tmp_path / "parts", resume=True)
    assert not (tmp_path / "parts.training").exists()
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors"))
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file


def test_an_early_end_keeps_the_best_epoch(tmp_path: Path) -> None:
    job = base_job(tmp_path, epochs=9, patience=2, learning_rate=0.3)  # far too high: it soon gets worse
    states: list[State] = []
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def keep(state: State) -> None:
        states.append(state)
        kept[state.next - 1] = {name: value.clone() for name, value in state.stepper["weights"].items()}

    network = new_network(job, 0)
    part = parts_of(job.material.examples, job.recipe, 0.0, ())[0][0]
    state = fit(network, Batches(job.material), part, job.recipe, CPU, watch=Watch(state=keep))
    scores = [epoch["score"] for epoch in state.epochs]
    assert state.best_epoch == int(np.argmax(scores)) == state.next - 3 < 6
    own = dict(network.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in kept[state.best_epoch].items())
    assert not all(torch.equal(own[name], value) for name, value in kept[state.next - 1].items())


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    job = base_job(tmp_path, learning_rate=1e30)
    with pytest.raises(TrainingError, match="LOSS_NOT_FINITE"):
        train(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_patient_is_in_two_parts() -> None:
    examples = material().examples
    parts, held_out = parts_of(examples, recipe(folds=3), 0.2, ["p0", "p7"])

    def patients(numbers: Any) -> set[str]:
        return {examples[n].patient for n in numbers}

    assert {"p0", "p7"} <= patients(held_out)
    validated: set[str] = set()
    for part in parts:
        three = patients(part.training), patients(part.validation), patients(held_out)
        assert sum(map(len, three)) == len(set.union(*three)) == 24
        assert not validated & three[1]
        validated |= three[1]
    assert validated == patients(range(48)) - patients(held_out)


def test_towers_that_saw_the_held_out_are_refused(trained: Path, tmp_path: Path) -> None:
    lora = recipe(folds=2, epochs=1, seed=1)  # another seed draws other patients
    job = Job(material(96), "squares", checkpoint_towers(trained / "base", OUT), lora, CPU, held_out_share=0.2)
    with pytest.raises(TrainingError, match="HELD_OUT_SEEN"):
        train(job, tmp_path / "out")
    assert not (tmp_path / "out.training").exists()


def test_one_model_is_gone_on_from(trained: Path) -> None:
    with pytest.raises(TrainingError, match="BASE_FOLDS"):
        checkpoint_towers(trained / "lora", OUT)
    with pytest.raises(TrainingError, match="TOWERS_UNSUPPORTED"):
        checkpoint_towers(trained / "base", OUT * 2)


def test_classes_are_drawn_alike_and_the_unlabelled_keep_their_share() -> None:
    labels = np.array([1] * 20 + [0] * 140 + [-1] * 40)
    numbers = np.arange(200) + 1000
    drawn = np.concatenate([epoch_order(numbers, labels, True, stream(0, epoch)) for epoch in range(50)])
    shares = [float(np.mean(labels[drawn - 1000] == kind)) for kind in (1, 0, -1)]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.02)
    assert sorted(epoch_order(numbers, labels, False, stream(0, 0))) == numbers.tolist()
    assert sorted(epoch_order(numbers[:20], labels[:20], True, stream(0, 0))) == numbers[:20].tolist()


def test_the_order_of_an_epoch_is_its_own_and_no_other(tmp_path: Path) -> None:
    batches, numbers = Batches(material()), np.arange(48)

    def first(seed: int, fold: int, epoch: int) -> torch.Tensor:
        return next(iter(batches.training(numbers, 16, True, seed, fold, epoch))).views

    assert torch.equal(first(0, 0, 0), first(0, 0, 0))
    assert not any(
        first(0, 0, 0).shape == other.shape and torch.equal(first(0, 0, 0), other)
        for other in (first(1, 0, 0), first(0, 1, 0), first(0, 0, 1))
    )


def test_more_threads_make_the_same_batches() -> None:
    numbers = np.arange(48)
    one, three = (list(Batches(material(), workers=n).training(numbers, 5, True, 0, 0, 0)) for n in (1, 3))
    assert len(one) == len(three) == 10
    assert all(
        torch.equal(a.views, b.views) and torch.equal(a.tokens, b.tokens) for a, b in zip(one, three, strict=True)
    )
    assert [len(batch.classes) for batch in one] == [5] * 9 + [3]


def test_the_loss_on_features_trains_too(tmp_path: Path) -> None:
    job = base_job(tmp_path, epochs=12, patience=12, feature_weight=1.0, contrast_weight=0.0)
    part = Part(0, np.arange(40), np.arange(40, 48))
    state = fit(new_network(job, 0), Batches(job.material), part, job.recipe, CPU)
    losses = [epoch["training"]["features"] for epoch in state.epochs]
    assert losses[-1] < 0.8 * losses[0]


def test_without_patience_all_epochs_are_run_and_the_last_is_kept(tmp_path: Path) -> None:
    job = base_job(tmp_path, epochs=4, patience=0, learning_rate=0.3)
    part = Part(0, np.arange(40), np.arange(40, 48))
    state = fit(new_network(job, 0), Batches(job.material), part, job.recipe, CPU)
    assert (state.next, state.best_epoch) == (4, 3)
    assert np.argmax([epoch["score"] for epoch in state.epochs]) < 3


def test_ratings_are_learned_by_a_layer_that_is_thrown_away(tmp_path: Path) -> None:
    job = base_job(tmp_path, epochs=8, rating_weight=1.0)
    np.testing.assert_allclose(np.exp(job.material.ratings[:2, -1]), [5, 6], rtol=1e-6)  # the diameters
    assert np.isnan(job.material.ratings[:, 0]).all()
    part = Part(0, np.arange(40), np.arange(40, 48))
    network = new_network(job, 0)
    state = fit(network, Batches(job.material), part, job.recipe, CPU)
    losses = [epoch["training"]["ratings"] for epoch in state.epochs]
    assert losses[0] < 1.3 and losses[-1] < 0.7 * losses[0]
    assert {"rater.weight", "rater.bias"} <= state.best.keys()
    assert not any("rater" in name for name in network.state_dict())
