"""What a header alone refuses: sizes, before anything is allocated, and numbers that cannot be Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, VolumeGeometry

MOST_VOXELS = 2**32  # of a volume: 16384 slices of 512 x 512
MOST_BOX_VOXELS = 2**29  # of a box: the cube around a nodule at 0.13 mm a voxel
MOST_UNPACKED_BYTES = 2**33  # of a volume that can only be read whole


def check_size(name: str, shape: Sequence[int]) -> None:
    """Refuse a volume of absurd size (SERIES_TOO_LARGE).

    Args:
        name: of the file or folder, for the sentence.
        shape: voxels along each axis.
    """
    voxels = math.prod(int(n) for n in shape)
    if voxels > MOST_VOXELS:
        raise SeriesError(
            "SERIES_TOO_LARGE",
            f"The header of {name} promises {voxels:.3g} voxels; the limit is {MOST_VOXELS:.3g}.",
            "Copy or convert the series again; the header is damaged, or the volume far finer than a CT.",
        )


def check_unpacked(name: str, shape: Sequence[int], bytes_a_voxel: int) -> None:
    """Refuse a volume that would have to be unpacked whole and fills more memory than one may (SERIES_TOO_LARGE)."""
    size = math.prod(int(n) for n in shape) * bytes_a_voxel
    if size > MOST_UNPACKED_BYTES:
        raise SeriesError(
            "SERIES_TOO_LARGE",
            f"{name} unpacks to {size / 2**30:.3g} GiB; the limit is {MOST_UNPACKED_BYTES / 2**30:g} GiB.",
            "Store the series uncompressed, in 16-bit integers, or cut it down to the chest.",
        )


def check_signed(name: str, dtype: np.dtype[Any], slope: float = 1.0, intercept: float = 0.0) -> None:
    """Refuse stored numbers that never fall below 0 (NOT_HOUNSFIELD): air is -1000 HU, and a chest is full of it."""
    if dtype.kind == "u" and slope >= 0 and intercept >= 0:
        raise SeriesError(
            "NOT_HOUNSFIELD",
            f"The voxels of {name} are unsigned ({dtype}): none can be air at -1000 HU.",
            "Convert the series again so that its voxels are Hounsfield units; a mask goes to `noduleserve worklist`.",
        )


def check_box(box: Box, geometry: VolumeGeometry) -> None:
    """Refuse a box of absurd size (BOX_TOO_LARGE) or one beyond the volume (ValueError)."""
    if not Box(start=np.zeros(3, np.int64), stop=geometry.shape).covers(box):
        raise ValueError(f"The box ({box}) reaches beyond the volume.")
    voxels = math.prod(box.shape.tolist())
    if voxels > MOST_BOX_VOXELS:
        raise SeriesError(
            "BOX_TOO_LARGE",
            f"The box around the nodule has {voxels:.3g} voxels; the limit is {MOST_BOX_VOXELS:.3g}.",
            "Use a reconstruction with larger voxels.",
        )
