"""The benchmark of the preprocessing compares ways that agree, and refuses to time those that do not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the baseline is scipy's")

from noduleserve.benchmarks.preprocessing import require_equal
from noduleserve.benchmarks.preprocessing_requests import requests
from noduleserve.benchmarks.preprocessing_scipy import cube_of_box, resampled_cube, views_of
from noduleserve.preprocessing import VolumeGeometry, cut_cube, window


def test_requests_are_of_many_kinds_and_wholly_inside_their_volumes() -> None:
    every = requests()
    assert len({request.name for request in every}) == len(every) >= 9
    for request in every:
        assert (request.start > 0).all()
        assert (request.start + request.voxels.shape[::-1] < request.geometry.shape).all()


@pytest.mark.parametrize("number", [0, 3, 5, -1])
def test_both_ways_give_the_same_views(number: int) -> None:
    request = requests()[number]
    np.testing.assert_allclose(request.views(), views_of(window(cube_of_box(request))), rtol=0, atol=1e-5)


def test_a_whole_volume_resampled_gives_the_same_cube() -> None:
    voxels = np.random.default_rng(4).integers(-1000, 1000, (20, 50, 60)).astype(np.int16)
    geometry = VolumeGeometry((60, 50, 20), np.diag([1.5, 1.25, 3.0, 1.0]))
    center = (31.2, 4.5, 50.3)
    expected = resampled_cube(voxels, geometry, center)
    np.testing.assert_allclose(cut_cube(voxels, (0, 0, 0), geometry, center), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("wrong", [0.1, np.nan])
def test_ways_that_differ_are_not_timed(wrong: float) -> None:
    right = np.zeros((2, 2), np.float32)
    other = right.copy()
    other[1, 0] = wrong
    require_equal("the same", right, right.copy(), 1e-5)
    with pytest.raises(AssertionError, match=r"ways to something differ by .*no timing counts"):
        require_equal("something", other, right, 1e-5)
