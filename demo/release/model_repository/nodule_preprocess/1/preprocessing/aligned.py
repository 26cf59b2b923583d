"""Trilinear interpolation where the lattice runs along the axes of the voxels: one axis after the other."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**15  # numbers worked on at a time: with their temporaries they stay in a core's cache


class Taps(NamedTuple):
    """The two voxels that each lattice point lies between, along one axis of an array.

    Attributes:
        voxel: index of each within the array, intp [2, points].
        weight: of each; 0 for a voxel outside the array, and for a point beyond the lattice; float32 [2, points].
        finer: whether voxels lie closer than the points, so that interpolating makes the array smaller.
    """

    voxel: NDArray[np.intp]
    weight: NDArray[np.float32]
    finer: bool

    @classmethod
    def at(cls, place: NDArray[np.float64], exists: NDArray[np.bool_], size: int, finer: bool) -> Taps:
        """The taps of points at fractional indices along an axis of `size` voxels."""
        low = np.floor(place).astype(np.intp)
        share = (place - low).astype(np.float32)
        index = np.stack([low, low + 1])
        counts = exists & (index >= 0) & (index < size)
        weight = np.where(counts, np.stack([1 - share, share]), np.float32(0))
        return cls(np.clip(index, 0, size - 1), weight, finer)


def interpolate_aligned(voxels: NDArray[np.int16], taps: tuple[Taps, Taps, Taps]) -> NDArray[np.float32]:
    """The values at every combination of points along the three axes of an array.

    Whole rows of the last axis are mixed first, and columns are picked from what is left.  Planes of a first axis whose
    voxels are coarser than the lattice are mixed last, since that makes the array larger.

    Args:
        voxels: [a, b, c].
        taps: along a, b and c.

    Returns:
        float32 [points along a, along b, along c].
    """
    first, second, third = taps
    if first.finer:
        return _mix_rows(voxels, first, second, third)
    planes = np.unique(first.voxel)
    once = Taps(planes[None], np.ones((1, len(planes)), np.float32), finer=True)
    return _mix_planes(_mix_rows(voxels, once, second, third), np.searchsorted(planes, first.voxel), first.weight)


def _mix_rows(voxels: NDArray[np.int16], first: Taps, second: Taps, third: Taps) -> NDArray[np.float32]:
    """Rows are mixed over the first two axes as int16 is read, some planes at a time, and then columns are picked."""
    across = slice(int(third.voxel.min()), int(third.voxel.max()) + 1)
    columns = (third.voxel - across.start).ravel()
    points = first.voxel.shape[1], second.voxel.shape[1], third.voxel.shape[1]
    out = np.empty(points, np.float32)
    step = max(1, _CHUNK // (points[1] * (across.stop - across.start)))
    for at in range(0, points[0], step):
        planes = slice(at, at + step)
        rows: NDArray[np.float32] | None = None
        ends = zip(first.voxel, first.weight, strict=True), zip(second.voxel, second.weight, strict=True)
        for (i, on_i), (j, on_j) in product(*ends):
            weight = on_i[planes, None, None] * on_j[:, None]
            term = voxels[i[planes, None], j, across] * weight
            rows = term if rows is None else np.add(rows, term, out=rows)
        assert rows is not None
        both = np.take(rows, columns, axis=2, mode="clip")
        both *= third.weight.ravel()
        np.add(both[:, :, : points[2]], both[:, :, points[2] :], out=out[planes])
    return out


def _mix_planes(
    values: NDArray[np.float32], index: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Planes of the first axis, mixed two and two."""
    out = np.empty((index.shape[1], *values.shape[1:]), np.float32)
    upper = np.empty(values.shape[1:], np.float32)
    for plane, i, w in zip(out, index.T, weight.T, strict=True):
        np.multiply(values[i[0]], w[0], out=plane)
        np.multiply(values[i[1]], w[1], out=upper)
        plane += upper
    return out
