"""A worklist with labels as training data: any CSV that `score` reads, with columns of what is known.

    label                     1 malignant, 0 benign, empty not known
    malignancy, texture ...   ratings of 1 to 5 as LIDC's readers give them (any of vocabulary.RATINGS), or empty
    consistency, margins ...  a column named as a semantic feature: the name of one of its values, or empty
    diameter                  millimetres, or empty

`label` wins over what the rating of malignancy says, and a value given over what ratings say. `pid` names the patient.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

from noduleserve.errors import TrainingError
from noduleserve.export.text.features import Features
from noduleserve.worklist.table import Nodule, read_worklist

from .augmentation import Variation
from .base import Example
from .ratings import labelled
from .vocabulary import KINDS, RATINGS
from .volumes import Located, VolumeNodules

_LABELS = {"1": 1, "0": 0, "": None}
_HIGHEST = {"calcification": 6}  # of the others 5


def open_worklist(file: Path, features: Features, variation: Variation | None = None) -> VolumeNodules:
    """The nodules of a worklist, nine views each.

    Args:
        file: CSV; see above and `worklist.table.read_worklist`.
        features: whose values the cells of feature columns must be.
        variation: of the views.

    Raises:
        WorklistError: where the file is no worklist.
        TrainingError: LABELS_INVALID, NODULES_UNREADABLE.
    """
    rows = read_worklist(file)
    columns = rows[0].columns.keys()
    if not {"label", *RATINGS, *features.prompts} & columns:
        raise _invalid(file, "it has neither a column `label` nor one of ratings or of semantic features")
    located = [_located(row, features, file) for row in rows]
    twice = [name for name, count in Counter(nodule.example.name for nodule in located).items() if count > 1]
    if twice:
        raise _invalid(file, f"the nodule {twice[0]} is in it twice")
    return VolumeNodules(located, variation)


def _located(row: Nodule, features: Features, file: Path) -> Located:
    if row.problem or row.center is None:
        raise _invalid(file, f"row {row.number + 1}: {row.problem}")
    return Located(_example(row, features, file), row.image_path, row.center, row.series_uid)


def _example(row: Nodule, features: Features, file: Path) -> Example:
    """What a row's cells tell."""
    cells = {name: cell.strip() for name, cell in row.columns.items()}
    where = f"row {row.number + 1}"
    ratings = {name: _rating(name, cells[name], where, file) for name in RATINGS if cells.get(name)}
    diameter = _number(cells["diameter"], "diameter", where, file) if cells.get("diameter") else None
    example = labelled(f"{row.pid}/{row.nodule_id}", row.pid, [ratings] if ratings else [], diameter)
    given = {name: _value(name, cells[name], features, where, file) for name in features.prompts if cells.get(name)}
    # What is given holds for every reader; a file has but one reading of a nodule.
    example = replace(example, values={**example.values, **given}, readings=(), soft_label=None)
    if "label" not in cells:
        return example
    if cells["label"] not in _LABELS:
        raise _invalid(file, f"{where}: the label is {cells['label']!r}, not 1, 0 or empty")
    label = _LABELS[cells["label"]]
    return replace(example, label=example.label if label is None else label)


def _rating(name: str, cell: str, where: str, file: Path) -> float:
    rating = _number(cell, name, where, file)
    if not 1 <= rating <= _HIGHEST.get(name, 5) or (name in KINDS and rating != round(rating)):
        raise _invalid(file, f"{where}: {name} is {cell!r}, not a rating of LIDC's scale")
    return rating


def _number(cell: str, name: str, where: str, file: Path) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _invalid(file, f"{where}: {name} is {cell!r}, not a number")
    return number


def _value(feature: str, cell: str, features: Features, where: str, file: Path) -> str:
    for value in features.prompts[feature]:
        if value.casefold() == cell.casefold():
            return value
    known = ", ".join(features.prompts[feature])
    raise _invalid(file, f"{where}: {feature} is {cell!r}, not one of {known}")


def _invalid(file: Path, why: str) -> TrainingError:
    return TrainingError("LABELS_INVALID", f"{file.name} cannot be learned from: {why}.", "See docs/training.md.")
