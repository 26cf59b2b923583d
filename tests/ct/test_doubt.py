"""What is warned of: wide spacing, a centre in air, views beyond the volume; and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Expected
from numpy.typing import NDArray

from noduleserve.ct.codes import WARNING_CODES
from noduleserve.ct.doubt import InputWarning, check_spacing, check_surroundings
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, VolumeGeometry, required_box

SIZE_MM = 130  # of the synthetic volumes, whose middle is at LPS (0, 0, 0)


def geometry_of(*spacing: float) -> VolumeGeometry:
    shape = np.ceil(SIZE_MM / np.array(spacing)).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(shape - 1) / 2 * spacing
    return VolumeGeometry(shape, affine)


def distance(geometry: VolumeGeometry, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Of every voxel from a point, mm [z, y, x]."""
    along = [geometry.affine[a, 3] + geometry.affine[a, a] * np.arange(geometry.shape[a]) - center[a] for a in range(3)]
    return np.sqrt(along[2][:, None, None] ** 2 + along[1][:, None] ** 2 + along[0] ** 2)


def codes(
    hu: NDArray[np.float64], geometry: VolumeGeometry, center: tuple[float, float, float] = (0, 0, 0)
) -> list[str]:
    voxels = np.clip(np.rint(hu), -2048, 3071).astype(np.int16)
    box = required_box(geometry, center)
    return [warning.code for warning in check_surroundings(voxels[box.slices], box, geometry, center)]


def ball(geometry: VolumeGeometry, diameter: float, inside: float, outside: float) -> NDArray[np.float64]:
    """A sphere at the origin, its edge softened over a voxel, in what surrounds it: HU [z, y, x]."""
    edge = float(geometry.spacing.max()) / 2
    share = np.clip((diameter / 2 - distance(geometry)) / edge + 0.5, 0, 1)
    return outside + share * (inside - outside)


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (0.8, 0.8, 2.5), (2.5, 0.8, 0.8), (0.5, 0.5, 0.6), (3, 3, 3)])
@pytest.mark.parametrize(
    ("diameter", "nodule", "around"),
    [
        (4.0, 0.0, -960.0),  # solid, the smallest that is reported, in severe emphysema
        (6.0, -650.0, -970.0),  # ground glass in a region of emphysema that is nearly air
        (8.0, -700.0, -900.0),
        (30.0, 40.0, -850.0),
    ],
)
def test_no_nodule_is_taken_for_air(
    spacing: tuple[float, float, float], diameter: float, nodule: float, around: float
) -> None:
    geometry = geometry_of(*spacing)
    noise = np.random.default_rng(3).normal(0, 40, geometry.shape[::-1])
    assert codes(ball(geometry, diameter, nodule, around) + noise, geometry) == []


def test_lung_without_a_nodule_is_not_air() -> None:
    """Emphysema at -950 HU keeps vessels and septa; here one of 1.5 mm runs by at 3 mm from the centre."""
    geometry = geometry_of(0.7, 0.7, 1.25)
    noise = np.random.default_rng(4).normal(0, 30, geometry.shape[::-1])
    assert codes(-860.0 + noise, geometry) == []
    x = geometry.affine[0, 3] + geometry.affine[0, 0] * np.arange(geometry.shape[0])
    y = geometry.affine[1, 3] + geometry.affine[1, 1] * np.arange(geometry.shape[1])
    vessel = np.hypot(x - 3.0, y[:, None]) < 0.75
    assert codes(np.where(vessel, 0.0, -950.0) + noise, geometry) == []


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (0.8, 0.8, 2.5), (3, 3, 3)])
@pytest.mark.parametrize("padding", [-2048, -1024])
def test_air_throughout_is_warned_of(spacing: tuple[float, float, float], padding: int) -> None:
    geometry = geometry_of(*spacing)
    rng = np.random.default_rng(5)
    assert codes(-1000.0 + rng.normal(0, 60, geometry.shape[::-1]), geometry) == ["CENTER_IN_AIR"]
    assert codes(np.full(geometry.shape[::-1], float(padding)), geometry) == ["CENTER_IN_AIR"]


def test_an_airway_is_warned_of_and_its_wall_is_not() -> None:
    """A trachea of 16 mm: air in the middle, the wall within reach near it."""
    geometry = geometry_of(0.7, 0.7, 1.25)
    x = geometry.affine[0, 3] + geometry.affine[0, 0] * np.arange(geometry.shape[0])
    y = geometry.affine[1, 3] + geometry.affine[1, 1] * np.arange(geometry.shape[1])
    tube = np.broadcast_to(np.where(np.hypot(x, y[:, None]) < 8, -970.0, 20.0), geometry.shape[::-1])
    noisy = tube + np.random.default_rng(6).normal(0, 30, geometry.shape[::-1])
    assert codes(noisy, geometry) == ["CENTER_IN_AIR"]
    assert codes(noisy, geometry, (6.0, 0.0, 0.0)) == []


def test_a_warning_says_what_and_what_to_do() -> None:
    geometry = geometry_of(1, 1, 1)
    box = required_box(geometry, (0, 0, 0))
    air = np.full(box.shape[::-1], -1000, np.int16)
    (warning,) = check_surroundings(air, box, geometry, (0, 0, 0))
    assert warning.code in WARNING_CODES
    assert "4 mm" in warning.what and "-900 HU" in warning.what
    assert "look" in warning.mend
    with pytest.raises(ValueError):
        InputWarning("NO_SUCH_CODE", "", "")


@pytest.mark.parametrize(("axis", "sign"), [(a, s) for a in range(3) for s in (-1, 1)])
def test_views_beyond_the_volume_are_warned_of_on_every_side(axis: int, sign: int) -> None:
    geometry = geometry_of(0.8, 0.9, 1.5)
    edge = sign * float(geometry.affine[axis, 3])  # of the outermost voxel's middle, one side or the other
    lung = np.full(geometry.shape[::-1], -800.0)
    for inward, warned in ((20.0, True), (27.0, False)):
        center = [0.0, 0.0, 0.0]
        center[axis] = edge - np.sign(edge) * inward
        assert (codes(lung, geometry, tuple(center)) == ["VIEWS_BEYOND_VOLUME"]) is warned


def test_corners_of_the_field_outside_an_oblique_volume_are_warned_of() -> None:
    straight = geometry_of(1, 1, 1)
    turn = np.eye(4)
    turn[:2, :2] = [[np.sqrt(0.5), -np.sqrt(0.5)], [np.sqrt(0.5), np.sqrt(0.5)]]
    oblique = VolumeGeometry(straight.shape, turn @ straight.affine)
    lung = np.full(straight.shape[::-1], -800.0)
    inner = (35.0, 0.0, 0.0)  # the volume's own corner points this way, 92 mm off
    assert codes(lung, oblique, inner) == []
    assert codes(lung, oblique, (32.0, 32.0, 0.0)) == ["VIEWS_BEYOND_VOLUME"]
    assert codes(lung, straight, (32.0, 32.0, 0.0)) == []


@pytest.mark.parametrize(("widest", "code"), [(2.5, ""), (2.6, "SPACING_WIDE"), (5.0, "SPACING_WIDE")])
def test_wide_spacing(widest: float, code: str) -> None:
    for axis in range(3):
        spacing = np.ones(3)
        spacing[axis] = widest
        found = [w.code for w in check_spacing(VolumeGeometry((50, 50, 50), np.diag([*spacing, 1])))]
        assert found == [code] * bool(code)


def test_spacing_beyond_the_limit_is_refused() -> None:
    with pytest.raises(SeriesError) as refused:
        check_spacing(VolumeGeometry((50, 50, 50), np.diag([1, 1, 5.1, 1])))
    assert refused.value.code == "SPACING_TOO_WIDE"


def test_none_of_the_real_nodules_is_warned_of(lidc_series: dict[str, Path], expected: Expected) -> None:
    """Twelve nodules that radiologists marked; the table of one of the scanners and the air above are."""
    for row, center in zip(expected.nodules, expected.centers_lps, strict=True):
        volume = open_volume(lidc_series[Path(row["image_path"]).name])
        box = required_box(volume.geometry, center)
        assert check_surroundings(volume.read_box(box), box, volume.geometry, center) == ()


def test_air_of_real_series_is_warned_of(lidc_series: dict[str, Path]) -> None:
    """The corners of the picture are air or padding; points in the trachea were found by eye."""
    trachea = {"lidc-idri-0003": (262, 273, 119), "lidc-idri-0132b": (278, 292, 107)}
    checked = 0
    for name, folder in lidc_series.items():
        volume = open_volume(folder)
        middle = int(volume.geometry.shape[2]) // 2
        for voxel in ((30, 30, middle), (480, 30, middle), trachea.get(name)):
            if voxel is None:
                continue
            center = volume.geometry.affine[:3] @ [*voxel, 1]
            start = np.maximum(np.array(voxel) - 20, 0)
            box = Box(start, np.minimum(np.array(voxel) + 21, volume.geometry.shape))
            found = check_surroundings(volume.read_box(box), box, volume.geometry, center)
            assert "CENTER_IN_AIR" in [warning.code for warning in found], (name, voxel)
            checked += 1
    assert checked
