"""Which nodule was in which part, with what is known of it: the one file of a training that names patients.

It is written beside the checkpoint, not into it, and is what `noduleserve evaluate --labels FILE --by part` takes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from noduleserve.errors import TrainingError

from .data.base import Example
from .data.vocabulary import RATINGS
from .fit import Part

HELD_OUT = "held out"


def own_name(example: Example) -> str:
    """The nodule's id without its patient's."""
    return example.name.removeprefix(f"{example.patient}/")


def write_parts(
    file: Path, examples: Sequence[Example], parts: Sequence[Part], held_out: Sequence[int], features: Sequence[str]
) -> None:
    """Write a CSV: pid, nodule_id, part, label, diameter, semantic.FEATURE of each feature, and readers' mean ratings.

    `part` is the fold that a nodule validates, "held out", or "training" where one fold is trained on it.

    Raises:
        TrainingError: PARTS_UNWRITABLE.
    """
    part_of = dict.fromkeys(range(len(examples)), "training") | dict.fromkeys(held_out, HELD_OUT)
    for part in parts:
        part_of |= dict.fromkeys(part.validation.tolist(), f"fold {part.fold}")
    try:
        with file.open("w", newline="", encoding="utf-8") as lines:
            table = csv.writer(lines)
            columns = ["pid", "nodule_id", "part", "label", "diameter", *(f"semantic.{f}" for f in features), *RATINGS]
            table.writerow(columns)
            for number, example in enumerate(examples):
                known = ["" if value is None else value for value in (example.label, example.diameter)]
                values = [example.values.get(feature, "") for feature in features]
                ratings = [example.ratings.get(rating, "") for rating in RATINGS]
                table.writerow([example.patient, own_name(example), part_of[number], *known, *values, *ratings])
    except OSError as error:
        raise TrainingError(
            "PARTS_UNWRITABLE", f"{file} cannot be written: {error.strerror}.", "Name a file that can be."
        ) from None
