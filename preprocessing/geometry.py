"""Where a volume lies in the patient: its shape and the affine from voxel index to LPS millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadRequest

LARGEST_VOXEL_MM = 10.0


@dataclass(frozen=True, eq=False)
class VolumeGeometry:
    """Shape and position of a whole volume; a geometry that exists is a valid one.

    Attributes:
        shape: voxels along x, y, z (column, row, slice), int64 [3].
        affine: voxel index (x, y, z, 1) -> patient LPS millimetres, float64 [4, 4], as DICOM PS3.3 C.7.6.2 defines it,
            each number rounded to the nearest float32. NIfTI stores affines so; rounding every affine alike (by less
            than 1e-4 mm) is what makes a score independent of the format that the volume came in.

    Raises:
        BadRequest: VOLUME_SHAPE_INVALID, AFFINE_NOT_FINITE, AFFINE_NOT_AFFINE, AFFINE_SINGULAR, VOXEL_TOO_LARGE.
    """

    shape: NDArray[np.int64]
    affine: NDArray[np.float64]

    def __init__(self, shape: ArrayLike, affine: ArrayLike) -> None:
        object.__setattr__(self, "shape", _checked_shape(shape))
        object.__setattr__(self, "affine", _checked_affine(affine))

    @cached_property
    def to_voxel(self) -> NDArray[np.float64]:
        """LPS millimetres (x, y, z, 1) -> continuous voxel index, float64 [4, 4]."""
        return np.linalg.inv(self.affine)

    @cached_property
    def spacing(self) -> NDArray[np.float64]:
        """Millimetres from a voxel to the next along x, y, z, float64 [3]."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def corners(self) -> NDArray[np.float64]:
        """The centres of the eight corner voxels in LPS millimetres, float64 [8, 3]."""
        last = self.shape - 1
        index = np.array([[x, y, z] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])], np.float64)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def voxel_of(self, lps: ArrayLike) -> NDArray[np.float64]:
        """Continuous voxel index (x, y, z) of points [..., 3] in LPS millimetres."""
        return np.asarray(lps, np.float64) @ self.to_voxel[:3, :3].T + self.to_voxel[:3, 3]


def _checked_shape(shape: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(shape)
    if array.shape != (3,) or not np.issubdtype(array.dtype, np.integer) or (array < 1).any():
        raise BadRequest("VOLUME_SHAPE_INVALID", f"The volume's shape is {array.tolist()}.")
    return array.astype(np.int64)


def _checked_affine(affine: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite and is refused as such
        array = np.asarray(affine, np.float64).astype(np.float32).astype(np.float64)
    if array.shape != (4, 4):
        raise BadRequest("AFFINE_NOT_AFFINE", f"The affine has the shape {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise BadRequest("AFFINE_NOT_FINITE", "The affine holds a value that is not a finite number.")
    if not np.allclose(array[3], (0, 0, 0, 1), rtol=0, atol=1e-9):
        raise BadRequest("AFFINE_NOT_AFFINE", f"The affine's last row is {array[3].tolist()}.")
    spacing = np.linalg.norm(array[:3, :3], axis=0)
    # The determinant of the unit axes is the volume they span: 1 for right angles, 0 for a plane.
    if (spacing < 1e-6).any() or abs(np.linalg.det(array[:3, :3] / spacing)) < 1e-3:
        raise BadRequest("AFFINE_SINGULAR", "The affine's voxel axes do not span a volume.")
    if (spacing > LARGEST_VOXEL_MM * (1 + 1e-6)).any():  # rounding an oblique affine lengthens a voxel by some 1e-7
        sizes = " x ".join(f"{s:.3g}" for s in spacing)
        raise BadRequest("VOXEL_TOO_LARGE", f"The voxels measure {sizes} mm; the limit is {LARGEST_VOXEL_MM:g} mm.")
    return array
