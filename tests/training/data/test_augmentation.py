"""Views of crops: against a plain computation, and what their variation may and may not do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from noduleserve.training.data.augmentation import (
    ORIENTATIONS,
    PLAIN,
    Pose,
    Variation,
    draw_pose,
    plain_view,
    resample,
    varied_view,
    vary_values,
)

STILL = Variation(degrees=0, jitter_mm=0, noise_hu=0, gamma=0, shift_hu=0, flips=False, plane=0)


def random_crop(seed: int = 0) -> NDArray[np.int16]:
    noise = np.random.default_rng(seed).normal(-500, 400, (71, 71))
    return ndimage.gaussian_filter(noise, 1).astype(np.int16)


def test_a_plain_view_is_scipys_linear_interpolation_at_one_millimetre() -> None:
    crop, spacing = random_crop(), 0.9765625  # wide enough that no pixel of the view lies beyond the crop
    view = resample(crop, spacing)
    for row, column in np.ndindex(50, 50):
        place = np.array([(row - 25) / spacing + 35, (column - 25) / spacing + 35])
        low = np.floor(place).astype(int)
        (r, c), (fr, fc) = low, place - low
        four = crop[r : r + 2, c : c + 2].astype(float)
        expected = (1 - fr) * ((1 - fc) * four[0, 0] + fc * four[0, 1])
        expected += fr * ((1 - fc) * four[1, 0] + fc * four[1, 1])
        assert view[row, column] == pytest.approx(expected, abs=1e-2)


def test_beyond_its_border_the_crop_is_mirrored() -> None:
    crop, spacing = random_crop(1), 0.5
    padded = np.pad(crop, 30, mode="reflect").astype(float)
    steps = (np.arange(50) - 25) / spacing + 65
    expected = ndimage.map_coordinates(padded, np.meshgrid(steps, steps, indexing="ij"), order=1)
    np.testing.assert_allclose(resample(crop, spacing), expected, atol=1e-2)


def test_the_window_is_servings() -> None:
    crop = np.full((71, 71), -250, np.int16)
    np.testing.assert_allclose(plain_view(crop, 0.7), 0.5)
    np.testing.assert_array_equal(plain_view(np.full((71, 71), -3024, np.int16), 0.7), 0)
    np.testing.assert_array_equal(plain_view(np.full((71, 71), 3071, np.int16), 0.7), 1)


def test_a_turn_of_90_degrees_exchanges_rows_and_columns() -> None:
    crop = random_crop(2)
    turned = resample(crop, 1.0, Pose(np.array([[0.0, -1.0], [1.0, 0.0]])))
    plain = resample(crop, 1.0)
    # row step u and column step v of the view lie at (-v, u) of the crop; v from -24 on, as there is no step 25
    np.testing.assert_allclose(turned[:, 1:], plain.T[:, ::-1][:, :-1], atol=1e-3)


def test_a_centre_off_by_whole_millimetres_shifts_the_view() -> None:
    crop = random_crop(3)
    shifted = resample(crop, 1.0, Pose(np.eye(2), (3.0, -2.0)))
    np.testing.assert_allclose(shifted[:-3, 2:], resample(crop, 1.0)[3:, :-2], atol=1e-3)


@pytest.mark.parametrize("thickness", [0.7, 2.5, 3.5])
def test_slices_blur_rows_and_leave_a_linear_slope_as_it_is(thickness: float) -> None:
    rows = np.add.outer(8 * np.arange(71), np.zeros(71)).astype(np.int16)
    pose = Pose(np.eye(2), slice_mm=thickness, phase=0.3)
    inside = slice(8, 42)
    np.testing.assert_allclose(resample(rows, 1.0, pose)[inside], resample(rows, 1.0)[inside], atol=8 * 0.3)
    flat = np.full((71, 71), -321, np.int16)
    np.testing.assert_allclose(resample(flat, 0.8, pose), -321, atol=1e-3)


def test_thick_slices_take_detail_from_rows_but_not_from_columns() -> None:
    crop = random_crop(4)
    sharp, thick = resample(crop, 1.0), resample(crop, 1.0, Pose(np.eye(2), slice_mm=3.0))
    assert np.abs(np.diff(thick, axis=0)).mean() < 0.5 * np.abs(np.diff(sharp, axis=0)).mean()
    stripes = np.tile((np.arange(71) % 2 * 500).astype(np.int16), (71, 1))
    np.testing.assert_allclose(resample(stripes, 1.0, Pose(np.eye(2), slice_mm=3.0)), resample(stripes, 1.0), atol=1e-2)


def test_without_any_variation_a_varied_view_is_the_plain_one() -> None:
    crop = random_crop(5)
    np.testing.assert_allclose(
        varied_view(crop, 0.7, STILL, np.random.default_rng(0)), plain_view(crop, 0.7), atol=1e-6
    )


def test_the_seed_decides_everything() -> None:
    crop, variation = random_crop(6), Variation(degrees=180)
    one, same, other = (varied_view(crop, 0.7, variation, np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.05


def test_poses_keep_within_what_the_variation_allows() -> None:
    variation, rng = Variation(degrees=10, jitter_mm=5, plane=0.5, stretch=0.2), np.random.default_rng(0)
    poses = [draw_pose(variation, rng) for _ in range(400)]
    assert max(np.hypot(*pose.center_mm) for pose in poses) <= 5
    assert max(np.hypot(*pose.center_mm) for pose in poses) > 4.5
    within = [pose for pose in poses if pose.slice_mm == 0]
    across = [pose for pose in poses if pose.slice_mm > 0]
    assert 140 < len(within) < 260
    for pose in within:
        largest, smallest = np.sort(np.abs(pose.turn).ravel())[[-1, 0]]
        assert largest >= np.cos(np.deg2rad(10)) - 1e-9
        assert smallest <= np.sin(np.deg2rad(10)) + 1e-9
        np.testing.assert_allclose(pose.turn @ pose.turn.T, np.eye(2), atol=1e-12)
    assert {float(np.sign(np.linalg.det(pose.turn))) for pose in within} == {-1.0, 1.0}
    scales = [abs(np.linalg.det(pose.turn)) for pose in across]
    assert np.exp(-0.2) <= min(scales) < max(scales) <= np.exp(0.2)
    assert 0.6 <= min(p.slice_mm for p in across) < max(p.slice_mm for p in across) <= 3.5


def test_values_stay_between_0_and_1_and_noise_has_the_size_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((200, 200), -250, np.float32)
    spread = [vary_values(flat, Variation(noise_hu=30, gamma=0, shift_hu=0), rng).std() * 1500 for _ in range(40)]
    assert max(spread) < 31
    assert max(spread) > 20
    extreme = np.linspace(-4000, 4000, 2500, dtype=np.float32).reshape(50, 50)
    varied = vary_values(extreme, Variation(), rng)
    assert varied.dtype == np.float32
    assert varied.min() == 0
    assert varied.max() == 1


def test_a_pose_that_is_plain_says_so() -> None:
    crop = random_crop(8)
    np.testing.assert_array_equal(resample(crop, 0.7, PLAIN), resample(crop, 0.7, Pose(np.eye(2), phase=0.9)))


def test_the_orientations_are_the_eight_of_a_square_as_it_is_first() -> None:
    crop = random_crop()[3:68, 3:68]  # 65 x 65: its middle is its centre
    views = [resample(crop, 1.0, pose)[1:, 1:] for pose in ORIENTATIONS]  # 49 x 49 about the centre
    plain = views[0]
    np.testing.assert_array_equal(plain, resample(crop, 1.0)[1:, 1:])
    eight = [np.rot90(side, turn) for side in (plain, plain.T) for turn in range(4)]
    for expected in eight:
        assert sum(np.allclose(view, expected, atol=1e-3) for view in views) == 1
