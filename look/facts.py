"""What there is to say of a nodule's place in its volume, in numbers and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noduleserve.ct.volume import Volume
from noduleserve.preprocessing import Box, Lattice, VolumeGeometry
from noduleserve.preprocessing.box import HALF_CUBE
from noduleserve.preprocessing.views import VIEW

from .planes import axes_along_patient

Facts = list[tuple[str, str]]  # name, value

# Where the low and the high end of the patient's axes x, y, z (LPS) lie.
WAYS = (("the right", "the left"), ("the front", "the back"), ("the feet", "the head"))
_SQUARE_DEGREES = 0.05  # rounded direction cosines are this far from right angles
_HAIR = 1e-6  # voxels; rounding error alone puts no point outside


def series_facts(volume: Volume) -> Facts:
    """Of the series: its UID, shape, spacing, and how its voxels lie in the patient."""
    geometry = volume.geometry
    size = geometry.shape * geometry.spacing
    return [
        ("series UID", volume.series_uid or "none (the format has none)"),
        ("voxels (x, y, z)", _times(geometry.shape)),
        ("spacing", f"{' × '.join(f'{s:.4g}' for s in geometry.spacing)} mm"),
        ("extent", f"{' × '.join(f'{s:.0f}' for s in size)} mm"),
        ("voxel axes lead", _directions(geometry)),
        ("orientation", _orientation(geometry)),
    ]


def nodule_facts(geometry: VolumeGeometry, center: ArrayLike, box: Box) -> Facts:
    """Of the nodule's centre and of the voxels that its cube needs."""
    lattice = Lattice.of(geometry)
    return [
        ("centre, LPS", f"{_tuple(center, '.2f')} mm"),
        ("centre, voxel", _tuple(geometry.voxel_of(center), ".2f")),
        ("centre, 1-mm lattice", f"{_tuple(lattice.index_of(center), 'd')} of {_times(lattice.shape)}"),
        ("box of voxels", f"{box} ({_times(box.shape)})"),
        ("100-mm cube", _beyond(geometry, center, HALF_CUBE)),
        ("50-mm field of the views", _beyond(geometry, center, VIEW // 2)),
    ]


def hounsfield_facts(voxels: NDArray[np.int16], box: Box, geometry: VolumeGeometry, center: ArrayLike) -> Facts:
    """Of the Hounsfield units at the centre and in the box."""
    nearest = np.clip(np.floor(geometry.voxel_of(center) + 0.5).astype(int), box.start, box.stop - 1) - box.start
    x, y, z = nearest.tolist()
    return [
        ("at the centre", f"{int(voxels[z, y, x])} HU"),
        ("box, min / median / max", f"{voxels.min()} / {np.median(voxels):.0f} / {voxels.max()} HU"),
    ]


def _directions(geometry: VolumeGeometry) -> str:
    """Where each voxel axis leads, by the nearest of the patient's directions."""
    unit = geometry.affine[:3, :3] / geometry.spacing
    words = []
    for name, direction in zip("xyz", unit.T, strict=True):
        axis = int(np.abs(direction).argmax())
        words.append(f"{name} to {WAYS[axis][int(direction[axis] > 0)]}")
    return ", ".join(words)


def _orientation(geometry: VolumeGeometry) -> str:
    """Whether the volume is aligned with the patient, oblique or tilted, and by how much."""
    unit = geometry.affine[:3, :3] / geometry.spacing
    x, y, z = unit.T
    normal = np.cross(x, y)
    turned = np.degrees(np.arccos(np.clip(np.abs(unit).max(axis=0), 0, 1))).max()
    tilt = np.degrees(np.arctan2(np.linalg.norm(np.cross(z, normal)), abs(float(z @ normal))))
    if tilt > _SQUARE_DEGREES:
        return f"tilted: the stack runs at {tilt:.1f}° to the normal of its slices (at most {turned:.1f}° off an axis)"
    if axes_along_patient(geometry) is None:
        return f"oblique: turned by up to {turned:.1f}° against the patient's axes"
    return "aligned with the patient's axes"


def _beyond(geometry: VolumeGeometry, center: ArrayLike, half: int) -> str:
    """How far a cube of the lattice reaches beyond the volume, and what share of it has no voxels."""
    lattice = Lattice.of(geometry)
    index = lattice.index_of(center)
    before, after = half - index, index + half - lattice.shape
    sides = [
        f"{int(mm)} mm towards {WAYS[axis][end]}"
        for axis in range(3)
        for end, mm in enumerate((before[axis], after[axis]))
        if mm > 0
    ]
    share = _share_outside(geometry, lattice.origin + index, half)
    if not share:
        return "within the volume"
    percent = f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"
    reach = f"reaches {', '.join(sides)} beyond the volume: " if sides else "corners of it lie outside the volume: "
    return f"{reach}{percent} of it counts as 0 HU"


def _share_outside(geometry: VolumeGeometry, middle: NDArray[np.float64], half: int) -> float:
    """The share of a cube's 1-mm points that lie outside the centres of the volume's outermost voxels."""
    to_voxel = geometry.to_voxel[:3, :3]
    by_axis = [np.arange(-half, half)[:, None] * to_voxel[:, axis] for axis in range(3)]
    origin = geometry.voxel_of(middle)

    def outside(voxel: NDArray[np.float64]) -> NDArray[np.bool_]:
        return ((voxel < -_HAIR) | (voxel > geometry.shape - 1 + _HAIR)).any(axis=-1)

    corners = [
        x + y + z + origin for x in by_axis[0][[0, -1]] for y in by_axis[1][[0, -1]] for z in by_axis[2][[0, -1]]
    ]
    if not outside(np.array(corners)).any():  # both are convex
        return 0.0
    row = by_axis[0] + origin
    count = sum(int(outside(row[None] + (by_axis[1] + along_z)[:, None]).sum()) for along_z in by_axis[2])
    return count / (2 * half) ** 3


def _times(numbers: NDArray[np.int64]) -> str:
    return " × ".join(str(n) for n in numbers.tolist())


def _tuple(numbers: ArrayLike, form: str) -> str:
    values: Sequence[float] = np.asarray(numbers).tolist()
    return f"({', '.join(format(value, form) for value in values)})"
