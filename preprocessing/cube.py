"""The 1-mm cube around a nodule, cut out of a native box by trilinear interpolation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .box import HALF_CUBE
from .geometry import VolumeGeometry
from .lattice import Lattice

CUBE = 2 * HALF_CUBE
_ALIGNED = 5e-8  # voxels; an off-axis drift below this over the whole cube cannot move a value by 1e-3 HU


class _Points(NamedTuple):
    """The cube's lattice points along each patient axis (x, y, z): LPS millimetres and whether they exist."""

    lps: list[NDArray[np.float64]]
    exists: list[NDArray[np.bool_]]


def cut_cube(
    voxels: NDArray[np.int16], box_start: ArrayLike, geometry: VolumeGeometry, center: ArrayLike
) -> NDArray[np.float32]:
    """Hounsfield units on the 100 x 100 x 100 lattice points around a nodule.

    Values are trilinear; a neighbour outside the volume counts as 0 HU, and so does a point beyond the lattice.

    Args:
        voxels: Hounsfield units of a native box, [z, y, x]; it must cover `required_box(geometry, center)`.
        box_start: voxel index (x, y, z) of voxels[0, 0, 0] in the volume.
        geometry: of the whole volume.
        center: of the nodule, LPS millimetres (x, y, z).

    Returns:
        float32 [100, 100, 100], axes (z, y, x), the nodule at index 50 of each.
    """
    points = _cube_points(geometry, center)
    start = np.asarray(box_start, np.float64)
    axis_of = _voxel_axis_of_patient_axis(geometry)
    if axis_of is None:
        cube = _general(voxels, start, geometry, points)
    else:
        cube = _separable(voxels, start, geometry, points, axis_of)
    for patient_axis, exists in enumerate(points.exists):
        if not exists.all():
            np.moveaxis(cube, 2 - patient_axis, 0)[~exists] = 0
    return cube


def _cube_points(geometry: VolumeGeometry, center: ArrayLike) -> _Points:
    lattice = Lattice.of(geometry)
    first = lattice.index_of(center) - HALF_CUBE
    lps, exists = [], []
    for axis in range(3):
        index = first[axis] + np.arange(CUBE)
        lps.append(lattice.origin[axis] + index)
        exists.append(lattice.within(index, axis))
    return _Points(lps, exists)


def _voxel_axis_of_patient_axis(geometry: VolumeGeometry) -> list[int] | None:
    """For patient axes x, y, z the voxel axis that runs along it; None where the volume is oblique to the patient."""
    to_voxel = geometry.to_voxel[:3, :3]  # rows: voxel axes, columns: patient axes
    axis_of = np.abs(to_voxel).argmax(axis=0).tolist()
    if sorted(axis_of) != [0, 1, 2]:
        return None
    off_axis = np.abs(to_voxel)
    off_axis[axis_of, range(3)] = 0
    return axis_of if off_axis.max() * CUBE < _ALIGNED else None


def _separable(
    voxels: NDArray[np.int16],
    start: NDArray[np.float64],
    geometry: VolumeGeometry,
    points: _Points,
    axis_of: list[int],
) -> NDArray[np.float32]:
    """One linear interpolation per voxel axis: three passes over a shrinking or growing array, no 8-fold gather."""
    values: NDArray = voxels
    middle = np.array([p[CUBE // 2] for p in points.lps])
    # The finest axis first: it shrinks the most, so that the later passes have less to do.
    for patient_axis in np.argsort(geometry.spacing[axis_of]).tolist():
        voxel_axis = axis_of[patient_axis]
        line = np.broadcast_to(middle, (CUBE, 3)).copy()
        line[:, patient_axis] = points.lps[patient_axis]
        place = geometry.voxel_of(line)[:, voxel_axis] - start[voxel_axis]
        values = _lerp(values, place, axis=2 - voxel_axis)
    # values has the axes of the voxels, reversed; give them the order of the patient's axes (z, y, x)
    return np.ascontiguousarray(values.transpose([2 - axis_of[2], 2 - axis_of[1], 2 - axis_of[0]]))


def _lerp(values: NDArray, place: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Linear interpolation at fractional indices along one axis; outside the array is 0."""
    low = np.floor(place).astype(np.int64)
    share = (place - low).astype(np.float32)
    along = [1, 1, 1]
    along[axis] = len(place)
    out: NDArray[np.float32] | None = None
    for index, weight in ((low, 1 - share), (low + 1, share)):
        weight = np.where((index >= 0) & (index < values.shape[axis]), weight, np.float32(0))
        index = np.clip(index, 0, values.shape[axis] - 1)
        term = np.take(values, index, axis=axis) * weight.reshape(along)
        out = term if out is None else np.add(out, term, out=out)
    assert out is not None
    return out


def _general(
    voxels: NDArray[np.int16], start: NDArray[np.float64], geometry: VolumeGeometry, points: _Points
) -> NDArray[np.float32]:
    """Any affine: eight neighbours gathered for every point, a z plane of the cube at a time to bound memory."""
    x, y = np.meshgrid(points.lps[0], points.lps[1])  # [y, x]
    size = np.array(voxels.shape[::-1])
    flat = voxels.ravel()
    cube = np.empty((CUBE, CUBE, CUBE), np.float32)
    for k, z in enumerate(points.lps[2]):
        place = geometry.voxel_of(np.stack([x, y, np.full_like(x, z)], axis=-1)) - start
        low = np.floor(place).astype(np.int64)
        share = place - low
        plane = np.zeros((CUBE, CUBE))
        for corner in np.ndindex(2, 2, 2):
            index = low + corner
            weight = np.where(corner, share, 1 - share).prod(axis=-1)
            inside = ((index >= 0) & (index < size)).all(axis=-1)
            index = np.clip(index, 0, size - 1)
            offset = (index[..., 2] * size[1] + index[..., 1]) * size[0] + index[..., 0]
            plane += np.where(inside, weight, 0) * flat[offset]
        cube[k] = plane
    return cube
