import gzip
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_writing import affine_of, write_series
from numpy.typing import ArrayLike, NDArray

from noduleserve.ct.nifti import NiftiVolume
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, required_box, views_of_request

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = affine_of((1, 0, 0, 0, 1, 0), (-30.5, -20.25, 12), (1.5, 1.25, 2.5))
SUFFIXES = [".nii", ".nii.gz"]


def numbers(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(4).integers(-1000, 600, shape).astype(np.int16)


def write(path: Path, stored: NDArray[Any], affine: ArrayLike = AFFINE) -> Path:
    """Write stored numbers [x, y, z] and an affine to LPS as a NIfTI file."""
    nibabel.save(nibabel.Nifti1Image(stored, TO_RAS @ affine), path)
    return path


def whole(volume: NiftiVolume) -> Box:
    return Box(start=np.zeros(3, np.int64), stop=volume.geometry.shape)


def refusal(path: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        NiftiVolume.open(path)
    assert caught.value.what and caught.value.mend and str(path.parent) not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- voxels


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NII"])
@pytest.mark.parametrize("dtype", ["int8", "int16", ">i2", "int32", "float32", "float64"])
def test_stored_axes_and_voxels(tmp_path: Path, suffix: str, dtype: str) -> None:
    stored = (numbers(6, 5, 4).astype(int) + (1000 if dtype == "uint16" else 0)).astype(dtype)
    volume = NiftiVolume.open(write(tmp_path / f"ct{suffix}", stored))
    assert volume.series_uid == ""
    assert volume.geometry.shape.tolist() == [6, 5, 4]
    np.testing.assert_allclose(volume.geometry.affine, AFFINE)
    voxels = volume.read_box(whole(volume))
    assert voxels.dtype == np.int16 and voxels.flags.c_contiguous
    np.testing.assert_array_equal(voxels, stored.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_boxes_are_parts_of_the_whole(tmp_path: Path, suffix: str) -> None:
    stored = numbers(8, 9, 6)
    volume = NiftiVolume.open(write(tmp_path / f"ct{suffix}", stored))
    for start, stop in (((2, 3, 1), (7, 9, 4)), ((0, 0, 5), (1, 1, 6))):
        box = Box(start=np.array(start), stop=np.array(stop))
        voxels = volume.read_box(box)
        assert voxels.flags.c_contiguous
        np.testing.assert_array_equal(voxels, stored.transpose(2, 1, 0)[box.slices])
    with pytest.raises(ValueError, match="beyond"):
        volume.read_box(Box(start=np.array([0, 0, 0]), stop=np.array([8, 9, 7])))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_slope_and_intercept(tmp_path: Path, suffix: str, dtype: str) -> None:
    stored = numbers(4, 5, 6).astype(dtype)
    image = nibabel.Nifti1Image(stored, TO_RAS @ AFFINE)
    image.header.set_slope_inter(0.5, -24.25)
    nibabel.save(image, tmp_path / f"ct{suffix}")
    saved = nibabel.load(tmp_path / f"ct{suffix}").get_fdata()
    volume = NiftiVolume.open(tmp_path / f"ct{suffix}")
    assert (saved != stored).any()
    np.testing.assert_array_equal(volume.read_box(whole(volume)), np.rint(saved).transpose(2, 1, 0))


def test_hounsfield_units_are_rounded_and_clipped(tmp_path: Path) -> None:
    stored = np.array([-1e9, -0.6, 0.4, 0.6, 41000.0], np.float32).reshape(5, 1, 1)
    volume = NiftiVolume.open(write(tmp_path / "ct.nii", stored))
    assert volume.read_box(whole(volume)).ravel().tolist() == [-32768, -1, 0, 1, 32767]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_fourth_axis_of_length_one(tmp_path: Path, suffix: str) -> None:
    stored = numbers(4, 5, 6)
    volume = NiftiVolume.open(write(tmp_path / f"ct{suffix}", stored[..., None]))
    assert volume.geometry.shape.tolist() == [4, 5, 6]
    np.testing.assert_array_equal(volume.read_box(whole(volume)), stored.transpose(2, 1, 0))


def test_a_qform_alone_gives_the_position(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), None)
    image.set_sform(None, code=0)
    image.set_qform(TO_RAS @ AFFINE, code=1)
    nibabel.save(image, tmp_path / "ct.nii")
    np.testing.assert_allclose(NiftiVolume.open(tmp_path / "ct.nii").geometry.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("nifti", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_big_endian_headers(tmp_path: Path, suffix: str, nifti: Any) -> None:
    stored = numbers(4, 5, 6)
    header = nifti.header_class(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nifti(stored, TO_RAS @ AFFINE, header), tmp_path / f"ct{suffix}")
    volume = NiftiVolume.open(tmp_path / f"ct{suffix}")
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, rtol=1e-6)
    np.testing.assert_array_equal(volume.read_box(whole(volume)), stored.transpose(2, 1, 0))


# ---------------------------------------------------------------- refusals


def test_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.nii").code == "SERIES_NOT_FOUND"


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"no image at all" * 100])
def test_not_nifti(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).code == "NIFTI_UNREADABLE"


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2), (4, 5, 6, 1, 3)])
def test_not_three_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(write(tmp_path / "ct.nii", numbers(*shape))).code == "NIFTI_NOT_3D"


def test_voxels_that_are_no_plain_numbers(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "ct.nii", np.zeros((3, 3, 3), np.complex64))).code == "NIFTI_NOT_NUMBERS"
    rgb = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refusal(write(tmp_path / "rgb.nii", rgb)).code == "NIFTI_NOT_NUMBERS"


def test_no_position(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), None)
    image.set_sform(np.eye(4), code=0)
    image.set_qform(np.eye(4), code=0)
    nibabel.save(image, tmp_path / "ct.nii")
    assert refusal(tmp_path / "ct.nii").code == "NIFTI_NO_POSITION"


def test_metres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), np.eye(4))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii")
    assert refusal(tmp_path / "ct.nii").code == "NIFTI_UNITS"


@pytest.mark.parametrize(
    ("affine", "code"),
    [
        (np.diag([1.0, 1, 11, 1]), "VOXEL_TOO_LARGE"),
        (np.diag([1.0, 1, 0, 1]), "AFFINE_SINGULAR"),
        (np.diag([1.0, 1, np.nan, 1]), "AFFINE_NOT_FINITE"),
    ],
)
def test_an_affine_that_places_no_voxels(tmp_path: Path, affine: NDArray[np.float64], code: str) -> None:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), np.eye(4))
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    image.header["sform_code"] = 1
    path = tmp_path / "ct.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + numbers(4, 5, 6).tobytes(order="F"))
    assert refusal(path).code == code


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(tmp_path: Path, suffix: str, value: float) -> None:
    stored = numbers(4, 5, 6).astype(np.float32)
    stored[3, 4, 5] = value
    volume = NiftiVolume.open(write(tmp_path / f"ct{suffix}", stored))
    volume.read_box(Box(start=np.array([0, 0, 0]), stop=np.array([3, 5, 6])))
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "NIFTI_NOT_FINITE"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_ends_too_early(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"ct{suffix}", numbers(30, 30, 30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    volume = NiftiVolume.open(path)
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "PIXELS_UNREADABLE" and path.name in caught.value.what


def test_bytes_changed_within_a_compressed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii.gz", numbers(20, 20, 20))
    data = gzip.decompress(path.read_bytes())
    packed = bytearray(gzip.compress(data))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    path.write_bytes(packed)
    volume = NiftiVolume.open(path)
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("slice.dcm", "FORMAT_UNKNOWN"),
        ("none", "SERIES_NOT_FOUND"),
        ("none.nii.gz", "SERIES_NOT_FOUND"),
        ("x" * 300, "FILE_UNREADABLE"),
        ("a\0b", "SERIES_NOT_FOUND"),
    ],
)
def test_open_volume_refuses(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "slice.dcm").write_bytes(b"")
    with pytest.raises(SeriesError) as caught:
        open_volume(tmp_path / name)
    assert caught.value.code == code and caught.value.mend


# ---------------------------------------------------------------- the same anatomy, however stored

ANATOMY = numbers(40, 36, 24)  # [x, y, z] along L, P, S; 58.5 x 43.75 x 57.5 mm, all of it within one cube
CENTERS = [(-2.3, 4.1, 37.9), (20.2, -15.6, 60.4)]


def views(path: Path, center: tuple[float, float, float]) -> NDArray[np.float32]:
    volume = open_volume(path)
    geometry = volume.geometry
    box = required_box(geometry, center)
    return views_of_request(volume.read_box(box), box.start, geometry.shape, geometry.affine, center)


@pytest.fixture(scope="module")
def expected_views() -> list[NDArray[np.float32]]:
    voxels = np.ascontiguousarray(ANATOMY.transpose(2, 1, 0))
    return [views_of_request(voxels, (0, 0, 0), ANATOMY.shape, AFFINE, center) for center in CENTERS]


def turned(axes: tuple[int, ...], reverse: tuple[bool, ...]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The anatomy with its voxel axes permuted, then some reversed, and the affine that puts it back."""
    stored, affine = ANATOMY.transpose(axes), AFFINE[:, [*axes, 3]].copy()
    for axis in np.flatnonzero(reverse):
        stored = np.flip(stored, axis)
        affine[:, 3] += affine[:, axis] * (stored.shape[axis] - 1)
        affine[:, axis] *= -1
    return stored, affine


ALL_TURNS = list(product(permutations(range(3)), product([False, True], repeat=3)))
# Slices are stacked along their normal, so that only half of the turns are those of a DICOM series.
TURNS_OF_SERIES = [turn for turn in ALL_TURNS if np.linalg.det(turned(*turn)[1]) > 0]


@pytest.mark.parametrize(("axes", "reverse"), ALL_TURNS)
def test_nifti_in_every_axis_order_gives_the_same_views(
    tmp_path: Path,
    expected_views: list[NDArray[np.float32]],
    axes: tuple[int, ...],
    reverse: tuple[bool, ...],
) -> None:
    stored, affine = turned(axes, reverse)
    path = write(tmp_path / "ct.nii", stored, affine)
    for center, expected in zip(CENTERS, expected_views, strict=True):
        np.testing.assert_allclose(views(path, center), expected, atol=1e-6)


@pytest.mark.parametrize(("axes", "reverse"), TURNS_OF_SERIES)
def test_dicom_in_every_orientation_gives_the_same_views(
    tmp_path: Path,
    expected_views: list[NDArray[np.float32]],
    axes: tuple[int, ...],
    reverse: tuple[bool, ...],
) -> None:
    stored, affine = turned(axes, reverse)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    orientation = (affine[:3, :2] / spacing[:2]).T.ravel()
    names = [f"{name:02}" for name in np.random.default_rng(1).permutation(stored.shape[2])]
    planes = stored.transpose(2, 1, 0)
    write_series(tmp_path, planes, orientation=orientation, position=affine[:3, 3], spacing=spacing, names=names)
    for center, expected in zip(CENTERS, expected_views, strict=True):
        np.testing.assert_allclose(views(tmp_path, center), expected, atol=1e-6)


def test_an_oblique_volume_gives_the_same_views_as_dicom_and_nifti(tmp_path: Path) -> None:
    geometry: dict[str, tuple[float, ...]] = {
        "orientation": (0.8, 0.6, 0, -0.36, 0.48, 0.8),
        "position": (-3, -40, 12),
        "spacing": (1.5, 1.25, 2.5),
    }
    affine = affine_of(**geometry)
    center = (affine @ (20.3, 17.8, 11.2, 1))[:3]
    write_series(tmp_path / "dicom", ANATOMY.transpose(2, 1, 0), **geometry)
    write(tmp_path / "ct.nii.gz", ANATOMY, affine)
    voxels = np.ascontiguousarray(ANATOMY.transpose(2, 1, 0))
    expected = views_of_request(voxels, (0, 0, 0), ANATOMY.shape, affine, center)
    assert expected.std() > 0.05
    for path in (tmp_path / "dicom", tmp_path / "ct.nii.gz"):
        np.testing.assert_allclose(views(path, center), expected, atol=1e-5)
