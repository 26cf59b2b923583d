"""The record of a training: what it was given, what it saw, how it went. Counts and figures, no patient's name.

training.json    everything
training.csv     a row an epoch: losses and figures
training.png     the curves
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import noduleserve

from .batches import UNKNOWN, Material
from .data.base import Example
from .fit import Part, State
from .model.loss import LOSSES
from .model.towers import RECORD
from .recipe import Recipe

TABLE, PICTURE = "training.csv", "training.png"
_PACKAGES = ("torch", "open_clip_torch", "peft", "numpy", "scipy", "scikit-learn", "safetensors")


def data_sha256(material: Material) -> str:
    """A hash of everything that is known of the nodules, and of their views as they are."""
    digest = hashlib.sha256()
    for number, example in enumerate(material.examples):
        digest.update(json.dumps(asdict(example), sort_keys=True, default=dict).encode())
        digest.update(np.ascontiguousarray(material.source.views(number, None)).tobytes())
    return digest.hexdigest()


def counts(material: Material, numbers: NDArray[np.int64]) -> dict[str, Any]:
    """Nodules and patients of a part, by what is known of them."""
    examples: list[Example] = [material.examples[n] for n in numbers.tolist()]
    values = material.values[numbers]
    return {
        "nodules": len(examples),
        "patients": len({example.patient for example in examples}),
        "malignant": sum(example.label == 1 for example in examples),
        "benign": sum(example.label == 0 for example in examples),
        "unlabelled": sum(example.label is None for example in examples),
        "values": {
            label: int((values[values != UNKNOWN] == place).sum())
            for place, label in enumerate(material.features.labels)
            if (values == place).any()
        },
    }


def patient_hash(patient: str) -> str:
    """Stands for a patient in a record, which others may read."""
    return hashlib.sha256(patient.encode()).hexdigest()[:20]


def versions() -> dict[str, str]:
    """Of everything that computes."""
    found = {"noduleserve": noduleserve.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def fold_record(material: Material, part: Part, state: State, final: Mapping[str, Any]) -> dict[str, Any]:
    """Of one fold; `final` are the figures of the weights that were written."""
    return {
        "fold": part.fold,
        "training": counts(material, part.training),
        "validation": counts(material, part.validation),
        "best_epoch": state.best_epoch,
        "final": final,
        "epochs": state.epochs,
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write all three files; numbers that are not finite become null."""
    (folder / RECORD).write_text(json.dumps(_finite(record), indent=1, allow_nan=False) + "\n")
    rows = [_row(fold["fold"], epoch) for fold in record["folds"] for epoch in fold["epochs"]]
    with (folder / TABLE).open("w", newline="") as file:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    _draw(folder / PICTURE, record["folds"])


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(recipe.as_dict()))
    return plain


def _row(fold: int, epoch: Mapping[str, Any]) -> dict[str, Any]:
    validation = epoch["validation"]
    row = {"fold": fold, "epoch": epoch["number"], "seconds": epoch["seconds"], "best": int(epoch["best"])}
    for part, losses in (("training", epoch["training"]), ("validation", validation["losses"])):
        row |= {f"{part}_{name}": losses[name] for name in LOSSES}
    row |= {"auroc_malignancy": validation["malignancy"], "auroc_report_malignancy": validation["report_malignancy"]}
    return row | {f"auroc_{label}": figure for label, figure in validation["semantic"].items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(file: Path, folds: Sequence[Mapping[str, Any]]) -> None:
    """Losses on the left, AUROCs of the validation on the right; the best epoch of each fold marked."""
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for fold in folds:
        epochs, color = fold["epochs"], f"C{fold['fold']}"
        numbers = [epoch["number"] for epoch in epochs]
        left.plot(numbers, [e["training"]["total"] for e in epochs], color=color, linestyle=":")
        left.plot(
            numbers, [e["validation"]["losses"]["total"] for e in epochs], color=color, label=f"fold {fold['fold']}"
        )
        semantic = [_mean(epoch["validation"]["semantic"].values()) for epoch in epochs]
        malignancy = [_mean([epoch["validation"]["malignancy"]]) for epoch in epochs]
        right.plot(numbers, malignancy, color=color)
        right.plot(numbers, semantic, color=color, linestyle="--")
        for axes in (left, right):
            axes.axvline(fold["best_epoch"], color=color, linewidth=0.5)
    left.set(xlabel="epoch", ylabel="loss (training dotted)")
    right.set(xlabel="epoch", ylabel="AUROC of malignancy (dashed: mean of semantic values)")
    left.legend()
    figure.savefig(file, dpi=120, metadata={"Software": None})


def _mean(values: Any) -> float:
    given = [value for value in values if value is not None]
    return float(np.mean(given)) if given else math.nan
