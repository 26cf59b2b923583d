"""Trilinear interpolation where the lattice lies at any angle to the voxels: eight neighbours a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**15  # points worked on at a time: with their temporaries they stay near a core


def interpolate_any(
    voxels: NDArray[np.int16], start: NDArray[np.int64], to_voxel: NDArray[np.float64], lps: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The values at every combination of points along the patient's axes; 0 outside the box.

    Args:
        voxels: a box of a volume, [z, y, x].
        start: voxel index (x, y, z) of voxels[0, 0, 0] in the volume.
        to_voxel: LPS millimetres (x, y, z, 1) -> voxel index in the volume, [4, 4].
        lps: millimetres of the points along the patient's axes x, y, z, [3, points].

    Returns:
        float32 [points, points, points], axes (z, y, x).
    """
    points = lps.shape[1]
    # A voxel index is a sum of one number for each patient axis: [voxel axis, points].
    along_x, along_y, along_z = (to_voxel[:3, axis, None] * lps[axis] for axis in range(3))
    along_z = along_z + to_voxel[:3, 3, None]
    box = _Box(voxels, start)
    out = np.empty((points, points, points), np.float32)
    step = max(1, _CHUNK // points**2)
    for at in range(0, points, step):
        rows = along_z[:, at : at + step, None] + along_y[:, None, :]  # [voxel axis, z, y]
        out[at : at + step] = box.sample(rows[..., None], along_x[:, None, None, :])
    return out


class _Box:
    """Samples a box at places that are sums of two arrays."""

    def __init__(self, voxels: NDArray[np.int16], start: NDArray[np.int64]) -> None:
        self._flat = voxels.ravel()
        self._start = start.astype(np.float64)
        self._size = np.array(voxels.shape[::-1])
        self._stride = np.array([1, voxels.shape[2], voxels.shape[1] * voxels.shape[2]])

    def sample(self, some: NDArray[np.float64], more: NDArray[np.float64]) -> NDArray[np.float32]:
        """The values at the voxel indices some[axis] + more[axis], axes x, y, z."""
        offset: NDArray[np.float64] | None = None
        weights = []
        for axis in range(3):
            place = some[axis] + more[axis]
            # Exact, as is taking the floor away below: a larger box of the same volume gives the same values.
            place -= self._start[axis]
            last = self._size[axis] - 1
            low = np.floor(place)
            ends = (some[axis].min() + more[axis].min(), some[axis].max() + more[axis].max()) - self._start[axis]
            inside = bool(ends[0] >= 0 and ends[1] < last)
            if not inside:
                np.clip(low, 0, max(last - 1, 0), out=low)
            place -= low
            share = place.astype(np.float32)
            weights.append((1 - share, share) if inside else _weights_at_border(share, alone=last == 0))
            low *= self._stride[axis]
            offset = low if offset is None else np.add(offset, low, out=offset)
        assert offset is not None
        return self._mixed(offset.astype(np.intp), weights)

    def _mixed(
        self, offset: NDArray[np.intp], weights: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    ) -> NDArray[np.float32]:
        """The eight neighbours of the voxels at an offset, mixed along x, then y, then z."""
        (x0, x1), (y0, y1), (z0, z1) = weights
        _, row, plane = self._stride.tolist()

        def along_x(further: int) -> NDArray[np.float32]:
            pair = self._neighbour(offset, further) * x0
            pair += self._neighbour(offset, further + 1) * x1
            return pair

        def along_y(further: int) -> NDArray[np.float32]:
            four = along_x(further)
            four *= y0
            beside = along_x(further + row)
            beside *= y1
            four += beside
            return four

        eight = along_y(0)
        eight *= z0
        beside = along_y(plane)
        beside *= z1
        eight += beside
        return eight

    def _neighbour(self, offset: NDArray[np.intp], further: int) -> NDArray[np.int16]:
        # Where the box has one voxel along an axis, the next has weight 0, wherever it is read ("clip").
        return np.take(self._flat[min(further, len(self._flat) - 1) :], offset, mode="clip")


def _weights_at_border(share: NDArray[np.float32], alone: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of two neighbours that both exist, of a point that may lie beyond them; `alone`: only the first exists.

    A point's weight on a voxel is 1 less its distance, and not below 0.
    """
    zero = np.float32(0)
    first = np.maximum(np.minimum(1 - share, 1 + share), zero)
    second = np.zeros_like(share) if alone else np.maximum(np.minimum(share, 2 - share), zero)
    return first, second
