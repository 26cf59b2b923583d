"""A bright cube in a known corner of the patient lands on the right side of every plane, however the CT was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from numpy.typing import NDArray

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import SeriesError
from noduleserve.look.planes import LAYOUT, Plane, axes_along_patient, patient_grid, read_planes
from noduleserve.look.sight import see
from noduleserve.preprocessing import Box, VolumeGeometry

# ImageOrientationPatient: direction of the columns' index, then of the rows', in LPS.
ACQUISITIONS = {
    "axial, head first supine": (1, 0, 0, 0, 1, 0),
    "axial, feet first supine": (-1, 0, 0, 0, 1, 0),
    "axial, head first prone": (-1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "sagittal, turned over": (0, -1, 0, 0, 0, 1),
}
SPACING = (1.0, 1.5, 3.0)  # along x, y, z of the voxels
SHAPE = (90, 60, 30)  # 90 mm each way
BRIGHT, AIR = 400, -1000


def written(folder: Path, orientation: Sequence[float], marker: Sequence[float] | None = None) -> DicomSeries:
    """A volume with its middle at LPS (10, -20, 30) and a bright cube of 12 mm around `marker`, mm from the middle."""
    axes = np.array([orientation[:3], orientation[3:], np.cross(orientation[:3], orientation[3:])], float).T
    half = (np.array(SHAPE) - 1) / 2 * SPACING
    origin = np.array([10.0, -20.0, 30.0]) - axes @ half
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    voxels = np.full(SHAPE, AIR, np.int16)
    if marker is not None:
        from_middle = (index * SPACING - half) @ axes.T
        voxels[(np.abs(from_middle - np.array(marker)) <= 6).all(axis=-1)] = BRIGHT
    write_series(folder, voxels.transpose(2, 1, 0), orientation=orientation, position=origin, spacing=SPACING)
    return DicomSeries.open(folder)


def place_on_screen(plane: Plane) -> tuple[float, float]:
    """The middle of what is bright, as shares of the picture's width and height."""
    rows, columns = np.nonzero(plane.known & (plane.hu > 0))
    return (columns.mean() + 0.5) / plane.hu.shape[1], (rows.mean() + 0.5) / plane.hu.shape[0]


@pytest.mark.parametrize("name", ACQUISITIONS)
@pytest.mark.parametrize("corner", [(-1, 1, -1), (1, -1, 1)])
def test_a_marker_in_a_corner_is_beside_its_letters(tmp_path: Path, name: str, corner: tuple[int, int, int]) -> None:
    """The corner (x, y, z) = (-1, 1, -1) of the patient is right, posterior, towards the feet."""
    marker = 30.0 * np.array(corner)
    volume = written(tmp_path / "ct", ACQUISITIONS[name], marker)
    planes, error = read_planes(volume, np.array([10.0, -20.0, 30.0]) + marker)
    assert error is None
    letters = [("R", "L"), ("A", "P"), ("F", "H")]
    mine = {letters[axis][int(corner[axis] > 0)] for axis in range(3)}
    assert [plane.name for plane in planes] == list(LAYOUT)
    for plane in planes:
        across, down = place_on_screen(plane)
        assert (plane.left if across < 0.5 else plane.right) in mine
        assert (plane.top if down < 0.5 else plane.bottom) in mine
        # 30 of 45 mm off the middle, to within a voxel
        assert abs(across - 0.5) == pytest.approx(30 / 90, abs=0.03)
        assert abs(down - 0.5) == pytest.approx(30 / 90, abs=0.03)
        assert plane.picture.width == pytest.approx(90, abs=1e-3)
        assert plane.picture.height == pytest.approx(90, abs=1e-3)


def test_the_letters_are_those_of_radiologists() -> None:
    volume = Gradient(VolumeGeometry((20, 20, 20), np.diag([5.0, 5, 5, 1])))
    planes, _ = read_planes(volume, (50, 50, 50))
    edges = [(p.left, p.right, p.top, p.bottom) for p in planes]
    assert edges == [("R", "L", "A", "P"), ("R", "L", "H", "F"), ("A", "P", "H", "F")]


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_marks_lie_over_what_they_mean(tmp_path: Path, name: str) -> None:
    """The centre is drawn over the marker, and the outlines around it: by mm, as both renderers draw them."""
    marker = np.array([14.0, -8.0, 20.0])
    center = np.array([10.0, -20.0, 30.0]) + marker
    planes, _ = read_planes(written(tmp_path / "ct", ACQUISITIONS[name], marker), center)
    for plane in planes:
        across, down = place_on_screen(plane)
        bright = plane.picture.left + across * plane.picture.width, plane.picture.top + down * plane.picture.height
        assert bright == pytest.approx(plane.center, abs=1.01)
        for outline, size in ((plane.cube, 100), (plane.field, 50)):
            assert (outline.width, outline.height) == pytest.approx((size, size))
            # index 50 of 100, or 25 of 50, is the lattice's point before the centre
            middle = outline.left + size / 2, outline.top + size / 2
            assert middle == pytest.approx(plane.center, abs=1.51)
        canvas = plane.canvas
        for inner in (plane.cube, plane.picture):
            assert canvas.left <= inner.left and canvas.top <= inner.top
            assert canvas.right >= inner.right - 1e-9 and canvas.bottom >= inner.bottom - 1e-9


@pytest.mark.parametrize("name", ["axial, feet first supine", "coronal", "sagittal, turned over"])
def test_the_views_and_the_planes_show_the_same(tmp_path: Path, name: str) -> None:
    """What is beside the centre is on one side, and as far away, in the model's straight view and in the plane."""
    off = np.array([12.0, 9.0, -14.0])
    volume = written(tmp_path / "ct", ACQUISITIONS[name], off)
    for number, plane_name in enumerate(LAYOUT):
        center = np.array([10.0, -20.0, 30.0])
        center[2 - number] += off[2 - number]  # so that this plane passes through the marker
        sight = see(volume, tuple(center.tolist()))
        view = sight.views[number] if plane_name == "axial" else sight.views[number][::-1]  # the head is up
        in_view = np.argwhere(view > 0.75).mean(axis=0)[::-1] - 24.5
        in_plane = (np.array(place_on_screen(sight.planes[number])) - 0.5) * 90
        assert in_view == pytest.approx(in_plane, abs=2.5)
        assert np.abs(in_plane).min() > 7


class Gradient:
    """A volume whose Hounsfield units say where a voxel lies; it counts the slices that are read."""

    series_uid = ""
    warnings = ()

    def __init__(self, geometry: VolumeGeometry, damaged: frozenset[int] = frozenset()) -> None:
        self.geometry = geometry
        self.read: list[int] = []
        self._damaged = damaged

    def read_box(self, box: Box) -> NDArray[np.int16]:
        (x0, y0, z0), (x1, y1, z1) = box.start.tolist(), box.stop.tolist()
        self.read += range(z0, z1)
        if self._damaged & set(range(z0, z1)):
            raise SeriesError("PIXELS_TRUNCATED", "A slice ends early.", "Copy it again.")
        z, y, x = np.meshgrid(np.arange(z0, z1), np.arange(y0, y1), np.arange(x0, x1), indexing="ij")
        return (x + 31 * y + 961 * z).astype(np.int16)


def turned(angle: float, axis: int, shear: float = 0.0) -> VolumeGeometry:
    """31 x 31 x 31 voxels of 4 mm, turned about a patient axis, its slices shifted along y from one to the next."""
    radians = np.radians(angle)
    turn = np.eye(4)
    one, two = (a for a in range(3) if a != axis)
    turn[[one, one, two, two], [one, two, one, two]] = (
        *(np.cos(radians), -np.sin(radians)),
        *(
            np.sin(radians),
            np.cos(radians),
        ),
    )
    stack = np.diag([4.0, 4.0, 4.0, 1.0])
    stack[1, 2] = 4 * np.tan(np.radians(shear))
    return VolumeGeometry((31, 31, 31), turn @ stack)


@pytest.mark.parametrize(
    "geometry", [turned(0, 0), turned(20, 0), turned(35, 1), turned(90, 2), turned(0, 0, shear=15), turned(10, 2, 12)]
)
def test_every_pixel_is_the_voxel_nearest_to_it(geometry: VolumeGeometry) -> None:
    center = geometry.affine[:3] @ [14.2, 16.4, 15.1, 1]
    volume = Gradient(geometry)
    planes, _ = read_planes(volume, center)
    rng = np.random.default_rng(1)
    for plane, (across, down) in zip(planes, LAYOUT.values(), strict=True):
        rows, columns = plane.hu.shape
        seen = 0
        for row, column in zip(rng.integers(rows, size=80), rng.integers(columns, size=80), strict=True):
            point = np.array(center)
            point[across] = plane.picture.left + (column + 0.5) * plane.picture.width / columns
            down_mm = plane.picture.top + (row + 0.5) * plane.picture.height / rows
            point[down] = -down_mm if down == 2 else down_mm
            exact = geometry.voxel_of(point)
            voxel = np.floor(exact + 0.5).astype(int)
            if (np.abs(exact - voxel) > 0.498).any():
                continue  # between two voxels: either will do
            inside = bool(((voxel >= 0) & (voxel < 31)).all())
            assert plane.known[row, column] == inside
            if inside:
                assert plane.hu[row, column] == np.int16(voxel @ [1, 31, 961])
                seen += 1
        assert seen > 20


def test_each_slice_is_read_once() -> None:
    volume = Gradient(turned(0, 0))
    read_planes(volume, (60, 60, 60))
    assert volume.read == list(range(31))
    oblique = Gradient(turned(20, 0))
    read_planes(oblique, oblique.geometry.affine[:3] @ [15, 15, 15, 1])
    assert len(oblique.read) == len(set(oblique.read)) <= 31


def test_progress_runs_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    read_planes(Gradient(turned(0, 0)), (60, 60, 60), lambda done, of: told.append((done, of)))
    assert told == [(n, 31) for n in range(32)]


def test_a_damaged_slice_far_away_leaves_a_gap_and_is_told() -> None:
    volume = Gradient(turned(0, 0), damaged=frozenset({29}))
    planes, error = read_planes(volume, (60, 60, 60))
    assert error is not None and error.code == "PIXELS_TRUNCATED"
    axial, coronal, sagittal = planes
    assert axial.known.all()
    for plane in (coronal, sagittal):
        assert not plane.known[1].any()  # the head is up
        assert plane.known.sum() == plane.known.size - 31


def test_a_hair_of_rotation_is_no_oblique_volume() -> None:
    """Rounded direction cosines must not cost the sharpness of native pixels; a degree is more than a hair."""
    hair = turned(0.01, 2)
    assert axes_along_patient(hair) == [0, 1, 2]
    assert [len(axis) for axis in patient_grid(hair)] == [31, 31, 31]
    assert axes_along_patient(turned(90, 0)) == [0, 2, 1]
    assert axes_along_patient(turned(1.5, 2)) is None
    assert axes_along_patient(turned(0, 0, shear=2)) is None


def test_a_fine_and_large_oblique_volume_stays_small() -> None:
    geometry = VolumeGeometry((2000, 2000, 10), turned(30, 2).affine @ np.diag([0.05, 0.05, 1, 1]))
    assert max(len(axis) for axis in patient_grid(geometry)) <= 700


def test_at_the_border_the_canvas_holds_the_cube(tmp_path: Path) -> None:
    """A centre in the outermost voxel's outer half: the planes are that voxel's, and the cube reaches out of them."""
    volume = written(tmp_path / "ct", ACQUISITIONS["axial, head first supine"], (-40.0, -40.0, 40.0))
    low = volume.geometry.corners().min(axis=0)
    center = low[0] - 0.45, low[1] - 0.7, volume.geometry.corners().max(axis=0)[2] + 0.95
    planes, _ = read_planes(volume, center)
    for plane in planes:
        assert place_on_screen(plane)[0] < 0.2
        assert plane.hu.max() == BRIGHT
        assert plane.cube.left < plane.picture.left - 45
        assert plane.canvas.left == plane.cube.left
        assert plane.canvas.right == plane.picture.right
    reopened = open_volume(tmp_path / "ct")
    assert see(reopened, center).warnings[-1].code == "VIEWS_BEYOND_VOLUME"
