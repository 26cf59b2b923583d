"""The 1-mm cube around a nodule, cut out of a native box by trilinear interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .aligned import Taps, interpolate_aligned
from .box import HALF_CUBE
from .geometry import VolumeGeometry
from .lattice import Lattice
from .oblique import interpolate_any

CUBE = 2 * HALF_CUBE
_WHOLE = slice(0, CUBE)
_ALIGNED = 5e-8  # voxels; an off-axis drift below this over the whole cube cannot move a value by 1e-3 HU


def cut_cube(
    voxels: NDArray[np.int16], box_start: ArrayLike, geometry: VolumeGeometry, center: ArrayLike, part: slice = _WHOLE
) -> NDArray[np.float32]:
    """Hounsfield units on the 100 x 100 x 100 lattice points around a nodule.

    Values are trilinear; a neighbour outside the volume counts as 0 HU, and so does a point beyond the lattice.

    Args:
        voxels: Hounsfield units of a native box, [z, y, x]; it must cover `required_box(geometry, center)`.
        box_start: voxel index (x, y, z) of voxels[0, 0, 0] in the volume.
        geometry: of the whole volume.
        center: of the nodule, LPS millimetres (x, y, z).
        part: the indices 0..99 that are wanted, along every axis alike; nothing else is computed.

    Returns:
        float32 [100, 100, 100], axes (z, y, x), the nodule at index 50 of each; or `part` of it along every axis.
    """
    lattice = Lattice.of(geometry)
    index = lattice.index_of(center)[:, None] - HALF_CUBE + np.arange(part.start, part.stop)  # [3, points], (x, y, z)
    lps = lattice.origin[:, None] + index
    exists = (index >= 0) & (index < lattice.shape[:, None])
    start = np.asarray(box_start, np.int64)
    axis_of = _voxel_axis_of_patient_axis(geometry)
    if axis_of is None:
        cube = interpolate_any(voxels, start, geometry.to_voxel, lps)
        for patient_axis, there in enumerate(exists):
            if not there.all():
                np.moveaxis(cube, 2 - patient_axis, 0)[~there] = 0
        return cube
    return _cut_aligned(voxels, start, geometry, lps, exists, axis_of)


def _voxel_axis_of_patient_axis(geometry: VolumeGeometry) -> list[int] | None:
    """For patient axes x, y, z the voxel axis that runs along it; None where the volume is oblique to the patient."""
    to_voxel = geometry.to_voxel[:3, :3]  # rows: voxel axes, columns: patient axes
    axis_of = np.abs(to_voxel).argmax(axis=0).tolist()
    if sorted(axis_of) != [0, 1, 2]:
        return None
    off_axis = np.abs(to_voxel)
    off_axis[axis_of, range(3)] = 0
    return axis_of if off_axis.max() * CUBE < _ALIGNED else None


def _cut_aligned(
    voxels: NDArray[np.int16],
    start: NDArray[np.int64],
    geometry: VolumeGeometry,
    lps: NDArray[np.float64],
    exists: NDArray[np.bool_],
    axis_of: list[int],
) -> NDArray[np.float32]:
    """A patient axis follows one voxel axis: places along it depend on one coordinate."""
    middle = lps[:, lps.shape[1] // 2]
    taps: dict[int, Taps] = {}  # by axis of the array `voxels`
    for patient_axis, voxel_axis in enumerate(axis_of):
        line = np.repeat(middle[None], lps.shape[1], axis=0)
        line[:, patient_axis] = lps[patient_axis]
        place = geometry.voxel_of(line)[:, voxel_axis] - start[voxel_axis]
        array_axis = 2 - voxel_axis
        finer = bool(geometry.spacing[voxel_axis] < 1)
        taps[array_axis] = Taps.at(place, exists[patient_axis], voxels.shape[array_axis], finer)
    values = interpolate_aligned(voxels, (taps[0], taps[1], taps[2]))
    # values has the axes of the voxels, reversed; give them the order of the patient's axes (z, y, x)
    return np.ascontiguousarray(values.transpose([2 - axis_of[2], 2 - axis_of[1], 2 - axis_of[0]]))
