"""Every number that is shown beside the pictures, compared with what it must be."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_writing import write_series

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.nifti import NiftiVolume
from noduleserve.ct.volume import Volume
from noduleserve.look.facts import series_facts
from noduleserve.look.sight import BIN_HU, Sight, see
from noduleserve.preprocessing import Lattice, required_box

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> NiftiVolume:
    """Voxels [z, y, x] with an affine to LPS."""
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), LPS_TO_RAS @ affine), path)
    return NiftiVolume.open(path)


def fact(sight: Sight, heading: str, name: str) -> str:
    return dict(sight.facts[heading])[name]


@pytest.fixture
def series(tmp_path: Path) -> DicomSeries:
    """128 x 160 x 40 voxels of 1 x 0.8 x 3 mm; voxel (0, 0, 0) at (-64, -64, -200); slice z holds z - 900 HU."""
    stored = np.broadcast_to(np.arange(40, dtype=np.int16)[:, None, None] - 900, (40, 160, 128)).copy()
    stored[20, 75, 64] = 77
    folder = write_series(tmp_path / "ct", stored, position=(-64, -64, -200), spacing=(1, 0.8, 3), series_uid="1.2.99")
    return DicomSeries.open(folder)


def test_numbers_of_an_aligned_series(series: DicomSeries) -> None:
    sight = see(series, (0.2, -4.08, -140.4))
    assert sight.facts["Series"] == [
        ("series UID", "1.2.99"),
        ("voxels (x, y, z)", "128 × 160 × 40"),
        ("spacing", "1 × 0.8 × 3 mm"),
        ("extent", "128 × 128 × 120 mm"),
        ("voxel axes lead", "x to the left, y to the back, z to the head"),
        ("orientation", "aligned with the patient's axes"),
    ]
    # The lattice starts at x = 63 - 127 = -64, at y = 63.2 - 127 = -63.8 and z = -200, 128 x 128 x 118 points;
    # the cube reaches from 14 to 113 in x, from 9 to 108 in y and from 9 to 108 in z.
    assert sight.facts["Nodule"] == [
        ("centre, LPS", "(0.20, -4.08, -140.40) mm"),
        ("centre, voxel", "(64.20, 74.90, 19.87)"),
        ("centre, 1-mm lattice", "(64, 59, 59) of 128 × 128 × 118"),
        ("box of voxels", "x 14..113, y 11..136, z 3..36 (100 × 126 × 34)"),
        ("100-mm cube", "within the volume"),
        ("50-mm field of the views", "within the volume"),
    ]
    box = required_box(series.geometry, (0.2, -4.08, -140.4))
    assert str(box) == "x 14..113, y 11..136, z 3..36"
    assert sight.facts["Hounsfield units"] == [
        ("at the centre", "77 HU"),
        ("box, min / median / max", "-897 / -880 / 77 HU"),
        ("beyond the window", "0.0% below -1000 HU, 0.0% above 500 HU"),
    ]


def test_the_histogram_counts_every_voxel_of_the_box(series: DicomSeries) -> None:
    center = (0.2, -4.08, -140.4)
    sight = see(series, center, context=False)
    box = required_box(series.geometry, center)
    voxels = series.read_box(box)
    assert sight.histogram.sum() == voxels.size
    for number, count in enumerate(sight.histogram.tolist()):
        low = sight.histogram_from + number * BIN_HU
        assert count == ((voxels >= low) & (voxels < low + BIN_HU)).sum()


@pytest.mark.parametrize(
    ("center", "cube", "field"),
    [
        # x 44..143 of 128 points: 16 of 100 beyond, to the left; the field ends at 118
        (
            (30.2, -4.08, -140.4),
            "reaches 16 mm towards the left beyond the volume: 16.0 % of it counts as 0 HU",
            "within the volume",
        ),
        # lattice z index 10: 40 of 100 and 15 of 50 points below the volume
        (
            (0.2, -4.08, -189.5),
            "reaches 40 mm towards the feet beyond the volume: 40.0 % of it counts as 0 HU",
            "reaches 15 mm towards the feet beyond the volume: 30.0 % of it counts as 0 HU",
        ),
        # a corner: x index 127 (cube 49, field 24 beyond), y index 0 (50, 25): 1 - 0.51 * 0.5 and 1 - 0.52 * 0.5
        (
            (63.0, -63.8, -140.4),
            "reaches 49 mm towards the left, 50 mm towards the front beyond the volume: 74.5 % of it counts as 0 HU",
            "reaches 24 mm towards the left, 25 mm towards the front beyond the volume: 74.0 % of it counts as 0 HU",
        ),
    ],
)
def test_how_far_the_cube_reaches_beyond(
    series: DicomSeries, center: tuple[float, float, float], cube: str, field: str
) -> None:
    sight = see(series, center, context=False)
    assert fact(sight, "Nodule", "100-mm cube") == cube
    assert fact(sight, "Nodule", "50-mm field of the views") == field
    warned = [warning.code for warning in sight.warnings]
    assert ("VIEWS_BEYOND_VOLUME" in warned) == (field != "within the volume")


def test_the_share_beyond_is_what_the_model_gets_as_zeros(tmp_path: Path) -> None:
    """An oblique volume of one value: the share told is that of the points of the cube that have none of it."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    volume = nifti(tmp_path / "o.nii", np.full((120, 110, 100), -700, np.int16), turn)
    center = tuple((turn[:3] @ [70, 30, 60, 1]).tolist())
    sight = see(volume, center, context=False)
    assert fact(sight, "Series", "orientation") == "oblique: turned by up to 28.6° against the patient's axes"
    lattice = Lattice.of(volume.geometry)
    offsets = np.arange(-50, 50)
    z, y, x = np.meshgrid(offsets, offsets, offsets, indexing="ij")
    points = lattice.origin + lattice.index_of(center) + np.stack([x, y, z], axis=-1)
    voxel = volume.geometry.voxel_of(points)
    outside = ((voxel < -1e-6) | (voxel > volume.geometry.shape - 1 + 1e-6)).any(axis=-1)
    assert 0.1 < outside.mean() < 0.9
    assert f"{100 * outside.mean():.1f} % of it counts as 0 HU" in fact(sight, "Nodule", "100-mm cube")


def volume_of(tmp_path: Path, affine: np.ndarray) -> Volume:
    return nifti(tmp_path / "v.nii", np.full((8, 8, 8), -800, np.int16), affine)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "x to the left, y to the back, z to the head"),
        ([[-1, 0, 0], [0, 1, 0], [0, 0, -1]], "x to the right, y to the back, z to the feet"),
        ([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], "x to the right, y to the front, z to the head"),
        ([[1, 0, 0], [0, 0, -1], [0, 1, 0]], "x to the left, y to the feet, z to the back"),
        ([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], "x to the back, y to the feet, z to the right"),
    ],
)
def test_directions_of_the_voxel_axes_in_words(tmp_path: Path, axes: list[list[int]], words: str) -> None:
    """Each row is the direction in which one voxel axis grows, in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(axes).T * [1, 2, 3]
    facts = dict(series_facts(volume_of(tmp_path, affine)))
    assert facts["voxel axes lead"] == words
    assert facts["spacing"] == "1 × 2 × 3 mm"
    assert facts["series UID"] == "none (the format has none)"


def test_orientation_in_words(tmp_path: Path) -> None:
    def words(affine: np.ndarray) -> str:
        return dict(series_facts(volume_of(tmp_path, affine)))["orientation"]

    tilt = np.diag([1.0, 1, 2, 1])
    tilt[1, 2] = 2 * np.tan(np.radians(12.3))
    assert words(tilt) == "tilted: the stack runs at 12.3° to the normal of its slices (at most 12.3° off an axis)"
    oblique = np.eye(4)
    oblique[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    assert words(oblique) == "oblique: turned by up to 11.5° against the patient's axes"
    assert words(np.eye(4)) == "aligned with the patient's axes"
