"""A whole training: its folds one after the other, then the checkpoint and its record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noduleserve.errors import TrainingError
from noduleserve.export.checkpoint.weights import State as Weights
from noduleserve.export.checkpoint.weights import Update
from noduleserve.export.new_folder import new_folder

from .batches import Batches, Material, torch_seed
from .checkpointing import Work
from .devices import has_bfloat16, name_of
from .fit import Part, State, Watch, finished, fit
from .folds import parts_of
from .model.beginning import begin_image_tower
from .model.lora import prepare, published_state
from .model.network import NoduleClip
from .model.towers import RECORD, Towers
from .parts_table import write_parts
from .recipe import Recipe
from .record import counts, data_sha256, fold_record, patient_hash, recipe_record, versions, write_record
from .scores_table import require_writable, write_scores
from .step import Stepper
from .validation import Predictions, auroc, figures_of, predict
from .write import to_half, write_checkpoint

_VIEWED = 500  # nodules, about, that an image tower's beginning is taken from


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a training is given.

    Attributes:
        material: nodules, reports, features.
        data: what the nodules are, for the record.
        towers: to begin with.
        recipe: of the training.
        device: that computes.
        held_out_share: of the patients, never trained on nor validated on.
        never: patients who are held out as well.
        workers: threads that make batches.
        parts: where to write which nodule is in which part; None: nowhere.
        scores: where to write what is said of the held-out nodules; None: nowhere.
    """

    material: Material
    data: str
    towers: Towers
    recipe: Recipe
    device: torch.device
    held_out_share: float = 0.0
    never: Sequence[str] = ()
    workers: int = 1
    parts: Path | None = None
    scores: Path | None = None


@dataclass(frozen=True)
class Telling:
    """What is told of a whole training.

    Attributes:
        line: of progress.
        fold: before each fold: its number, and the epochs that it has had.
        watch: of each fold.
    """

    line: Callable[[str], None] = lambda _: None
    fold: Callable[[int, int], None] = lambda *_: None
    watch: Watch = field(default_factory=Watch)


def train(job: Job, out: Path, *, resume: bool = False, telling: Telling | None = None) -> dict[str, Any]:
    """Train every fold and write the checkpoint with its record.

    What has been done is kept in OUT.training until the checkpoint is whole.

    Args:
        job: see there.
        out: folder of the checkpoint; must not exist yet.
        resume: go on with a training that was interrupted.
        telling: is told.

    Returns:
        The record.

    Raises:
        TrainingError: OUT_EXISTS, TRAINING_STARTED, RESUME_*, SPLIT_TOO_FEW, HELD_OUT_SEEN, PARTS_UNWRITABLE,
            SCORES_UNWRITABLE, LOSS_NOT_FINITE.
    """
    telling = telling or Telling()
    if out.exists():
        raise TrainingError("OUT_EXISTS", f"{out} exists.", "Name a new folder.")
    telling.line("reading and hashing the data")
    parts, held_out = parts_of(job.material.examples, job.recipe, job.held_out_share, job.never)
    seen_by_towers = _require_unseen(job, held_out)
    if job.scores:
        require_writable(job.scores)
    if job.parts:
        write_parts(job.parts, job.material.examples, parts, held_out, list(job.material.features.prompts))
    identity = identity_of(job, held_out)
    work = Work(out.with_name(f"{out.name}.training"), identity, resume=resume)
    batches = Batches(job.material, workers=job.workers)
    began, folds, records, seen = time.monotonic(), [], [], []
    for part in parts:
        weights, state, final, predictions = _fold(job, batches, part, np.array(held_out, np.int64), work, telling)
        folds.append(weights)
        records.append(fold_record(job.material, part, state, final))
        seen.append(predictions)
    record = identity | {
        "dimensions": asdict(job.towers.dimensions),
        "data": identity["data"] | {"all": counts(job.material, np.arange(len(job.material.examples)))},
        "device": name_of(job.device),
        "precision": "bfloat16" if has_bfloat16(job.device) else "float32",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "seconds": round(time.monotonic() - began, 1),
        "seen": sorted(seen_by_towers | _patients(job, {*range(len(job.material.examples))} - {*held_out})),
        "held_out": _held_out(job, np.array(held_out, np.int64), seen),
        "folds": records,
    }
    with new_folder(out) as folder:
        args = {"record": RECORD} | {key: identity[key] for key in ("recipe", "data", "towers")}
        write_checkpoint(folder, folds, job.towers, job.recipe.tuning, args, telling.line)
        write_record(folder, record)
    work.remove()
    return record


def new_network(job: Job, fold: int) -> NoduleClip:
    """The network that a fold begins with."""
    recipe = job.recipe
    seed = torch_seed(recipe.seed, fold, -1)
    network = NoduleClip(job.towers, seed, recipe.temperature)
    prepare(network, recipe.tuning, recipe.lora, seed)
    return network


def identity_of(job: Job, held_out: Sequence[int]) -> dict[str, Any]:
    """What makes a training this one and no other, for JSON."""
    towers = job.towers
    digest = hashlib.sha256()
    for state in (towers.state, towers.heads):
        for key in sorted(state):
            digest.update(key.encode() + np.ascontiguousarray(state[key]).tobytes())
    return {
        "recipe": recipe_record(job.recipe),
        "data": {
            "source": job.data,
            "sha256": data_sha256(job.material),
            "held_out": counts(job.material, np.array(held_out, np.int64))
            | {"sha256": _sha256(sorted(_patients(job, held_out)))},
        },
        "towers": {"name": towers.name, "file_sha256": towers.sha256, "weights_sha256": digest.hexdigest()},
        "features": {"labels": job.material.features.labels, "sha256": _sha256(job.material.features.prompts)},
    }


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _patients(job: Job, numbers: Iterable[int]) -> set[str]:
    return {patient_hash(job.material.examples[number].patient) for number in numbers}


def _require_unseen(job: Job, held_out: Sequence[int]) -> frozenset[str]:
    """Refuse to hold out patients whom the towers were trained on: figures of them would flatter."""
    if known := job.towers.seen & _patients(job, held_out):
        raise TrainingError(
            "HELD_OUT_SEEN",
            f"{job.towers.name} was trained on {len(known)} of the patients who are to be held out.",
            "Give the share, the patients and the seed that it was trained with.",
        )
    return job.towers.seen


def _fold(
    job: Job, batches: Batches, part: Part, held_out: NDArray[np.int64], work: Work, telling: Telling
) -> tuple[tuple[Weights, dict[str, Update]], State, dict[str, Any], Predictions | None]:
    """Train one fold, or take up what there is of it; its weights, and what they are good for."""
    state = work.load(part.fold)
    telling.fold(part.fold, state.next if state else 0)

    def keep(now: State) -> None:
        work.save(part.fold, now, finished=finished(now, job.recipe))
        telling.watch.state(now)

    network = new_network(job, part.fold)
    if job.recipe.beginning == "views" and not job.towers.trained and state is None:
        begin_image_tower(network, _some_views(job, part), torch_seed(job.recipe.seed, part.fold, -1))
    watch = replace(telling.watch, state=keep)
    state = fit(network, batches, part, job.recipe, job.device, state=state, watch=watch)
    weights, updates = published_state(network, job.recipe.lora)
    if job.recipe.half:
        weights = to_half(weights)
        network.load_published(weights)
    stepper = Stepper(network, job.recipe, job.material.groups, job.device, 1)
    final = figures_of(predict(stepper, batches, part.validation, job.recipe.batch), job.material, part.validation)
    predictions = predict(stepper, batches, held_out, job.recipe.batch) if len(held_out) else None
    return (weights, updates), state, asdict(final), predictions


def _some_views(job: Job, part: Part) -> torch.Tensor:
    """Views of nodules to learn from, as they are, [M, 50, 50]."""
    some = part.training[:: max(1, len(part.training) // _VIEWED)]
    return torch.from_numpy(np.concatenate([job.material.source.views(n, None) for n in some.tolist()]))


def _held_out(job: Job, numbers: NDArray[np.int64], seen: Sequence[Predictions | None]) -> dict[str, Any] | None:
    """Figures of the ensemble, the mean over the folds, on the patients that no fold has seen; None without any."""
    folds = [predictions for predictions in seen if predictions]
    if not folds:
        return None
    losses = {name: float(np.mean([fold.losses[name] for fold in folds])) for name in folds[0].losses}
    means = {
        name: np.mean([getattr(fold, name) for fold in folds], axis=0)
        for name in ("embedding", "malignancy", "report_malignancy", "semantic")
    }
    mean, material = Predictions(**means, losses=losses), job.material
    if job.scores:
        nodules = [material.examples[n] for n in numbers.tolist()]
        write_scores(job.scores, nodules, folds, mean, material.features.labels)
    figures = asdict(figures_of(mean, material, numbers))
    rows = [(e.diameter, e.label) for n in numbers.tolist() if (e := material.examples[n]).label is not None]
    known = [(diameter, label) for diameter, label in rows if diameter is not None]
    alone = auroc(np.array([d for d, _ in known]), np.array([label == 1 for _, label in known])) if known else None
    return figures | {"diameter_alone": alone}
