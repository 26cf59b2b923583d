"""What the phantom is drawn with: a grid of voxel centres in mm, soft-edged shapes, tubes, smooth texture.

A shape is a signed distance in mm, negative inside. Filling it blends over about a voxel, so that its edges
show the partial volume that a scanner would give them. Arrays of voxels are [z, y, x]; points are (x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Voxel centres in mm, kept as three broadcastable axes: x [1, 1, nx], y [1, ny, 1], z [nz, 1, 1]."""

    x: Array
    y: Array
    z: Array
    spacing: Point

    @classmethod
    def centred(cls, shape_xyz: tuple[int, int, int], spacing: Point) -> Grid:
        """Build a grid of this many voxels and mm a voxel (x, y, z) with the middle at (0, 0, 0)."""
        x, y, z = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in zip(shape_xyz, spacing, strict=True)
        )
        return cls(x[None, None, :], y[None, :, None], z[:, None, None], spacing)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels along z, y and x, as arrays on this grid have them."""
        return self.z.size, self.y.size, self.x.size

    def affine(self, middle: Array) -> NDArray[np.float64]:
        """Voxel index (x, y, z, 1) to mm [4, 4], where the middle of the grid lies at `middle` mm."""
        affine = np.diag([*self.spacing, 1.0])
        steps = np.array(self.shape_zyx[::-1]) - 1
        # Rounded, so that DICOM's decimal strings of 16 characters carry it exactly.
        affine[:3, 3] = np.round(middle - steps / 2 * np.array(self.spacing), 6)
        return affine

    def slices(self) -> Iterator[tuple[slice, Grid]]:
        """Walk through the slices, each with its [z] index: what is computed of one stays in the cache."""
        for k in range(self.z.size):
            yield slice(k, k + 1), Grid(self.x, self.y, self.z[k : k + 1], self.spacing)

    def around(self, low: Iterable[float], high: Iterable[float]) -> tuple[tuple[slice, slice, slice], Grid]:
        """Cut out what lies between two corners (x, y, z) mm: its index into arrays [z, y, x], its grid."""
        cuts = []
        for axis, step, a, b in zip((self.x, self.y, self.z), self.spacing, low, high, strict=True):
            first = float(axis.flat[0])
            start = max(int(np.ceil((a - first) / step)), 0)
            cuts.append(slice(start, max(int(np.floor((b - first) / step)) + 1, start)))
        cx, cy, cz = cuts
        return (cz, cy, cx), Grid(self.x[:, :, cx], self.y[:, cy], self.z[cz], self.spacing)


def fill(hu: Array, distance: Array, value: Array | float, softness: float = 1.3) -> None:
    """Blend `value` into `hu` where the distance is negative; `softness` is the width of the edge in mm."""
    hu += _unit(0.5 - distance / softness) * (value - hu)


def tube(hu: Array, grid: Grid, ends: Array, radii: tuple[float, float], value: float) -> None:
    """Fill a straight tapering tube between the two points of `ends` [2, 3] mm, with round ends."""
    reach = max(radii) + 1.5
    index, near = grid.around(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
    part = hu[index]
    if not part.size:
        return
    (ax, ay, az), (bx, by, bz) = (ends[1] - ends[0]).tolist(), ends[0].tolist()
    x, y, z = near.x - np.float32(bx), near.y - np.float32(by), near.z - np.float32(bz)
    length2 = ax * ax + ay * ay + az * az + 1e-9
    along = _unit(x * (ax / length2) + y * (ay / length2) + z * (az / length2))
    away = np.sqrt((x - along * ax) ** 2 + (y - along * ay) ** 2 + (z - along * az) ** 2)
    fill(part, away - (radii[0] + along * (radii[1] - radii[0])), value)


def _unit(values: Array) -> Array:
    # On the small arrays of a tube np.clip costs several times what these two do.
    return np.minimum(np.maximum(values, 0.0), 1.0)


def oval(*axes: tuple[Array, Array | float]) -> Array:
    """Distance to an ellipse or ellipsoid of (offset from centre, radius) per axis, exact to first order."""
    # The seeds keep the exact centre from dividing 0 by 0, and make it come out one radius deep.
    square: Array | float = 1e-9
    slope: Array | float = 1e-9 / axes[0][1] ** 2
    for offset, radius in axes:
        scaled = offset / radius
        square = square + scaled * scaled
        slope = slope + (scaled / radius) ** 2
    level = np.sqrt(square)
    return level * (level - 1.0) / np.sqrt(slope)


def join(a: Array, b: Array, round_mm: float) -> Array:
    """Union of two shapes, the crease between them rounded off."""
    blend = np.maximum(round_mm - np.abs(a - b), 0.0)
    return np.minimum(a, b) - blend * blend / (4.0 * round_mm)


def cut(a: Array, b: Array, round_mm: float) -> Array:
    """Shape `a` without shape `b`, the edge rounded off."""
    return -join(-a, b, round_mm)


def mirrored(x: Array, soft: float = 30.0) -> Array:
    """|x| without its kink, so that the two halves of the chest meet in a gentle furrow."""
    return np.sqrt(x * x + soft * soft)


class Mottle:
    """Smooth random texture of mean 0, deviation below 1: noise on a coarse lattice, interpolated."""

    def __init__(self, rng: np.random.Generator, grid: Grid, scale_mm: float) -> None:
        axes = (grid.z, grid.y, grid.x)
        self.scale = scale_mm
        self.origin = [float(a.flat[0]) for a in axes]
        counts = [int((float(a.flat[-1]) - first) / scale_mm) + 3 for a, first in zip(axes, self.origin, strict=True)]
        self.lattice: Array = rng.standard_normal(counts, dtype=np.float32)

    def __call__(self, grid: Grid) -> Array:
        """Texture [z, y, x] at the voxels of `grid`, which is the grid it was made for or a part of it."""
        values = self.lattice
        for dim, axis in enumerate((grid.z, grid.y, grid.x)):
            at = (axis.ravel() - self.origin[dim]) / self.scale
            low = at.astype(np.int32)
            weight = np.expand_dims(at - low.astype(np.float32), [d for d in range(3) if d != dim])
            values = values.take(low, dim) * (1 - weight) + values.take(low + 1, dim) * weight
        return values
