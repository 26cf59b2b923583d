"""The nine views are planes of whole cubes rotated by scipy, in the order that their names say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from reference import plain
from scipy import ndimage

from noduleserve.preprocessing import VIEW_NAMES, VolumeGeometry, cut_cube, nine_views, views_of_request, window

Array = np.ndarray[Any, Any]


def noise(seed: int) -> Array:
    return np.random.default_rng(seed).random((100, 100, 100), np.float32)


def smooth(seed: int) -> Array:
    cube = ndimage.gaussian_filter(noise(seed), 3)
    return ((cube - cube.min()) / np.ptp(cube)).astype(np.float32)


def edges(seed: int) -> Array:
    """0 and 1 only, in blocks: nothing overshoots more."""
    blocks = np.random.default_rng(seed).integers(0, 2, (20, 20, 20)).astype(np.float32)
    return np.kron(blocks, np.ones((5, 5, 5), np.float32))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("make", [noise, smooth, edges])
def test_views_are_planes_of_rotated_cubes(make: Any, seed: int) -> None:
    cube = make(seed)
    views = nine_views(cube)
    assert views.shape == (9, 50, 50) and views.dtype == np.float32
    np.testing.assert_allclose(views, plain.views_of(cube * 1500.0 - 1000.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("number", "name"), list(enumerate(VIEW_NAMES)))
def test_a_name_says_how_its_view_is_made(number: int, name: str) -> None:
    cube = smooth(3)
    planes = {"axial": np.s_[50], "coronal": np.s_[:, 50], "sagittal": np.s_[:, :, 50]}
    if name in planes:
        plane = cube[planes[name]]
    else:
        p, q, index = re.fullmatch(r"r(\d)(\d)\[(.*)\]", name).groups()
        turned = ndimage.rotate(cube, 45, axes=(int(p), int(q)), reshape=False)
        plane = turned[tuple(slice(None) if i == ":" else int(i) for i in index.split(","))]
    np.testing.assert_allclose(nine_views(cube)[number], plane[25:75, 25:75], rtol=0, atol=1e-5)


def test_there_are_nine_names() -> None:
    assert len(set(VIEW_NAMES)) == 9
    assert VIEW_NAMES[:3] == ("axial", "coronal", "sagittal")


def test_the_turned_views_overshoot_as_the_cubic_spline_does() -> None:
    views = nine_views(edges(4))
    assert views[:3].min() >= 0 and views[:3].max() <= 1
    assert views[3:].min() < -0.05 and views[3:].max() > 1.05


def test_a_view_looks_at_its_own_planes_only() -> None:
    """A bright voxel off the three middle planes and off the turned ones shows nowhere."""
    cube = np.zeros((100, 100, 100), np.float32)
    cube[60, 75, 90] = 1
    assert np.abs(nine_views(cube)).max() < 1e-4
    cube[50, 60, 70] = 1
    shown = np.abs(nine_views(cube)).max(axis=(1, 2)) > 0.1
    assert shown.tolist() == [True] + [False] * 8
    assert nine_views(cube)[0, 60 - 25, 70 - 25] == 1


@pytest.mark.parametrize(
    ("hu", "value"), [(-32768, 0), (-1001, 0), (-1000, 0), (-250, 0.5), (0, 2 / 3), (500, 1), (501, 1), (32767, 1)]
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_window(hu: int, value: float, dtype: type) -> None:
    windowed = window(np.full((2, 2, 2), hu, dtype))
    assert windowed.dtype == np.float32
    np.testing.assert_allclose(windowed, value, rtol=0, atol=1e-7)


def test_the_window_is_the_plain_one() -> None:
    hu = np.random.default_rng(6).uniform(-1500, 1000, (20, 20, 20)).astype(np.float32)
    np.testing.assert_allclose(window(hu), plain.window(hu.astype(float)), rtol=0, atol=1e-6)


def test_no_input_is_modified() -> None:
    rng = np.random.default_rng(7)
    voxels = rng.integers(-2000, 2000, (30, 30, 30)).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) + 1e-9  # so that rounding it to float32 changes it
    affine[3] = (0, 0, 0, 1)
    given = [voxels, np.zeros(3, np.int32), np.full(3, 30, np.int32), affine, np.full(3, 29.5)]
    before = [array.copy() for array in given]
    views_of_request(*given)
    for array, old in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, old)

    hu = cut_cube(voxels, given[1], VolumeGeometry(given[2], affine), given[4])
    old = hu.copy()
    windowed = window(hu)
    np.testing.assert_array_equal(hu, old)
    assert not np.shares_memory(windowed, hu)
    old = windowed.copy()
    nine_views(windowed)
    np.testing.assert_array_equal(windowed, old)


def test_read_only_and_strided_inputs_give_the_same_views() -> None:
    """Triton and memory maps hand over arrays that may be neither writable nor contiguous."""
    rng = np.random.default_rng(8)
    wide = rng.integers(-1000, 500, (40, 40, 80)).astype(np.int16)
    strided = wide[:, :, ::2]
    where = ((0, 0, 0), (40, 40, 40), np.eye(4), (20.0, 21.0, 19.0))
    expected = views_of_request(strided.copy(), *where)
    frozen = strided.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(views_of_request(strided, *where), expected)
    np.testing.assert_array_equal(views_of_request(frozen, *where), expected)
