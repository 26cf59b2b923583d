"""What a trained ensemble says of the held-out patients, as `noduleserve evaluate` reads results.

Like the table of parts it names patients, and stands beside the checkpoint.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from noduleserve.errors import TrainingError

from .data.base import Example
from .parts_table import own_name
from .validation import Predictions


def require_writable(file: Path) -> None:
    """Find out before the training whether its scores can be written after it.

    Raises:
        TrainingError: SCORES_UNWRITABLE.
    """
    try:
        file.open("a").close()
    except OSError as error:
        raise _unwritable(file, error) from None


def write_scores(
    file: Path, examples: Sequence[Example], folds: Sequence[Predictions], mean: Predictions, labels: Sequence[str]
) -> None:
    """Write a CSV: pid, nodule_id, raw_K of each fold, ensemble, semantic.FEATURE.VALUE of each value, status.

    Args:
        file: is written anew.
        examples: that were held out, N.
        folds: what each fold says of them.
        mean: of the folds.
        labels: "feature.value" of each semantic value, in the order of the predictions.

    Raises:
        TrainingError: SCORES_UNWRITABLE.
    """
    raw = [f"raw_{number}" for number in range(len(folds))]
    try:
        with file.open("w", newline="", encoding="utf-8") as lines:
            table = csv.writer(lines)
            table.writerow(["pid", "nodule_id", *raw, "ensemble", *(f"semantic.{label}" for label in labels), "status"])
            for number, example in enumerate(examples):
                chances = [float(fold.malignancy[number]) for fold in folds]
                own = [*chances, float(mean.malignancy[number]), *mean.semantic[number].tolist()]
                table.writerow([example.patient, own_name(example), *own, "scored"])
    except OSError as error:
        raise _unwritable(file, error) from None


def _unwritable(file: Path, error: OSError) -> TrainingError:
    return TrainingError(
        "SCORES_UNWRITABLE", f"{file} cannot be written: {error.strerror}.", "Name a file that can be."
    )
