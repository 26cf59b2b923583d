"""The folds of a training: a part of the patients each for validation, the rest to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .data.base import Example
from .data.splits import split
from .fit import Part
from .recipe import Recipe


def parts_of(
    examples: Sequence[Example], recipe: Recipe, held_out_share: float, never: Sequence[str]
) -> tuple[list[Part], tuple[int, ...]]:
    """The nodules of each fold, and those held out from all of them; a patient's nodules are never parted.

    Args:
        examples: of the source.
        recipe: gives the number of folds and the seed; one fold is validated on `validation_share` of the patients.
        held_out_share: of the patients, drawn.
        never: patients who are held out as well.

    Raises:
        TrainingError: SPLIT_TOO_FEW.
    """
    count = recipe.folds if recipe.folds > 1 else max(2, round(1 / recipe.validation_share))
    splits = split(examples, count, recipe.seed, held_out_share, never)
    parts = [
        Part(fold, np.array(splits.training(fold), np.int64), np.array(splits.folds[fold], np.int64))
        for fold in range(recipe.folds)
    ]
    return parts, splits.held_out
