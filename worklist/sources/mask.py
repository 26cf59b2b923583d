"""A mask of nodules in a NIfTI, NRRD or MetaImage file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.itk import ITK_SUFFIXES, ItkVolume
from noduleserve.ct.nifti import NiftiVolume
from noduleserve.errors import WorklistError

from .base import Choice, Marked, Marking
from .components import components, connected
from .ct_series import CtFinder

MASK_SUFFIXES = (".nii", ".nii.gz", *ITK_SUFFIXES)
_MOST_LABEL = 65535


def read_mask(path: Path, finder: CtFinder, choice: Choice) -> Marked:
    """Every value above 0 is a nodule; where there is only one such value, every connected component is one.

    Raises:
        WorklistError: WORKLIST_SOURCE_NOT_MASK (negative numbers, fractions, values above 65535),
            WORKLIST_SOURCE_NO_NODULE (nothing marked), WORKLIST_SOURCE_TOO_MANY.
        SeriesError: the file cannot be read, or does not say where its voxels lie.
    """
    opener = ItkVolume if path.name.lower().endswith(ITK_SUFFIXES) else NiftiVolume
    volume = opener.open_numbers(path)
    numbers = volume.read_numbers()
    _check_labels(path, numbers)
    if not numbers.any():
        raise WorklistError(
            "WORKLIST_SOURCE_NO_NODULE", f"{path.name} marks no voxel.", "Check that it is the mask that was meant."
        )
    found = components(numbers, volume.geometry.affine, path)
    if len(found) == 1:
        found = components(connected(numbers != 0), volume.geometry.affine, path)
    return Marked([Marking(str(c.label), c.center, f"label {c.label}", c.diameter_mm) for c in found])


def _check_labels(path: Path, numbers: NDArray[Any]) -> None:
    whole = numbers.dtype.kind in "iu" or bool((numbers == np.rint(numbers)).all())
    if not whole or numbers.min() < 0 or numbers.max() > _MOST_LABEL:
        raise WorklistError(
            "WORKLIST_SOURCE_NOT_MASK",
            f"{path.name} is no mask: its voxels are not all whole numbers from 0 to {_MOST_LABEL}.",
            "Give a mask with 0 for what is no nodule; the CT itself goes to --series.",
        )
