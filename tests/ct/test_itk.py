import sys
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_writing import affine_of, write_series
from numpy.typing import NDArray

from noduleserve.ct.codes import SERIES_CODES
from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.itk import ITK_SUFFIXES, ItkVolume
from noduleserve.ct.nifti import NiftiVolume
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, required_box, views_of_request

sitk = pytest.importorskip("SimpleITK", reason="NRRD and MetaImage are read with SimpleITK")

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = affine_of((1, 0, 0, 0, 1, 0), (-30.5, -20.25, 12), (1.5, 1.25, 2.5))


def numbers(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(4).integers(-1000, 600, shape).astype(np.int16)


def write(path: Path, stored: NDArray[Any], affine: NDArray[np.float64] = AFFINE, *, packed: bool = False) -> Path:
    """Write stored numbers [x, y, z] and an affine to LPS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


def edited(path: Path, *changes: tuple[str, str]) -> Path:
    """Change the text header of a file whose voxels stand in another."""
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def whole(volume: Volume) -> Box:
    return Box(start=np.zeros(3, np.int64), stop=volume.geometry.shape)


def refusal(path: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        ItkVolume.open(path)
    assert caught.value.code in SERIES_CODES and caught.value.mend and str(path.parent) not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- voxels


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [*ITK_SUFFIXES, ".NRRD", ".MHA"])
def test_geometry_and_voxels(tmp_path: Path, suffix: str, packed: bool) -> None:
    stored = numbers(6, 5, 4)
    path = write(tmp_path / f"ct{suffix.lower()}", stored, packed=packed)
    if suffix.isupper():
        path = path.rename(tmp_path / f"ct{suffix}")
    volume = ItkVolume.open(path)
    assert (volume.series_uid, volume.warnings) == ("", ())
    assert volume.geometry.shape.tolist() == [6, 5, 4]
    np.testing.assert_allclose(volume.geometry.affine, AFFINE)
    voxels = volume.read_box(whole(volume))
    assert voxels.dtype == np.int16 and voxels.flags.c_contiguous
    np.testing.assert_array_equal(voxels, stored.transpose(2, 1, 0))
    box = Box(start=np.array([2, 3, 1]), stop=np.array([5, 5, 3]))
    np.testing.assert_array_equal(volume.read_box(box), voxels[box.slices])
    with pytest.raises(ValueError, match="beyond"):
        volume.read_box(Box(start=np.array([0, 0, 0]), stop=np.array([6, 5, 5])))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float32", "float64"])
def test_types_of_numbers(tmp_path: Path, suffix: str, dtype: str) -> None:
    stored = (numbers(4, 5, 6) // 10).astype(dtype)
    volume = ItkVolume.open(write(tmp_path / f"ct{suffix}", stored))
    np.testing.assert_array_equal(volume.read_box(whole(volume)), stored.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_big_endian(tmp_path: Path, suffix: str) -> None:
    stored = numbers(6, 5, 4)
    path = write(tmp_path / f"ct{suffix}", stored)
    (tmp_path / "ct.raw").write_bytes(stored.transpose(2, 1, 0).astype(">i2").tobytes())
    edited(path, ("endian: little", "endian: big") if suffix == ".nhdr" else ("MSB = False", "MSB = True"))
    volume = ItkVolume.open(path)
    np.testing.assert_array_equal(volume.read_box(whole(volume)), stored.transpose(2, 1, 0))


@pytest.mark.parametrize(("space", "flip"), [("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))])
def test_spaces_of_nrrd(tmp_path: Path, space: str, flip: tuple[int, ...]) -> None:
    path = write(tmp_path / "ct.nhdr", numbers(6, 5, 4))
    volume = ItkVolume.open(edited(path, ("space: left-posterior-superior", f"space: {space}")))
    np.testing.assert_allclose(volume.geometry.affine, np.diag([*flip, 1]) @ AFFINE)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha"])
def test_no_file_and_no_image(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).code == "SERIES_NOT_FOUND"
    for content in (b"", b"no image at all" * 100, b"NRRD0004\n", b"NDims = 3\n"):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name).code in ("ITK_UNREADABLE", "ITK_NOT_3D")
    (tmp_path / "folder.mha").mkdir()
    assert refusal(tmp_path / "folder.mha").code == "ITK_UNREADABLE"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_not_one_volume_of_plain_numbers(tmp_path: Path, suffix: str) -> None:
    flat, vectors, four = (tmp_path / f"{name}{suffix}" for name in ("flat", "vectors", "four"))
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkInt16), str(flat))
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkVectorInt16, 3), str(vectors))
    sitk.WriteImage(sitk.Image([4, 5, 6, 2], sitk.sitkInt16), str(four))
    assert [refusal(path).code for path in (flat, vectors, four)] == ["ITK_NOT_3D"] * 3


NRRD_EDITS = [
    (("space: left-posterior-superior", "space: scanner-xyz"), "ITK_NO_POSITION"),
    (("space: left-posterior-superior", "space dimension: 3"), "ITK_NO_POSITION"),
    (("space origin:", "# origin:"), "ITK_NO_POSITION"),
    (("space directions:", "# directions:"), "ITK_NO_POSITION"),
    (("(-30.5,", "(nan,"), "ITK_NO_POSITION"),
    (("kinds:", 'space units: "cm" "cm" "cm"\nkinds:'), "ITK_UNITS"),
    (("kinds:", "old min: 0\nkinds:"), "NOT_HOUNSFIELD"),
    (("kinds:", "sizes: 6 5 4\nkinds:"), "ITK_UNREADABLE"),
    (("dimension: 3", "dimension: three"), "ITK_NOT_3D"),
    (("sizes: 6 5 4", "sizes: 6 5 -4"), "ITK_NOT_3D"),
    (("sizes: 6 5 4", "sizes: 600000 500000 400000"), "SERIES_TOO_LARGE"),
    (("sizes: 6 5 4", "sizes: 6 5 5"), "PIXELS_TRUNCATED"),
    (("type: short", "type: block"), "ITK_UNREADABLE"),
    (("type: short", "type: unsigned short"), "NOT_HOUNSFIELD"),
    (("(0,0,2.5)", "(0,0,0)"), "AFFINE_NOT_FINITE"),
    (("(0,0,2.5)", "(0,0,7)"), "SPACING_TOO_WIDE"),
    (("(0,0,2.5)", "(0,0,12)"), "VOXEL_TOO_LARGE"),
    (("data file: ct.raw", "data file: other.raw"), "ITK_DATA_MISSING"),
    (("data file: ct.raw", "data file: /etc/hostname"), "ITK_DATA_FILES"),
    (("data file: ct.raw", "data file: ../ct.raw"), "ITK_DATA_FILES"),
    (("data file: ct.raw", "data file: ct%03d.raw 1 4 1"), "ITK_DATA_FILES"),
    (("data file: ct.raw", "data file: LIST\nct.raw"), "ITK_DATA_FILES"),
]
META_EDITS = [
    (("Offset =", "Comment ="), "ITK_NO_POSITION"),
    (("ElementSpacing =", "Comment ="), "ITK_NO_POSITION"),
    (("Offset = -30.5", "Offset = nan"), "ITK_NO_POSITION"),
    (("NDims = 3", "NDims = 3\nDistanceUnits = cm"), "ITK_UNITS"),
    (("NDims = 3", "NDims = 3\nElementToIntensityFunctionSlope = 2"), "NOT_HOUNSFIELD"),
    (("NDims = 3", "NDims = 3\nDimSize = 6 5 4"), "ITK_UNREADABLE"),
    (("NDims = 3", "NDims = 3\nnonsense"), "ITK_UNREADABLE"),
    (("NDims = 3", "NDims = 3\nElementNumberOfChannels = 2"), "ITK_NOT_3D"),
    (("DimSize = 6 5 4", "DimSize = 6 5 -4"), "ITK_NOT_3D"),
    (("DimSize = 6 5 4", "DimSize = 600000 500000 400000"), "SERIES_TOO_LARGE"),
    (("DimSize = 6 5 4", "DimSize = 6 5 5"), "PIXELS_TRUNCATED"),
    (("MET_SHORT", "MET_USHORT"), "NOT_HOUNSFIELD"),
    (("MET_SHORT", "MET_NOTHING"), "ITK_UNREADABLE"),
    (("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 0 1 0 0 0 0"), "AFFINE_SINGULAR"),
    (("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 2 0 0 0 1 0 0 0 1"), "ITK_UNREADABLE"),
    (("ElementSpacing = 1.5 1.25 2.5", "ElementSpacing = 1.5 1.25 7"), "SPACING_TOO_WIDE"),
    (("ElementDataFile = ct.raw", "ElementDataFile = other.raw"), "ITK_DATA_MISSING"),
    (("ElementDataFile = ct.raw", "ElementDataFile = /etc/hostname"), "ITK_DATA_FILES"),
    (("ElementDataFile = ct.raw", "ElementDataFile = ../ct.raw"), "ITK_DATA_FILES"),
    (("ElementDataFile = ct.raw", "ElementDataFile = ct%03d.raw 1 4 1"), "ITK_DATA_FILES"),
    (("ElementDataFile = ct.raw", "ElementDataFile = LIST\nct.raw"), "ITK_DATA_FILES"),
    (("ElementDataFile = ct.raw", ""), "ITK_UNREADABLE"),
]


@pytest.mark.parametrize(
    ("suffix", "change", "code"),
    [(".nhdr", *edit) for edit in NRRD_EDITS] + [(".mhd", *edit) for edit in META_EDITS],
)
def test_headers_that_are_refused(tmp_path: Path, suffix: str, change: tuple[str, str], code: str) -> None:
    path = write(tmp_path / f"ct{suffix}", numbers(6, 5, 4))
    ItkVolume.open(path)
    assert refusal(edited(path, change)).code == code


def test_what_fills_too_much_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nhdr", numbers(6, 5, 4).astype(np.float64), packed=True)
    assert refusal(edited(path, ("sizes: 6 5 4", "sizes: 1024 1024 2000"))).code == "SERIES_TOO_LARGE"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_files_that_end_too_early(tmp_path: Path, suffix: str, packed: bool) -> None:
    path = write(tmp_path / f"ct{suffix}", numbers(20, 20, 20), packed=packed)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(SeriesError) as caught:
        volume = ItkVolume.open(path)
        volume.read_box(whole(volume))
    assert caught.value.code == ("PIXELS_UNREADABLE" if packed else "PIXELS_TRUNCATED")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(tmp_path: Path, suffix: str, value: float) -> None:
    stored = numbers(4, 5, 6).astype(np.float32)
    stored[3, 4, 5] = value
    volume = ItkVolume.open(write(tmp_path / f"ct{suffix}", stored))
    volume.read_box(Box(start=np.array([0, 0, 0]), stop=np.array([3, 5, 6])))
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "ITK_NOT_FINITE"


def test_a_file_that_changes_after_it_was_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.mha", numbers(4, 5, 6))
    volume = ItkVolume.open(path)
    path.unlink()
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "PIXELS_UNREADABLE"


def test_without_simple_itk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "ct.mha", numbers(4, 5, 6))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    error = refusal(path)
    assert error.code == "FORMAT_NEEDS_PACKAGE" and "noduleserve[formats]" in error.mend


def test_a_box_that_no_memory_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.mhd", np.zeros((2, 2, 2), np.int8))
    with (tmp_path / "ct.raw").open("r+b") as file:
        file.truncate(2**30)  # sparse: takes no room on the disk
    volume = ItkVolume.open(edited(path, ("DimSize = 2 2 2", "DimSize = 1024 1024 1024")))
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "BOX_TOO_LARGE"


def test_damaged_bytes_end_in_a_volume_or_an_error(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    for suffix, packed in product((".nrrd", ".mha"), (False, True)):
        path = write(tmp_path / f"ct{suffix}", numbers(6, 5, 4), packed=packed)
        good = path.read_bytes()
        for _ in range(60):
            data = bytearray(good)
            for at in random.integers(0, len(data), random.integers(1, 6)):
                data[at] = random.integers(256)
            path.write_bytes(data)
            try:
                volume = ItkVolume.open(path)
                assert volume.read_box(whole(volume)).shape == tuple(volume.geometry.shape[::-1])
            except SeriesError as error:
                assert error.code in SERIES_CODES


# ---------------------------------------------------------------- the same anatomy, however stored

ANATOMY = numbers(40, 36, 24)  # [x, y, z] along L, P, S
AXIAL = affine_of((1, 0, 0, 0, 1, 0), (-30.5, -20.25, 12), (1.5, 1.25, 2.5))
OBLIQUE = affine_of((0.8, 0.6, 0, -0.36, 0.48, 0.8), (-3, -40, 12), (1.5, 1.25, 2.5))
ALL_TURNS = list(product(permutations(range(3)), product([False, True], repeat=3)))


def turned(axes: tuple[int, ...], reverse: tuple[bool, ...], affine: NDArray[np.float64]) -> tuple[Any, Any]:
    """The anatomy stored with its axes in another order and direction, and the affine that goes with it."""
    stored, turned_affine = ANATOMY.transpose(axes), affine.copy()
    turned_affine[:, :3] = affine[:, list(axes)]
    for axis in np.flatnonzero(reverse):
        stored = np.flip(stored, axis)
        turned_affine[:, 3] += (stored.shape[axis] - 1) * turned_affine[:, axis]
        turned_affine[:, axis] *= -1
    return stored, turned_affine


def views(volume: Volume, center: NDArray[np.float64]) -> NDArray[np.float32]:
    box = required_box(volume.geometry, center)
    return views_of_request(volume.read_box(box), box.start, volume.geometry.shape, volume.geometry.affine, center)


def as_nifti(folder: Path, stored: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    nibabel.save(nibabel.Nifti1Image(stored, TO_RAS @ affine), folder / "ct.nii")
    return NiftiVolume.open(folder / "ct.nii")


def as_dicom(folder: Path, stored: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    orientation = (affine[:3, :2] / spacing[:2]).T.ravel()
    planes = stored.transpose(2, 1, 0)
    write_series(folder / "dicom", planes, orientation=orientation, position=affine[:3, 3], spacing=spacing)
    return DicomSeries.open(folder / "dicom")


FORMATS: dict[str, Callable[[Path, NDArray[np.int16], NDArray[np.float64]], Volume]] = {
    "nrrd": lambda folder, stored, affine: ItkVolume.open(write(folder / "ct.nrrd", stored, affine)),
    "mha": lambda folder, stored, affine: ItkVolume.open(write(folder / "ct.mha", stored, affine, packed=True)),
    "mhd": lambda folder, stored, affine: ItkVolume.open(write(folder / "ct.mhd", stored, affine)),
    "nifti": as_nifti,
    "dicom": as_dicom,
}


@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["aligned", "oblique"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_views_from_every_format_and_axis_order(
    tmp_path: Path, name: str, affine: NDArray[np.float64]
) -> None:
    center = (affine @ (20.3, 17.8, 11.2, 1))[:3]
    # A box cut beforehand: what a request carries that comes from no file at all.
    expected = views_of_request(ANATOMY.T.copy(), (0, 0, 0), ANATOMY.shape, affine, center)
    assert expected.std() > 0.05
    turns = ALL_TURNS if affine is AXIAL else ALL_TURNS[::7]
    if name == "dicom":  # slices are stacked along their normal
        turns = [turn for turn in turns if np.linalg.det(turned(*turn, affine)[1]) > 0]
    if affine is AXIAL:
        turns = turns[::5]
    for number, turn in enumerate(turns):
        (folder := tmp_path / str(number)).mkdir()
        stored, its_affine = turned(*turn, affine)
        volume = FORMATS[name](folder, stored, its_affine)
        np.testing.assert_allclose(views(volume, center), expected, atol=1e-6)
