"""The phantom is what it says: the same again from the same seed, right in its tissues, valid as DICOM."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from noduleserve.demo.phantom import Phantom, PhantomNodule, make_phantom, write_dicom, write_worklist

COARSE = {"shape_xyz": (96, 72, 60), "spacing_xyz": (3.6, 3.6, 4.0)}
MEDIUM = {"shape_xyz": (192, 144, 120), "spacing_xyz": (1.8, 1.8, 2.0)}

# kind -> mean HU within 2 mm of the centre
CENTRE_HU = {
    "solid": (0, 70),
    "spiculated": (0, 70),
    "part_solid": (-10, 70),
    "ground_glass": (-700, -520),
    "juxtapleural": (0, 70),
}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom()


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return make_phantom(**COARSE)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_dicom(phantom, tmp_path_factory.mktemp("series"))


def distances_mm(phantom: Phantom, point_lps: np.ndarray) -> np.ndarray:
    """Distance [z, y, x] of every voxel from a point; the phantom's axes are those of the patient."""
    away = [
        phantom.affine[axis, 3] + phantom.affine[axis, axis] * np.arange(n) - point_lps[axis]
        for axis, n in enumerate(phantom.voxels.shape[::-1])
    ]
    return np.sqrt(away[0] ** 2 + away[1][:, None] ** 2 + away[2][:, None, None] ** 2)


def mean_hu(phantom: Phantom, point_lps: np.ndarray, radius_mm: float = 2.0) -> float:
    return float(phantom.voxels[distances_mm(phantom, point_lps) <= radius_mm].mean())


def nodule(phantom: Phantom, kind: str) -> PhantomNodule:
    return next(n for n in phantom.nodules if n.kind == kind)


def test_types_and_geometry(phantom: Phantom) -> None:
    assert phantom.voxels.dtype == np.int16
    assert phantom.voxels.shape == (120, 288, 384)
    assert phantom.affine.dtype == np.float64
    np.testing.assert_array_equal(phantom.affine[:3, :3], np.diag([0.9, 0.9, 2.0]))
    np.testing.assert_array_equal(phantom.affine[3], [0, 0, 0, 1])
    assert np.abs(phantom.affine[:3, 3]).min() > 1


def test_same_seed_same_voxels_other_seed_others(coarse: Phantom) -> None:
    again, other = make_phantom(seed=7, **COARSE), make_phantom(seed=8, **COARSE)
    np.testing.assert_array_equal(again.voxels, coarse.voxels)
    assert again.nodules == coarse.nodules
    assert (other.voxels != coarse.voxels).mean() > 0.5
    assert other.nodules != coarse.nodules


def test_same_seed_same_bytes_other_seed_other_uids(coarse: Phantom, tmp_path: Path) -> None:
    first = write_dicom(coarse, tmp_path / "first")
    again = write_dicom(make_phantom(seed=7, **COARSE), tmp_path / "again")
    assert [p.name for p in first] == [p.name for p in again]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, again, strict=True))

    other = write_dicom(make_phantom(seed=8, **COARSE), tmp_path / "other")
    uids = [pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID for paths in (first, other)]
    assert uids[0] != uids[1]


@pytest.mark.parametrize(
    ("tissue", "from_middle", "low", "high"),
    [
        ("air outside", (-160, -118, 0), -1010, -980),
        ("fat under the skin", (149, -4, -40), -130, -80),
        ("heart", (20, -28, -45), 30, 55),
        ("liver", (-70, -10, -105), 45, 70),
        ("descending aorta", (26, 32, -50), 30, 55),
        ("marrow of a vertebra", (0, 50, 12.5), 170, 250),
        ("disc", (0, 52, 0), 60, 180),
        ("trachea", (-1, 4, 60), -1005, -940),
        ("air in the stomach", (70, -52, -112), -980, -930),
    ],
)
def test_tissue(phantom: Phantom, tissue: str, from_middle: tuple[float, ...], low: float, high: float) -> None:
    middle = phantom.affine @ [*((np.array(phantom.voxels.shape[::-1]) - 1) / 2), 1]
    value = mean_hu(phantom, middle[:3] + from_middle, radius_mm=2.5)
    assert low <= value <= high, f"{tissue}: {value:.0f} HU"


def test_lungs_are_aerated_and_textured(phantom: Phantom) -> None:
    aerated = phantom.voxels[(phantom.voxels > -960) & (phantom.voxels < -760)]
    litres = aerated.size * 0.9 * 0.9 * 2.0 / 1e6
    assert 2.0 < litres < 6.0
    assert -890 < np.median(aerated) < -830
    assert 15 < aerated.std() < 45


def test_bone_is_bright_and_nothing_is_impossible(phantom: Phantom) -> None:
    assert 600 < np.percentile(phantom.voxels, 99.9) < 1000
    assert phantom.voxels.min() >= -1024
    assert phantom.voxels.max() <= 3071


def test_five_nodules_of_five_kinds(phantom: Phantom) -> None:
    assert [n.kind for n in phantom.nodules] == list(CENTRE_HU)
    assert len({n.nodule_id for n in phantom.nodules}) == 5
    assert all(4 <= n.diameter_mm <= 30 and n.description for n in phantom.nodules)


@pytest.mark.parametrize("seed", [1, 7, 11, 23])
def test_centre_of_each_nodule_is_what_its_kind_says(seed: int) -> None:
    phantom = make_phantom(seed=seed, **MEDIUM)
    for n in phantom.nodules:
        low, high = CENTRE_HU[n.kind]
        assert low <= mean_hu(phantom, np.array(n.center_lps)) <= high, n


def test_solid_nodule_is_as_large_as_it_says(phantom: Phantom) -> None:
    n = nodule(phantom, "solid")
    near = distances_mm(phantom, np.array(n.center_lps)) < 0.65 * n.diameter_mm
    volume = (phantom.voxels[near] > -400).sum() * 0.9 * 0.9 * 2.0
    assert (6 * volume / np.pi) ** (1 / 3) == pytest.approx(n.diameter_mm, rel=0.1)


def test_part_solid_nodule_has_a_ground_glass_halo(phantom: Phantom) -> None:
    n = nodule(phantom, "part_solid")
    away = distances_mm(phantom, np.array(n.center_lps)) / n.diameter_mm
    assert -720 < np.median(phantom.voxels[(away > 0.34) & (away < 0.40)]) < -500
    assert np.median(phantom.voxels[(away > 0.75) & (away < 0.85)]) < -800


def test_spiculated_nodule_has_spikes_and_the_solid_one_none(phantom: Phantom) -> None:
    shares = {}
    for kind in ("spiculated", "solid"):
        n = nodule(phantom, kind)
        away = distances_mm(phantom, np.array(n.center_lps)) / n.diameter_mm
        shares[kind] = (phantom.voxels[(away > 0.58) & (away < 0.72)] > -600).mean()
    assert 0.05 < shares["spiculated"] < 0.5
    assert shares["solid"] < 0.05


def test_juxtapleural_nodule_sits_on_the_chest_wall(phantom: Phantom) -> None:
    n = nodule(phantom, "juxtapleural")
    outward = np.array([-0.88, 0.47, 0.0])
    assert mean_hu(phantom, np.array(n.center_lps) + 0.7 * n.diameter_mm * outward) > 0
    assert mean_hu(phantom, np.array(n.center_lps) - 0.9 * n.diameter_mm * outward) < -700


def test_field_too_small_for_the_nodules_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold the solid nodule"):
        make_phantom(shape_xyz=(64, 64, 20))


def test_series_read_by_pydicom_is_the_phantom(phantom: Phantom, series: list[Path]) -> None:
    slices = [pydicom.dcmread(path) for path in series]
    hu = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    np.testing.assert_array_equal(hu, phantom.voxels)

    first, last = slices[0], slices[-1]
    assert str(first.PatientName) == "PHANTOM^NODULESERVE"
    position = np.array(first.ImagePositionPatient, float)
    step = (np.array(last.ImagePositionPatient, float) - position) / (len(slices) - 1)
    orientation, spacing = np.array(first.ImageOrientationPatient, float), first.PixelSpacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    affine[:3, 2], affine[:3, 3] = step, position
    np.testing.assert_allclose(affine, phantom.affine, rtol=0, atol=1e-9)


def test_series_read_by_highdicom_is_the_phantom(phantom: Phantom, series: list[Path]) -> None:
    highdicom = pytest.importorskip("highdicom")
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in series])
    # highdicom counts slice, row, column; it may run the slices either way, and its affine says which.
    array, affine = volume.array, volume.affine[:, [2, 1, 0, 3]]
    if affine[2, 2] < 0:
        array = array[::-1]
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, len(array) - 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(array, phantom.voxels)
    np.testing.assert_allclose(affine, phantom.affine, rtol=0, atol=1e-9)


def test_series_is_as_untidy_and_as_small_as_it_should_be(series: list[Path]) -> None:
    assert series != sorted(series)
    assert {p.name for p in series[0].parent.iterdir()} == {p.name for p in series}
    assert sum(p.stat().st_size for p in series) < 30e6
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in series]
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert {h.file_meta.TransferSyntaxUID for h in headers} == {pydicom.uid.ExplicitVRLittleEndian}
    for shared in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({h[shared].value for h in headers}) == 1


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (package dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(series: list[Path]) -> None:
    for path in series[::24]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        report = done.stdout + done.stderr
        assert "CTImage" in report
        assert not [line for line in report.splitlines() if line.startswith(("Error", "Warning"))], report


def test_voxels_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    voxels = np.full((2, 4, 4), -2000, np.int16)
    with pytest.raises(ValueError, match="cannot be stored"):
        write_dicom(Phantom(voxels, np.eye(4), ()), tmp_path)


def test_worklist_points_at_the_image_and_the_nodules(coarse: Phantom, tmp_path: Path) -> None:
    image, path = tmp_path / "images" / "ct", tmp_path / "lists" / "worklist.csv"
    image.mkdir(parents=True)
    path.parent.mkdir()
    write_worklist(coarse, image, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ", "kind", "diameter_mm"]
    assert list(rows[0]) == columns
    assert len(rows) == len(coarse.nodules)
    for row, n in zip(rows, coarse.nodules, strict=True):
        assert row["pid"] == "PHANTOM-001"
        assert (path.parent / row["image_path"]).resolve() == image.resolve()
        assert tuple(float(row[f"coord{axis}"]) for axis in "XYZ") == n.center_lps
        assert (row["nodule_id"], row["kind"]) == (n.nodule_id, n.kind)
        assert float(row["diameter_mm"]) == n.diameter_mm
