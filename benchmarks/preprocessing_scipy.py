"""The straightforward ways to cube and views: what somebody who knows scipy would write."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from noduleserve.preprocessing import CUBE, Lattice, VolumeGeometry

from .preprocessing_requests import Request


def views_of(windowed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nine views [9, 50, 50] of a windowed cube [100, 100, 100]: planes of it and of three rotations of it."""
    turned = {axes: ndimage.rotate(windowed, 45, axes, reshape=False) for axes in ((0, 2), (0, 1), (1, 2))}
    planes = [windowed[50], windowed[:, 50], windowed[:, :, 50]]
    planes += [turned[0, 2][50], turned[0, 2][:, :, 50], turned[0, 1][50], turned[0, 1][:, 50]]
    planes += [turned[1, 2][:, 50], turned[1, 2][:, :, 50]]
    return np.stack([plane[25:75, 25:75] for plane in planes])


def cube_of_box(request: Request) -> NDArray[np.float32]:
    """The cube [100, 100, 100] of a request whose cube lies within its lattice, resampled from the request's box."""
    lattice = Lattice.of(request.geometry)
    first = lattice.origin + lattice.index_of(request.center) - CUBE // 2
    return _resample(request.voxels, request.geometry, request.start, first, (CUBE, CUBE, CUBE))


def resampled_cube(
    voxels: NDArray[np.int16], geometry: VolumeGeometry, center: tuple[float, float, float]
) -> NDArray[np.float32]:
    """The cube [100, 100, 100] of a whole volume [z, y, x] that is resampled to its lattice first."""
    lattice = Lattice.of(geometry)
    z, y, x = lattice.shape[::-1].tolist()
    resampled = _resample(voxels, geometry, np.zeros(3, np.int64), lattice.origin, (z, y, x))
    cube = np.zeros((CUBE, CUBE, CUBE), np.float32)
    first = lattice.index_of(center) - CUBE // 2
    low, high = np.maximum(first, 0), np.minimum(first + CUBE, lattice.shape)
    inside = tuple(slice(a - f, b - f) for a, b, f in zip(low[::-1], high[::-1], first[::-1], strict=True))
    cube[inside] = resampled[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))]
    return cube


def _resample(
    voxels: NDArray[np.int16],
    geometry: VolumeGeometry,
    start: NDArray[np.int64],
    first_lps: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> NDArray[np.float32]:
    """1-mm points from `first_lps` on, float32 [z, y, x]; the voxels are a box of the volume from voxel `start` on."""
    matrix = geometry.to_voxel[:3, :3][::-1, ::-1]  # axes z, y, x
    aligned = np.count_nonzero(matrix) == 3 and np.diag(matrix).all()
    return ndimage.affine_transform(
        voxels.astype(np.float32),
        np.diag(matrix) if aligned else matrix,  # of an aligned volume: scipy's own, faster way
        (geometry.voxel_of(first_lps) - start)[::-1],
        output_shape=shape,
        order=1,
        mode="grid-constant",
    )
