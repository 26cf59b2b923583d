"""The straightforward way against what the published code computed, and against the way from a whole volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from noduleserve.preprocessing import VolumeGeometry, required_box

pytest.importorskip("scipy")
pytest.importorskip("torch")

from noduleserve.benchmarks.rivals.scipy_method import cube_of_box, cut_out, resampled
from noduleserve.benchmarks.rivals.straightforward import StraightforwardScan, read_series
from noduleserve.errors import SeriesError

if TYPE_CHECKING:
    from conftest import Expected


def test_a_scan_gives_the_published_scores(
    published_checkpoint: Path, lidc_series: dict[str, Path], expected: Expected
) -> None:
    pytest.importorskip("SimpleITK")
    scan = StraightforwardScan(published_checkpoint, keep=True)
    folder = lidc_series[expected.nodules[0]["image_path"]]
    raw = scan.score(folder, expected.centers_lps[0])
    np.testing.assert_allclose(raw, expected.model["prob"][:, 0], rtol=0, atol=1e-4)
    read = scan.seconds["reading"]
    assert expected.nodules[1]["image_path"] == expected.nodules[0]["image_path"]
    raw = scan.score(folder, expected.centers_lps[1])  # of the same series, which is kept
    np.testing.assert_allclose(raw, expected.model["prob"][:, 1], rtol=0, atol=1e-4)
    assert scan.seconds["reading"] == read
    assert scan.seconds.keys() == {"reading", "resampling", "views", "encoder"}
    assert all(seconds > 0 for seconds in scan.seconds.values())


def test_a_folder_without_a_series_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    with pytest.raises(SeriesError, match="SERIES_EMPTY"):
        read_series(tmp_path)


@pytest.mark.parametrize("oblique", [False, True], ids=["aligned", "oblique"])
@pytest.mark.parametrize("voxel", [(30, 25, 20), (2, 47, 1)], ids=["middle", "corner"])
def test_a_box_gives_the_cube_of_the_whole_volume(oblique: bool, voxel: tuple[int, int, int]) -> None:
    affine = np.diag([2.6, -2.6, 3.1, 1.0])
    if oblique:
        turn = np.eye(4)
        turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
        affine = turn @ affine
    affine[:3, 3] = (-50, 60, -70)
    geometry = VolumeGeometry((60, 50, 40), affine)
    volume = np.random.default_rng(3).integers(-1000, 1000, (40, 50, 60)).astype(np.int16)
    center = geometry.affine[:3, :3] @ voxel + geometry.affine[:3, 3]
    box = required_box(geometry, center)
    cube = cube_of_box(volume[box.slices], box.start, geometry.shape, geometry.affine, center)
    whole = cut_out(resampled(volume, geometry.affine), geometry.shape, geometry.affine, center)
    np.testing.assert_allclose(cube, whole, rtol=0, atol=0.05)
    assert (cube != 0).mean() > 0.1
