"""Nodules of whole series: plain views are served views, varied ones turn about the nodule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from numpy.typing import NDArray

from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import TrainingError
from noduleserve.preprocessing import views_of_request
from noduleserve.preprocessing.box import required_box
from noduleserve.training.data.augmentation import Variation
from noduleserve.training.data.base import Example
from noduleserve.training.data.volumes import Located, VolumeNodules

SPACING, SHAPE = (1.5, 1.5, 2.5), (50, 84, 84)  # x, y, z; z, y, x
CENTER = (62.0, 60.0, 61.0)
STILL = Variation(degrees=0, jitter_mm=0, noise_hu=0, gamma=0, shift_hu=0, flips=False, fewest=9, most=9)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A soft ball of 8 mm around CENTER, brighter towards the patient's left."""
    z, y, x = (np.arange(n) * s for n, s in zip(SHAPE, SPACING[::-1], strict=True))
    away = (x - CENTER[0])[None, None, :], (y - CENTER[1])[None, :, None], (z - CENTER[2])[:, None, None]
    ball = 800 / (1 + np.exp((np.sqrt(sum(a**2 for a in away)) - 8) / 2))
    tilt = 1 + 0.3 * np.tanh(away[0] / 8)
    return write_series(tmp_path_factory.mktemp("ball"), (ball * tilt - 900).astype(np.int16), spacing=SPACING)


def nodules(series: Path, variation: Variation, count: int = 1, **options: int) -> VolumeNodules:
    located = [
        Located(Example(f"n{n}", "p", None, {}, {}), series, (CENTER[0], CENTER[1] + n, CENTER[2]))
        for n in range(count)
    ]
    return VolumeNodules(located, variation, **options)


def centroids(views: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where the ball of each view lies, (row, column) from the view's centre, [V, 2]."""
    weight = np.maximum(views - 0.2, 0)
    steps = np.arange(50) - 25
    mass = weight.sum(axis=(1, 2))
    return np.stack([(weight.sum(axis=2) @ steps) / mass, (weight.sum(axis=1) @ steps) / mass], axis=1)


def test_plain_views_are_those_that_are_served(series: Path) -> None:
    volume = open_volume(series)
    geometry, box = volume.geometry, required_box(volume.geometry, CENTER)
    served = views_of_request(volume.read_box(box), box.start, geometry.shape, geometry.affine, CENTER)
    np.testing.assert_array_equal(nodules(series, Variation()).views(0, None), served)


def test_without_variation_the_nine_views_stay_what_they_are(series: Path) -> None:
    source = nodules(series, STILL)
    np.testing.assert_allclose(source.views(0, np.random.default_rng(0)), source.views(0, None), atol=1e-6)


def test_a_turn_leaves_the_nodule_in_the_middle_of_every_view(series: Path) -> None:
    source = nodules(series, Variation(**{**vars(STILL), "degrees": 180.0}))
    plain = source.views(0, None)
    views = np.stack([source.views(0, np.random.default_rng(seed)) for seed in range(8)])
    assert np.abs(views - plain).max() > 0.1
    # A lattice begins at a corner of the turned volume: its points, and the centre, move by less than 1 mm an axis.
    assert np.abs(centroids(views.reshape(-1, 50, 50))).max() < 2.5


def test_the_centre_moves_as_far_as_the_jitter_and_no_further(series: Path) -> None:
    source = nodules(series, Variation(**{**vars(STILL), "jitter_mm": 5.0}))
    still = centroids(source.views(0, None))
    moved = [centroids(source.views(0, np.random.default_rng(seed))) - still for seed in range(12)]
    far = np.linalg.norm(moved, axis=2)
    assert far[:, :3].max() < 5 + np.sqrt(2)  # of the planes along the axes; each axis is rounded to the lattice
    assert far[:, :3].max() > 2.5
    axial, coronal, _ = moved[0][:3]
    assert axial[1] == pytest.approx(coronal[1], abs=0.5)  # one shift of the volume, seen in all planes: both show x


def test_flips_mirror_the_volume(series: Path) -> None:
    source = nodules(series, Variation(**{**vars(STILL), "flips": True}))
    sides = {
        bool(view[25, 33] > view[25, 17])
        for seed in range(12)
        for view in source.views(0, np.random.default_rng(seed))[:1]
    }
    assert sides == {True, False}


def test_views_are_dropped_at_random_and_keep_their_order(series: Path) -> None:
    source = nodules(series, Variation(**{**vars(STILL), "fewest": 2, "most": 4}))
    plain = source.views(0, None)
    for seed in range(12):
        views = source.views(0, np.random.default_rng(seed))
        places = [int(np.abs(plain - view).max(axis=(1, 2)).argmin()) for view in views]
        assert 2 <= len(views) <= 4
        assert places == sorted(set(places))


def test_voxels_that_are_not_kept_are_read_again(series: Path) -> None:
    ample, scant = nodules(series, Variation(), 3), nodules(series, Variation(), 3, kept_bytes=1)
    for number in (0, 1, 2, 0):
        for seed in (None, 5):
            rngs = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
            np.testing.assert_array_equal(ample.views(number, rngs[0]), scant.views(number, rngs[1]))
    assert len(ample._boxes) == 3
    assert len(scant._boxes) == 1


def test_nodules_that_cannot_be_read_are_told_before_anything_is_learned(series: Path, tmp_path: Path) -> None:
    def located(name: str, path: Path, x: float) -> Located:
        return Located(Example(name, "p", None, {}, {}), path, (x, 60.0, 61.0))

    bad = [located("good", series, 60), located("outside", series, 900), located("absent", tmp_path / "none", 60)]
    with pytest.raises(TrainingError, match=r"2 of 3 nodules .* outside, absent") as refusal:
        VolumeNodules(bad)
    assert refusal.value.code == "NODULES_UNREADABLE"
