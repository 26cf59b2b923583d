"""Where voxels lie in the patient: positions and orientation decide, and nothing else that a header says."""

from pathlib import Path

import numpy as np
import pytest
from dicom_writing import AXIAL, write_series
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.dicom.stack import MOST_TILT_DEGREES
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, Lattice, cut_cube, required_box

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
GRADIENT, OFFSET = np.array([1.0, -2.0, 3.0]), 50.0  # HU a millimetre along L, P, S; HU at the origin


def ramp(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hounsfield units that change linearly with the place, LPS mm [..., 3]."""
    return points @ GRADIENT + OFFSET


def sheared(
    orientation: tuple[float, ...], spacing: tuple[float, float, float], degrees: float, toward: float
) -> NDArray[np.float64]:
    """An affine whose third axis leans by some degrees from the normal, in a direction within the slice."""
    along_x, along_y = np.array(orientation).reshape(2, 3)
    turn = np.radians(toward)
    sideways = np.cos(turn) * along_x + np.sin(turn) * along_y
    step = np.cross(along_x, along_y) + np.tan(np.radians(degrees)) * sideways
    affine = np.eye(4)
    affine[:3] = np.stack([along_x * spacing[0], along_y * spacing[1], step * spacing[2], (-7.5, 11.25, 3.0)], axis=1)
    return affine


def write_ramp(folder: Path, affine: NDArray[np.float64], shape: tuple[int, int, int], scale: float = 0.25) -> Path:
    """A series of the ramp: stored numbers [z, y, x] at the places that an affine gives them, `scale` HU each."""
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)

    def place(number: int, image: FileDataset) -> None:
        image.ImagePositionPatient = [float(f"{c:.6f}") for c in affine[:3, 2] * number + affine[:3, 3]]
        image.RescaleSlope = scale

    stored = np.rint(ramp(places) / scale).astype(np.int16)
    orientation = (affine[:3, :2] / spacing[:2]).T.ravel()
    return write_series(folder, stored, orientation=tuple(orientation), spacing=tuple(spacing), edit=place)


def values_of_cube(series: DicomSeries, center: tuple[float, ...]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The cube around a centre, and the ramp at its points; NaN beyond the volume."""
    box = required_box(series.geometry, center)
    cube = cut_cube(series.read_box(box), box.start, series.geometry, center)
    lattice = Lattice.of(series.geometry)
    first = lattice.index_of(center) - 50
    z, y, x = np.meshgrid(*[lattice.origin[a] + first[a] + np.arange(100) for a in (2, 1, 0)], indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    expected = ramp(points)
    voxel = series.geometry.voxel_of(points)
    expected[~((voxel >= 0) & (voxel <= series.geometry.shape - 1)).all(axis=-1)] = np.nan
    return cube, expected


@pytest.mark.parametrize(
    ("orientation", "degrees", "toward"),  # the stack leans along columns (0) or rows (90), or between
    [
        *((AXIAL, 0.5, 90), (AXIAL, 12, 90), (AXIAL, -21.5, 90), (AXIAL, 30, 0)),
        *((CORONAL, 15, 35), (OBLIQUE, -30, 35), (SAGITTAL, 20, 0)),
    ],
)
def test_a_sheared_stack_has_its_values_at_the_right_places(
    tmp_path: Path, orientation: tuple[float, ...], degrees: float, toward: float
) -> None:
    # 1 HU a stored number, so that nothing is rounded but the value at each voxel: half a HU at most, before mixing.
    affine = sheared(orientation, (1.25, 0.75, 2.0), degrees, toward)
    series = DicomSeries.open(write_ramp(tmp_path, affine, (24, 40, 32), scale=1))
    np.testing.assert_allclose(series.geometry.affine, affine, atol=1e-5)
    assert [warning.code for warning in series.warnings] == ["SERIES_TILTED"]
    assert f"{abs(degrees):.1f} degrees" in series.warnings[0].what
    cube, expected = values_of_cube(series, tuple(affine[:3, :3] @ (15.5, 19.5, 11.5) + affine[:3, 3]))
    within = ~np.isnan(expected)
    assert within.sum() > 20_000
    assert np.abs(cube[within] - expected[within]).max() < 0.51


def test_a_linear_ramp_in_a_sheared_stack_is_reproduced_exactly(tmp_path: Path) -> None:
    # Spacings and tilt such that the ramp is a whole number of HU at every voxel: then interpolation is exact.
    affine = np.array([[1.0, 0, 0, -7], [0, 2, 1, 11], [0, 0, 2, 3], [0, 0, 0, 1]])  # leans by atan(1/2) = 26.6 degrees
    series = DicomSeries.open(write_ramp(tmp_path, affine, (20, 24, 32), scale=1))
    np.testing.assert_array_equal(series.geometry.affine, affine)
    cube, expected = values_of_cube(series, tuple(affine[:3, :3] @ (15.5, 11.5, 9.5) + affine[:3, 3]))
    within = ~np.isnan(expected)
    assert within.sum() > 20_000
    np.testing.assert_allclose(cube[within], expected[within], atol=1e-3, rtol=0)


@pytest.mark.parametrize("degrees", [0, 0.09])
def test_what_rounding_makes_of_a_right_angle_is_no_tilt(tmp_path: Path, degrees: float) -> None:
    affine = sheared(AXIAL, (1, 1, 1), degrees, 90)
    assert DicomSeries.open(write_ramp(tmp_path, affine, (6, 4, 4))).warnings == ()


def test_a_stack_aslant_in_its_own_plane_is_told_from_a_slice_beside_it(tmp_path: Path) -> None:
    def bend(number: int, image: FileDataset) -> None:
        image.ImagePositionPatient = [0, 0.2 * number + (0.5 if number == 3 else 0), number]

    with pytest.raises(SeriesError) as caught:
        DicomSeries.open(write_series(tmp_path, np.zeros((8, 4, 4), np.int16), edit=bend))
    assert caught.value.code == "SERIES_MIXED" and "003.dcm" in caught.value.what


def test_the_steepest_tilt_that_is_read_is_that_of_gantries() -> None:
    assert MOST_TILT_DEGREES == 30


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_pixels_that_are_not_square(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    affine = sheared(orientation, (0.5, 1.5, 2.5), 0, 0)
    series = DicomSeries.open(write_ramp(tmp_path, affine, (20, 18, 40)))
    np.testing.assert_allclose(series.geometry.spacing, (0.5, 1.5, 2.5), atol=1e-6)
    cube, expected = values_of_cube(series, tuple(affine[:3, :3] @ (19.5, 8.5, 9.5) + affine[:3, 3]))
    within = ~np.isnan(expected)
    assert within.sum() > 10_000
    assert np.abs(cube[within] - expected[within]).max() < 0.51


def test_only_positions_and_orientation_are_consulted(tmp_path: Path) -> None:
    stored = np.random.default_rng(3).integers(-1000, 400, (5, 6, 7)).astype(np.int16)

    def mislead(number: int, image: FileDataset) -> None:
        image.PatientPosition = ["HFS", "FFS", "HFP", "FFDR", "HFDL"][number]
        image.SliceThickness, image.SpacingBetweenSlices = 7, -3
        image.SliceLocation, image.InstanceNumber = -50 * number, 10 - number
        image.GantryDetectorTilt = 15
        image.AcquisitionNumber = number

    plain = DicomSeries.open(write_series(tmp_path / "plain", stored, spacing=(1, 1, 2)))
    misled = DicomSeries.open(write_series(tmp_path / "misled", stored, spacing=(1, 1, 2), edit=mislead))
    np.testing.assert_array_equal(misled.geometry.affine, plain.geometry.affine)
    box = Box(start=np.zeros(3, np.int64), stop=plain.geometry.shape)
    np.testing.assert_array_equal(misled.read_box(box), stored)
    assert misled.warnings == plain.warnings == ()


def test_wide_spacing_and_tilt_are_both_told(tmp_path: Path) -> None:
    series = DicomSeries.open(write_ramp(tmp_path, sheared(AXIAL, (1, 1, 4), 10, 90), (5, 4, 4)))
    assert [warning.code for warning in series.warnings] == ["SPACING_WIDE", "SERIES_TILTED"]
