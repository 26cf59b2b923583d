"""Nine views, the cube and a request's preprocessing against the straightforward ways with scipy, on one core.

Both ways must agree before they are timed: a faster wrong answer is no result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from noduleserve.ct.open_volume import open_volume
from noduleserve.demo.phantom import make_phantom, write_dicom
from noduleserve.preprocessing import Box, cut_cube, nine_views, required_box, window

from .measure import Ratio, compare
from .preprocessing_requests import requests
from .preprocessing_scipy import cube_of_box, resampled_cube, views_of

Center = tuple[float, float, float]


def bench_preprocessing(turns: int = 7) -> list[Ratio]:
    """Measure both on the phantom's first nodule, and on noise in volumes of the spacings that scanners deliver.

    Args:
        turns: how often each way is timed.
    """
    with threadpool_limits(1):
        with tempfile.TemporaryDirectory() as name:
            phantom = make_phantom()
            write_dicom(phantom, Path(name))
            measured = _of_a_series(Path(name), phantom.nodules[0].center_lps, turns)
        return measured + _of_requests(turns)


def _of_a_series(folder: Path, center: Center, turns: int) -> list[Ratio]:
    windowed = window(cube_from_disk(folder, center))
    return [
        _compare_equal(
            "nine views from a cube",
            ("fixed weights", lambda: nine_views(windowed)),
            ("three scipy rotations", lambda: views_of(windowed)),
            1e-5,
            goal=25,
            turns=turns,
        ),
        _compare_equal(
            "a nodule's cube from a series on disk",
            ("box", lambda: cube_from_disk(folder, center)),
            ("whole volume resampled", lambda: resampled_cube_from_disk(folder, center)),
            1e-2,
            goal=20,
            turns=max(2, turns // 3),
        ),
    ]


def _of_requests(turns: int) -> list[Ratio]:
    return [
        _compare_equal(
            f"a request's views, {request.name}",
            ("nodule_preprocess", request.views),
            ("scipy on the same box", lambda request=request: views_of(window(cube_of_box(request)))),  # type: ignore[misc]
            1e-5,
            goal=20,
            turns=turns,
        )
        for request in requests()
    ]


def _compare_equal(
    name: str,
    ours: tuple[str, Callable[[], NDArray[np.float32]]],
    baseline: tuple[str, Callable[[], NDArray[np.float32]]],
    tolerance: float,
    goal: float,
    turns: int,
) -> Ratio:
    """Time two ways that give the same; the tolerance is in the unit of what they give."""
    require_equal(name, ours[1](), baseline[1](), tolerance)
    return compare(name, ours, baseline, goal, turns)


def require_equal(what: str, ours: NDArray[np.float32], baseline: NDArray[np.float32], tolerance: float) -> None:
    """Refuse to time two ways that differ anywhere by more than the tolerance."""
    largest = float(np.abs(ours - baseline).max())
    if not largest <= tolerance:
        raise AssertionError(f"the two ways to {what} differ by {largest:.3g}; no timing counts")


def cube_from_disk(folder: Path, center: Center) -> NDArray[np.float32]:
    """Our way to a nodule's cube, HU, [100, 100, 100]: open the series, read the box that the cube needs, cut."""
    volume = open_volume(folder)
    box = required_box(volume.geometry, center)
    return cut_cube(volume.read_box(box), box.start, volume.geometry, center)


def resampled_cube_from_disk(folder: Path, center: Center) -> NDArray[np.float32]:
    """Read the whole series, resample all of it to the 1-mm lattice, then cut the cube out."""
    volume = open_volume(folder)
    everything = volume.read_box(Box(np.zeros(3, np.int64), volume.geometry.shape))
    return resampled_cube(everything, volume.geometry, center)
