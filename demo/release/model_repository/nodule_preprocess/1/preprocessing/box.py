"""Which voxels of a volume the cube around a nodule needs: what a client cuts out and sends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadRequest
from .geometry import VolumeGeometry
from .lattice import Lattice

HALF_CUBE = 50
_ROUNDING = 1e-9  # voxels; rounding error alone puts no point beyond a voxel, and no centre beyond a border


@dataclass(frozen=True, eq=False)
class Box:
    """A box of voxels: `start` (x, y, z) belongs to it, `stop` (x, y, z) is the first that does not; int64 [3] each."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @property
    def shape(self) -> NDArray[np.int64]:
        """Voxels along x, y, z."""
        return self.stop - self.start

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array of axes [z, y, x]."""
        (x0, y0, z0), (x1, y1, z1) = self.start.tolist(), self.stop.tolist()
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)

    def covers(self, other: Box) -> bool:
        """Whether every voxel of the other box is in this one."""
        return bool((self.start <= other.start).all() and (self.stop >= other.stop).all())

    def __str__(self) -> str:
        (x0, y0, z0), (x1, y1, z1) = self.start.tolist(), self.stop.tolist()
        return f"x {x0}..{x1 - 1}, y {y0}..{y1 - 1}, z {z0}..{z1 - 1}"


def required_box(geometry: VolumeGeometry, center: ArrayLike) -> Box:
    """The voxels that the trilinear values of the 100-mm cube depend on, cut off at the volume's borders.

    Args:
        geometry: of the whole volume.
        center: of the nodule, LPS millimetres (x, y, z).

    Raises:
        BadRequest: CENTER_NOT_FINITE, CENTER_OUTSIDE.
    """
    lattice = Lattice.of(geometry)
    index = lattice.index_of(center)
    require_inside(geometry, center)
    low = np.maximum(index - HALF_CUBE, 0)
    high = np.minimum(index + HALF_CUBE - 1, lattice.shape - 1)
    ends = np.stack([low, high]) + lattice.origin
    corners = np.array([[x, y, z] for x in ends[:, 0] for y in ends[:, 1] for z in ends[:, 2]])
    voxel = geometry.voxel_of(corners)
    start = np.floor(voxel.min(axis=0) + _ROUNDING).astype(np.int64)
    stop = np.ceil(voxel.max(axis=0) - _ROUNDING).astype(np.int64) + 1
    return Box(start=np.clip(start, 0, geometry.shape - 1), stop=np.clip(stop, 1, geometry.shape))


def require_inside(geometry: VolumeGeometry, center: ArrayLike) -> None:
    """Refuse a centre that lies in no voxel of the volume (CENTER_OUTSIDE)."""
    with np.errstate(over="ignore", invalid="ignore"):  # a centre beyond all bounds may come out as infinity or NaN
        voxel = geometry.voxel_of(center)
    if not ((voxel >= -0.5 - _ROUNDING) & (voxel <= geometry.shape - 0.5 + _ROUNDING)).all():
        place = ", ".join(f"{v:.1f}" if abs(v) < 1e6 else f"{v:.3g}" for v in voxel)
        size = " x ".join(str(n) for n in geometry.shape.tolist())
        raise BadRequest("CENTER_OUTSIDE", f"The nodule's centre is at voxel ({place}) of a volume of {size} voxels.")
