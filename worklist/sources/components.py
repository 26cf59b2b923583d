"""Nodules of a mask: labels or connected components, with their centroids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.itk import simple_itk
from noduleserve.errors import WorklistError

from .base import MOST_NODULES


@dataclass(frozen=True)
class Component:
    """One label, or one connected component.

    Attributes:
        label: its number.
        center: LPS millimetres, of the centres of its voxels.
        diameter_mm: of the sphere of the same volume.
    """

    label: int
    center: tuple[float, float, float]
    diameter_mm: float


def connected(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers, from 1, of the connected components of a mask [z, y, x]; voxels that share a corner are connected."""
    sitk = simple_itk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))


def components(labels: NDArray[Any], affine: NDArray[np.float64], path: Path) -> list[Component]:
    """Every label above 0 of an array of whole numbers [z, y, x].

    Args:
        labels: unsigned or signed integers.
        affine: voxel index (x, y, z, 1) -> LPS millimetres.
        path: of the source, for the sentence.

    Raises:
        WorklistError: WORKLIST_SOURCE_TOO_MANY.
    """
    sitk = simple_itk()
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.GetImageFromArray(np.ascontiguousarray(labels, np.int32)))
    numbers = statistics.GetLabels()
    if len(numbers) > MOST_NODULES:
        raise WorklistError(
            "WORKLIST_SOURCE_TOO_MANY",
            f"{path.name} holds {len(numbers)} separate objects; the limit is {MOST_NODULES}.",
            "Check that it marks nodules, and clear it of specks.",
        )
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    found = []
    for number in numbers:
        x, y, z = (affine[:3, :3] @ statistics.GetCentroid(number) + affine[:3, 3]).tolist()
        volume = statistics.GetNumberOfPixels(number) * voxel_mm3
        found.append(Component(int(number), (x, y, z), (6 * volume / math.pi) ** (1 / 3)))
    return found
