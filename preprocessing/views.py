"""The nine views of a nodule: three orthogonal planes of its cube and six planes turned by 45 degrees.

A turned plane is what ``scipy.ndimage.rotate(cube, 45, axes, reshape=False)`` has there: a cubic spline through
the cube, sampled along a line that is turned in the plane of two axes.  Filtering and sampling are both linear, so a
sample is a fixed weighted sum of the cube's values, and the weights factor into one vector per axis.  They are worked
out once, when this module is imported.  Two views of a rotation share their weights on its first axis, and two of the
rotations share that axis: six views cost two products with a small matrix, and six products with vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .box import HALF_CUBE
from .cube import CUBE

VIEW = 50
VIEW_NAMES = (
    "axial",
    "coronal",
    "sagittal",
    "r02[50,:,:]",
    "r02[:,:,50]",
    "r01[50,:,:]",
    "r01[:,50,:]",
    "r12[:,50,:]",
    "r12[:,:,50]",
)
LOW_HU, HIGH_HU = -1000.0, 500.0
_FIRST, _LAST = HALF_CUBE - VIEW // 2, HALF_CUBE + VIEW // 2  # of a view's rows and columns, along an axis of the cube
_NEGLIGIBLE = 1e-9  # spline weights below this are left out; they decay by 0.27 a voxel


def window(hu: NDArray) -> NDArray[np.float32]:
    """Hounsfield units -> 0..1: clipped to -1000..500 HU, then (HU + 1000) / 1500."""
    clipped = np.clip(hu, np.float32(LOW_HU), np.float32(HIGH_HU))
    clipped -= np.float32(LOW_HU)
    clipped /= np.float32(HIGH_HU - LOW_HU)
    return clipped


def nine_views(windowed: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nine 50 x 50 views of a windowed cube, in the order of VIEW_NAMES.

    Args:
        windowed: float32 [100, 100, 100], axes (z, y, x), 0..1.

    Returns:
        float32 [9, 50, 50].
    """
    return views_of_band(windowed[BAND, BAND, BAND])


def views_of_band(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same from the part BAND of a windowed cube along every axis: nothing beyond it has weight in a view."""
    middle, central = HALF_CUBE - BAND.start, slice(_FIRST - BAND.start, _LAST - BAND.start)
    views = np.empty((9, VIEW, VIEW), np.float32)
    views[0] = band[middle, central, central]
    views[1] = band[central, middle, central]
    views[2] = band[central, central, middle]
    # Of each rotation first the sum over its axis p, for both views at once, then over its axis q.
    rows = band.shape[0]
    over_z = (_ON_P @ band.reshape(rows, -1)).reshape(VIEW, rows, rows)  # [sample, y, x]
    over_y = np.matmul(_ON_P, band[central])  # [z, sample, x]
    r02 = over_z[:, central] @ _ON_Q  # [sample, y, view]
    r01 = _ON_Q.swapaxes(1, 2) @ over_z[:, :, central]  # [sample, view, x]
    r12 = over_y.swapaxes(0, 1) @ _ON_Q  # [sample, z, view]
    views[3], views[4] = r02[:, :, 0].T, r02[:, :, 1]  # rows y; columns y
    views[5], views[6] = r01[:, 0], r01[:, 1]  # columns x; columns x
    views[7], views[8] = r12[:, :, 0].T, r12[:, :, 1].T  # rows z; rows z
    return views


def _spline_prefilter() -> NDArray[np.float64]:
    """Samples -> cubic B-spline coefficients, mirrored at the ends: inverse of the (1, 4, 1)/6 matrix, [100, 100]."""
    basis = np.diag(np.full(CUBE, 4 / 6)) + np.diag(np.full(CUBE - 1, 1 / 6), 1)
    basis += np.diag(np.full(CUBE - 1, 1 / 6), -1)
    basis[0, 1] = basis[-1, -2] = 2 / 6
    return np.linalg.inv(basis)


def _spline_weights(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of the cubic spline at fractional indices as weights on the samples, [len(place), 100]."""
    low = np.floor(place).astype(np.int64)
    t = place - low
    taps = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    on_coefficients = np.zeros((len(place), CUBE))
    for tap in range(4):
        on_coefficients[np.arange(len(place)), low - 1 + tap] = taps[:, tap]
    return on_coefficients @ _spline_prefilter()


def _weights() -> tuple[slice, NDArray[np.float32], NDArray[np.float32]]:
    """The weights of two views of a cube turned in the plane of axes p and q, the one at output p = 50, then at q = 50.

    Returns:
        The band, which is all that has weight along p and q; weights on p, which are those of both views,
        [50 samples, band]; weights on q, [50 samples, band, 2 views].
    """
    middle = (CUBE - 1) / 2
    along, fixed = np.arange(_FIRST, _LAST) - middle, HALF_CUBE - middle
    # Where an output point (p, q) of the turned cube comes from: turned back about the middle by 45 degrees.
    half_turn = np.sqrt(0.5)
    on_p = _spline_weights(half_turn * (fixed + along) + middle)
    on_q = np.stack([_spline_weights(half_turn * step + middle) for step in (along - fixed, fixed - along)], axis=-1)
    used = np.flatnonzero((np.abs(on_p) > _NEGLIGIBLE).any(axis=0) | (np.abs(on_q) > _NEGLIGIBLE).any(axis=(0, 2)))
    # The central rows and columns of every cube are wanted as they are.
    band = slice(min(int(used[0]), _FIRST), max(int(used[-1]) + 1, _LAST))
    return band, np.ascontiguousarray(on_p[:, band], np.float32), np.ascontiguousarray(on_q[:, band], np.float32)


BAND, _ON_P, _ON_Q = _weights()
