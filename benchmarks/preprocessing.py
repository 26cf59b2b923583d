"""Nine views and the cube against the straightforward way with scipy, on one core.

Both ways must agree before they are timed: a faster wrong answer is no result.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from noduleserve.ct.open_volume import open_volume
from noduleserve.demo.phantom import make_phantom, write_dicom
from noduleserve.preprocessing import Box, Lattice, VolumeGeometry, cut_cube, nine_views, required_box, window

from .measure import Ratio, compare


def bench_preprocessing(turns: int = 7) -> list[Ratio]:
    """Measure both on the phantom's first nodule.

    Args:
        turns: how often each way is timed.
    """
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        phantom = make_phantom()
        folder, center = Path(name), phantom.nodules[0].center_lps
        write_dicom(phantom, folder)
        cube = _cube_from_disk(folder, center)
        windowed = window(cube)
        _require_equal("nine views", nine_views(windowed), _scipy_views(windowed), 1e-5)
        _require_equal("cube", cube, _resampled_cube(folder, center), 1e-2)
        return [
            compare(
                "nine views from a cube",
                ("fixed weights", lambda: nine_views(windowed)),
                ("three scipy rotations", lambda: _scipy_views(windowed)),
                goal=25,
                turns=turns,
            ),
            compare(
                "a nodule's cube from a series on disk",
                ("box", lambda: _cube_from_disk(folder, center)),
                ("whole volume resampled", lambda: _resampled_cube(folder, center)),
                goal=20,
                turns=max(2, turns // 3),
            ),
        ]


def _cube_from_disk(folder: Path, center: tuple[float, float, float]) -> NDArray[np.float32]:
    volume = open_volume(folder)
    box = required_box(volume.geometry, center)
    return cut_cube(volume.read_box(box), box.start, volume.geometry, center)


def _scipy_views(windowed: NDArray[np.float32]) -> NDArray[np.float32]:
    turned = {axes: ndimage.rotate(windowed, 45, axes, reshape=False) for axes in ((0, 2), (0, 1), (1, 2))}
    planes = [windowed[50], windowed[:, 50], windowed[:, :, 50]]
    planes += [turned[0, 2][50], turned[0, 2][:, :, 50], turned[0, 1][50], turned[0, 1][:, 50]]
    planes += [turned[1, 2][:, 50], turned[1, 2][:, :, 50]]
    return np.stack([plane[25:75, 25:75] for plane in planes])


def _resampled_cube(folder: Path, center: tuple[float, float, float]) -> NDArray[np.float32]:
    """Read the whole series, resample all of it to the 1-mm lattice, then cut the cube out."""
    volume = open_volume(folder)
    geometry = volume.geometry
    everything = volume.read_box(Box(np.zeros(3, np.int64), geometry.shape))
    lattice = Lattice.of(geometry)
    resampled = _resample(everything, geometry, lattice)
    cube = np.zeros((100, 100, 100), np.float32)
    first = lattice.index_of(center) - 50
    low, high = np.maximum(first, 0), np.minimum(first + 100, lattice.shape)
    inside = tuple(slice(a - f, b - f) for a, b, f in zip(low[::-1], high[::-1], first[::-1], strict=True))
    cube[inside] = resampled[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))]
    return cube


def _resample(voxels: NDArray[np.int16], geometry: VolumeGeometry, lattice: Lattice) -> NDArray[np.float32]:
    """The phantom is axis-aligned, so that scipy's own fast path for it can be used: a scale and an offset an axis."""
    scale = np.diag(geometry.to_voxel)[:3]
    offset = geometry.voxel_of(lattice.origin)
    return ndimage.affine_transform(
        voxels.astype(np.float32),
        scale[::-1],
        offset[::-1],
        output_shape=tuple(lattice.shape[::-1].tolist()),
        order=1,
        mode="grid-constant",
    )


def _require_equal(what: str, ours: NDArray, baseline: NDArray, tolerance: float) -> None:
    largest = float(np.abs(ours - baseline).max())
    if not largest <= tolerance:
        raise AssertionError(f"the two ways to the {what} differ by {largest:.3g}; no timing counts")
