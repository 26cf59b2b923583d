"""The method from voxels to pixels as somebody writes it who has numpy and scipy: whole cubes, rotated one by one.

It takes plain arrays and shares no code with what Triton runs, so that it can say whether Triton is right.  Volumes and
cubes are [z, y, x]; points, shapes and starts are (x, y, z), points in LPS millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..preprocessing_scipy import views_of as views_of_windowed

CUBE, HALF = 100, 50
LOW_HU, HIGH_HU = -1000.0, 500.0
PIXELS = 224  # rows and columns that CLIP's image tower reads
Point = Sequence[float] | NDArray[np.float64]


def views_of_box(
    voxels: NDArray[np.int16], start: NDArray[np.int64], shape: NDArray[np.int64], affine: NDArray, center: Point
) -> NDArray[np.float32]:
    """The nine views [9, 50, 50], 0..1 but for what a spline overshoots, of a nodule in a box of a volume.

    Args:
        voxels: HU of the box [z, y, x]; it must hold all voxels that the cube around the nodule needs.
        start: voxel of the volume that voxels[0, 0, 0] is.
        shape: of the whole volume.
        affine: voxel (x, y, z, 1) to millimetres [4, 4].
        center: of the nodule.
    """
    return views_of_cube(cube_of_box(voxels, start, shape, affine, center))


def cube_of_box(
    voxels: NDArray[np.int16], start: NDArray[np.int64], shape: NDArray[np.int64], affine: NDArray, center: Point
) -> NDArray[np.float32]:
    """The cube [100, 100, 100] in HU around a nodule, 1 mm a voxel, from a box of the volume; see `views_of_box`."""
    origin, points = lattice_of(shape, affine)
    first = _index(center, origin) - HALF
    cube = _resample(voxels, start, affine, origin + first, (CUBE, CUBE, CUBE))
    for axis in range(3):  # x, y, z; beyond the volume's lattice a cube is 0
        index = np.arange(CUBE) + first[axis]
        np.moveaxis(cube, 2 - axis, 0)[(index < 0) | (index >= points[axis])] = 0
    return cube


def resampled(voxels: NDArray[np.int16], affine: NDArray) -> NDArray[np.float32]:
    """A whole volume at 1 mm a voxel, HU [z, y, x]."""
    origin, points = lattice_of(np.array(voxels.shape[::-1]), affine)
    x, y, z = points.tolist()
    return _resample(voxels, np.zeros(3, np.int64), affine, origin, (z, y, x))


def cut_out(
    whole: NDArray[np.float32], shape: NDArray[np.int64], affine: NDArray, center: Point
) -> NDArray[np.float32]:
    """The cube [100, 100, 100] around a nodule in a resampled volume, 0 beyond; its shape and affine as they were."""
    origin, points = lattice_of(shape, affine)
    first = _index(center, origin) - HALF
    low, high = np.maximum(first, 0), np.minimum(first + CUBE, points)
    cube = np.zeros((CUBE, CUBE, CUBE), np.float32)
    cube[_slices(low - first, high - first)] = whole[_slices(low, high)]
    return cube


def views_of_cube(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nine windowed views [9, 50, 50] of a cube in HU: planes of it and of three rotations of it by 45 degrees."""
    return views_of_windowed((np.clip(cube, LOW_HU, HIGH_HU) - np.float32(LOW_HU)) / np.float32(HIGH_HU - LOW_HU))


def pixels_of(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Views as large as CLIP reads them, [9, 224, 224]."""
    factor = PIXELS / views.shape[1]
    return ndimage.zoom(views, (1, factor, factor), order=1)


def lattice_of(shape: NDArray[np.int64], affine: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The 1-mm lattice of a volume: its first point, and how many points it has, along L, P and S.

    It is laid out in RAS from the volume's lowest corner on, so that on the two axes that LPS turns round it is the
    highest corner which it meets.
    """
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= shape - 1
    lps = (corners @ affine.T)[:, :3]
    low, high = lps.min(axis=0), lps.max(axis=0)
    points = np.round(high - low + 1).astype(np.int64)
    x, y = high[:2] - points[:2] + 1
    return np.array([x, y, low[2]]), points


def _index(center: Point, origin: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.trunc(np.asarray(center, np.float64) - origin).astype(np.int64)


def _slices(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[slice, ...]:
    """From one corner to another (x, y, z), for an array [z, y, x]."""
    return tuple(slice(a, b) for a, b in zip(low[::-1].tolist(), high[::-1].tolist(), strict=True))


def _resample(
    voxels: NDArray[np.int16],
    start: NDArray[np.int64],
    affine: NDArray,
    first: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Trilinear values at points 1 mm apart, `first` (LPS) being that of [0, 0, 0]; 0 HU around the volume."""
    to_voxel = np.linalg.inv(affine)
    matrix = to_voxel[:3, :3][::-1, ::-1]  # axes z, y, x
    offset = (to_voxel[:3, :3] @ first + to_voxel[:3, 3] - start)[::-1]
    if np.count_nonzero(matrix) == 3 and np.diag(matrix).all():
        matrix = np.diag(matrix)  # of a volume along the axes: scipy has a faster way
    return ndimage.affine_transform(
        voxels.astype(np.float32), matrix, offset, output_shape=shape, order=1, mode="grid-constant"
    )
