"""The plain reference against what the published code computed for twelve nodules of two real CT series."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import torch
from reference import plain

if TYPE_CHECKING:
    from conftest import Expected

Array = np.ndarray[Any, Any]
Nodule = tuple[Array, Array, tuple[float, float, float]]


def read_series(folder: Path) -> tuple[Array, Array]:
    """Volume [z, y, x] in HU and affine (x, y, z, 1) -> LPS mm of the DICOM series in a folder."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    volume = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    first, last = (np.array(s.ImagePositionPatient, float) for s in (slices[0], slices[-1]))
    along_row, along_column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    row_spacing, column_spacing = (float(v) for v in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_spacing
    affine[:3, 1] = along_column * row_spacing
    affine[:3, 2] = (last - first) / (len(slices) - 1)
    affine[:3, 3] = first
    return volume.astype(np.int16), affine


@pytest.fixture(scope="module")
def nodules(lidc_series: dict[str, Path], expected: Expected) -> list[Nodule]:
    volumes = {name: read_series(folder) for name, folder in lidc_series.items()}
    pairs = zip(expected.nodules, expected.centers_lps, strict=True)
    return [(*volumes[row["image_path"]], center) for row, center in pairs]


@pytest.fixture(scope="module")
def cubes(nodules: list[Nodule]) -> Array:
    return np.stack([plain.cube_of(*nodule) for nodule in nodules])


@pytest.fixture(scope="module")
def views(cubes: Array) -> Array:
    return np.stack([plain.views_of(cube) for cube in cubes])


@pytest.fixture(scope="module")
def states(published_checkpoint: Path) -> list[plain.State]:
    files = [published_checkpoint / f"fold_{fold}" / "best_both.pt" for fold in range(5)]
    return [torch.load(file, weights_only=True)["model"] for file in files]


@pytest.fixture(scope="module")
def calibrations(published_checkpoint: Path) -> list[dict[str, float]]:
    """The numbers inside the pickles."""
    import joblib

    out = []
    for fold in range(5):
        regression = joblib.load(published_checkpoint / f"fold_{fold}" / f"cal_{fold}.pkl").calibrator_.lr_
        (a, b), (c,) = regression.coef_[0], regression.intercept_
        out.append({"a": a, "b": b, "c": c})
    return out


@pytest.fixture(scope="module")
def scores(
    views: Array, states: list[plain.State], expected: Expected, calibrations: list[dict[str, float]]
) -> dict[str, Array]:
    return plain.score_views(views, states, expected.prompts, calibrations)


# ---------------------------------------------------------------- against the published code


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("crop_axial", np.s_[:, 50]),
        ("crop_coronal", np.s_[:, :, 50]),
        ("crop_sagittal", np.s_[:, :, :, 50]),
        ("crop_lattice", np.s_[:, ::9, ::9, ::9]),
    ],
)
def test_cubes_are_those_of_the_published_code(name: str, part: Any, cubes: Array, expected: Expected) -> None:
    np.testing.assert_allclose(cubes[part], expected.preprocessing[name], rtol=0, atol=1e-3)


def test_views_are_those_of_the_published_code(views: Array, expected: Expected) -> None:
    np.testing.assert_allclose(views, expected.preprocessing["views"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("prob", 1e-4),
        ("calibrated", 1e-4),
        ("embedding", 1e-5),
        ("view_attention", 1e-5),
        ("text_embedding", 1e-5),
        ("similarity", 1e-4),
    ],
)
def test_scores_are_those_of_the_published_code(
    name: str, tolerance: float, scores: dict[str, Array], expected: Expected
) -> None:
    np.testing.assert_allclose(scores[name], expected.model[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "column"), [("prob", "ensemble"), ("calibrated", "calibrated_ensemble")])
def test_the_ensemble_is_the_mean_over_the_folds(
    name: str, column: str, scores: dict[str, Array], expected: Expected
) -> None:
    published = [float(row[column]) for row in expected.nodules]
    np.testing.assert_allclose(scores[name].mean(axis=0), published, rtol=0, atol=1e-4)


def test_the_published_script_adds_lora_twice_for_fold_0(
    views: Array, states: list[plain.State], expected: Expected
) -> None:
    twice = plain.add_lora(states[0], 1 / math.sqrt(2))  # alpha 1, r 2
    prob = plain.score_views(views, [twice])["prob"][0]
    np.testing.assert_allclose(prob, expected.model["prob_published_script_fold0"], rtol=0, atol=1e-4)


def test_scoring_the_whole_way_is_the_sum_of_its_parts(
    nodules: list[Nodule], states: list[plain.State], scores: dict[str, Array]
) -> None:
    prob = plain.score(nodules[:1], states[:1])["prob"]
    np.testing.assert_allclose(prob, scores["prob"][:1, :1], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- by itself, where no data are needed


def oblique_affine() -> Array:
    """Unequal voxels, turned about two axes, with a mirrored slice axis."""
    a, b = 0.4, -0.25
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([0.8, 1.3, -2.1])
    affine[:3, 3] = (-31.7, 12.2, 48.9)
    return affine


def test_a_cube_is_cut_from_the_whole_lattice_also_of_an_oblique_volume() -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(-1000, 1000, (30, 50, 60)).astype(np.int16)
    affine = oblique_affine()
    center = (affine @ (20, 30, 12, 1))[:3]
    cube = plain.cube_of(volume, affine, center)
    whole = plain.resample_whole(volume, affine)
    index = plain.center_index_of(volume.shape, affine, center)
    np.testing.assert_allclose(cube, plain.crop_lattice(whole, index), rtol=0, atol=1e-3)
    assert (cube != 0).mean() > 0.01


def test_a_ramp_in_mm_is_read_at_the_lattice_points() -> None:
    # HU = 3 L + 2 P - S + 7 is linear, so trilinear interpolation gives it exactly wherever a point is
    # inside.
    affine = oblique_affine()
    z, y, x = np.meshgrid(np.arange(90), np.arange(120), np.arange(150), indexing="ij")
    lps = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    volume = lps @ (3.0, 2.0, -1.0) + 7
    center = (affine @ (75, 60, 45, 1))[:3]
    origin, _ = plain.lattice_of(volume.shape, affine)
    index = plain.center_index_of(volume.shape, affine, center)
    cube = plain.cube_of(volume, affine, center)
    for dz, dy, dx in ((0, 0, 0), (5, -7, 11), (-20, 3, -9)):
        point = origin + index + (dx, dy, dz)
        assert cube[50 + dz, 50 + dy, 50 + dx] == pytest.approx(point @ (3.0, 2.0, -1.0) + 7, abs=1e-2)
    assert np.all(np.abs(origin + index + 0.5 - center) <= 0.5)  # truncated, so never beyond the centre


def test_a_point_less_than_a_voxel_outside_mixes_with_zero() -> None:
    volume = np.full((40, 40, 40), 800, np.int16)
    points = [(20, 20, 39), (20, 20, 39.25), (20, 20, 39.75), (20, 20, 40.5), (-0.5, 20, 39.5)]
    values = plain.sample(volume, np.eye(4), np.array(points, float))
    np.testing.assert_allclose(values, [800, 600, 200, 0, 200])


def test_a_lattice_runs_from_the_low_ras_corner_and_ends_a_whole_number_of_mm_on() -> None:
    affine = np.diag([0.75, 0.75, 2.0, 1.0])
    affine[:3, 3] = (-10, 20, 5)
    # Along x L runs from -10 to -2.5, so R from 2.5 to 10: 8.5 -> 8 points (half to even), L from -9.5 up.
    origin, points = plain.lattice_of((4, 12, 11), affine)
    assert points.tolist() == [8, 9, 7]
    assert origin.tolist() == [-9.5, 20.25, 5.0]


def test_a_cube_is_zero_beyond_the_lattice() -> None:
    volume = np.full((40, 40, 40), 800, np.int16)
    cube = plain.cube_of(volume, np.eye(4), (10.9, 20.0, 39.0))
    assert np.argwhere(cube == 800).min(axis=0).tolist() == [11, 30, 40]
    assert np.argwhere(cube == 800).max(axis=0).tolist() == [50, 69, 79]
    assert (cube != 0).sum() == 40**3


def test_beta_calibration() -> None:
    p = np.array([0.0, 0.1, 0.5, 1.0])
    np.testing.assert_allclose(plain.beta_calibrated(p, 1, 1, 0), p, atol=1e-6)
    by_hand = 1 / (1 + math.exp(-(0.5 * math.log(0.1) - 2 * math.log(0.9) + 0.3)))
    assert plain.beta_calibrated(p, 0.5, 2, 0.3)[1] == pytest.approx(by_hand)


def test_semantic_probabilities_are_a_softmax_in_each_group_and_fold() -> None:
    similarity = np.log([[[1.0, 3.0, 5.0]], [[1.0, 1.0, 7.0]]])  # [2 folds, 1 nodule, 3 prompts]
    pair, single = plain.semantic_probabilities(similarity, [(0, 1), (2,)])
    np.testing.assert_allclose(pair, [[(1 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2]])
    np.testing.assert_allclose(single, [[1.0]])
