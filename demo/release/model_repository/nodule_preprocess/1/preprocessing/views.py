"""The nine views of a nodule: three orthogonal planes of its cube and six planes turned by 45 degrees.

A turned plane is what ``scipy.ndimage.rotate(cube, 45, axes, reshape=False)`` has there: a cubic spline through
the cube, sampled along a line that is turned in the plane of two axes.  Filtering and sampling are both linear, so a
sample is a fixed weighted sum of the cube's values, and the weights factor into one vector per axis.  They are worked
out once, when this module is imported; a view then costs two small matrix products.
"""

from __future__ import annotations

from typing import NamedTuple

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
_CENTRAL = slice(HALF_CUBE - VIEW // 2, HALF_CUBE + VIEW // 2)
_NEGLIGIBLE = 1e-9  # spline weights below this are left out; they decay by 0.27 a voxel


def window(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hounsfield units -> 0..1: clipped to -1000..500 HU, then (HU + 1000) / 1500."""
    clipped = np.clip(cube, np.float32(LOW_HU), np.float32(HIGH_HU))
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
    views = np.empty((9, VIEW, VIEW), np.float32)
    views[0] = windowed[HALF_CUBE, _CENTRAL, _CENTRAL]
    views[1] = windowed[_CENTRAL, HALF_CUBE, _CENTRAL]
    views[2] = windowed[_CENTRAL, _CENTRAL, HALF_CUBE]
    for number, rotation in enumerate(_ROTATIONS):
        views[3 + 2 * number : 5 + 2 * number] = _turned(windowed, rotation)
    return views


class _Rotation(NamedTuple):
    """How to take the two views of a cube turned in the plane of axes p < q, the third axis t left alone.

    The 100 samples are the 50 with output index p = 50 (along q), then the 50 with q = 50 (along p).
    """

    order: tuple[int, int, int]  # the cube's axes as (t, p, q)
    band: slice  # the part of axes p and q that has weight
    on_p: NDArray[np.float32]  # [100 samples, band]
    on_q: NDArray[np.float32]  # [band, 100 samples]
    rows_are_t: tuple[bool, bool]  # of each view: are its rows along t, or its columns?


def _turned(windowed: NDArray[np.float32], rotation: _Rotation) -> list[NDArray[np.float32]]:
    block = windowed.transpose(rotation.order)[_CENTRAL, rotation.band, rotation.band]
    summed_q = np.ascontiguousarray(block) @ rotation.on_q  # [t, p, sample]
    samples = np.einsum("tps,sp->ts", summed_q, rotation.on_p)  # [t, sample]
    halves = samples[:, :VIEW], samples[:, VIEW:]
    return [half if rows else half.T for half, rows in zip(halves, rotation.rows_are_t, strict=True)]


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


def _rotation(p: int, q: int, rows_are_t: tuple[bool, bool]) -> _Rotation:
    middle = (CUBE - 1) / 2
    along = np.arange(_CENTRAL.start, _CENTRAL.stop) - middle
    fixed = np.full(VIEW, HALF_CUBE - middle)
    out_p, out_q = np.concatenate([fixed, along]), np.concatenate([along, fixed])
    # Where an output point of the turned cube comes from: turned back about the middle by 45 degrees.
    half_turn = np.sqrt(0.5)
    on_p = _spline_weights(half_turn * (out_p + out_q) + middle)
    on_q = _spline_weights(half_turn * (out_q - out_p) + middle)
    used = np.flatnonzero((np.abs(on_p) > _NEGLIGIBLE).any(axis=0) | (np.abs(on_q) > _NEGLIGIBLE).any(axis=0))
    band = slice(int(used[0]), int(used[-1]) + 1)
    return _Rotation(
        order=(3 - p - q, p, q),
        band=band,
        on_p=on_p[:, band].astype(np.float32),
        on_q=np.ascontiguousarray(on_q[:, band].T, np.float32),
        rows_are_t=rows_are_t,
    )


_ROTATIONS = (
    _rotation(0, 2, rows_are_t=(True, False)),  # r02[50,:,:] rows y;      r02[:,:,50] columns y
    _rotation(0, 1, rows_are_t=(False, False)),  # r01[50,:,:] columns x;  r01[:,50,:] columns x
    _rotation(1, 2, rows_are_t=(True, True)),  # r12[:,50,:] rows z;       r12[:,:,50] rows z
)
