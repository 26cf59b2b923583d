"""2-D crops of LIDC nodules: native pixels in Hounsfield units, with every reader's ratings.

The folder holds `crops_hu_int16.npz` (`hu` int16 [N, rows, columns], `noduleID` [N]) and `nodules.csv`, a row a nodule:
noduleID, patient_id, PixelSpacing (millimetres a pixel), EquivDiameter, and for each of four readers Malignancy_1,
Margin_1 and so on, 0 where a reader did not mark the nodule. A crop's middle pixel is the nodule's; rows run from
front to back and columns from right to left of the patient, as in serving's axial view.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import TrainingError

from .augmentation import ORIENTATIONS, Variation, plain_view, varied_view
from .base import Example
from .ratings import labelled
from .vocabulary import RATINGS

PIXELS, TABLE = "crops_hu_int16.npz", "nodules.csv"
_READERS = 4
_COLUMNS = {name: name[0].upper() + name[1:] for name in RATINGS}  # margin -> Margin, of which there is Margin_1
_NEEDED = ("noduleID", "patient_id", "PixelSpacing", *(f"{column}_1" for column in _COLUMNS.values()))


class Crops:
    """A folder of crops as a source of training data.

    Attributes:
        examples: in the order of the table; `diameter` is that of a circle of the outline's area.
    """

    examples: list[Example]

    def __init__(self, folder: Path, variation: Variation | None = None) -> None:
        """Read the table and the crops (some 30 MB).

        Raises:
            TrainingError: CROPS_UNREADABLE.
        """
        self._variation = variation or Variation()
        hu, numbers, rows = _read(folder)
        place = {number: index for index, number in enumerate(numbers.tolist())}
        missing = [row["noduleID"] for row in rows if int(row["noduleID"]) not in place]
        if missing:
            raise _unreadable(f"{PIXELS} has no crop of the noduleID {missing[0]} of {TABLE}")
        self._hu = [hu[place[int(row["noduleID"])]] for row in rows]
        self._spacing = [float(row["PixelSpacing"]) for row in rows]
        if not all(0.1 < spacing < 5 for spacing in self._spacing):
            raise _unreadable(f"a PixelSpacing of {TABLE} is not in millimetres")
        self.examples = [_example(row) for row in rows]

    def views(self, number: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """The axial view as it is, in one orientation or in all; or several varied ones, as `Variation` says."""
        hu, spacing = self._hu[number], self._spacing[number]
        if rng is None:
            return np.stack([plain_view(hu, spacing, pose) for pose in ORIENTATIONS[: self._variation.orientations]])
        count = self._variation.number_of_views(rng)
        return np.stack([varied_view(hu, spacing, self._variation, rng) for _ in range(count)])


def _read(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.int64], list[dict[str, str]]]:
    try:
        with np.load(folder / PIXELS) as arrays:
            hu, numbers = arrays["hu"], arrays["noduleID"]
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, KeyError, ValueError) as error:
        raise _unreadable(f"{PIXELS} or {TABLE} is not there, or damaged ({type(error).__name__})") from error
    if absent := [name for name in _NEEDED if name not in columns]:
        raise _unreadable(f"{TABLE} lacks the column {absent[0]}")
    if hu.ndim != 3 or hu.dtype != np.int16 or len(hu) != len(numbers):
        raise _unreadable(f"{PIXELS} does not hold int16 crops, one to a noduleID")
    return hu, numbers.astype(np.int64), rows


def _example(row: Mapping[str, str]) -> Example:
    readers = []
    for reader in range(1, _READERS + 1):
        given = {name: float(row.get(f"{column}_{reader}") or 0) for name, column in _COLUMNS.items()}
        if ratings := {name: rating for name, rating in given.items() if rating > 0}:
            readers.append(ratings)
    diameter = float(row["EquivDiameter"]) if row.get("EquivDiameter") else None
    return labelled(row["noduleID"], row["patient_id"], readers, diameter)


def _unreadable(why: str) -> TrainingError:
    return TrainingError("CROPS_UNREADABLE", f"The crops cannot be read: {why}.", f"Give the folder of {TABLE}.")
