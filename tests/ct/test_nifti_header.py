"""What the header of a NIfTI file decides: which form places the voxels, and what is refused before it is read."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_writing import affine_of
from numpy.typing import NDArray

from noduleserve.ct.nifti import NiftiVolume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE = affine_of((1, 0, 0, 0, 1, 0), (-30.5, -20.25, 12), (1.5, 1.25, 2.5))
SUFFIXES = [".nii", ".nii.gz"]


def numbers(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(4).integers(-1000, 600, shape).astype(np.int16)


def write(path: Path, stored: NDArray[Any]) -> Path:
    nibabel.save(nibabel.Nifti1Image(stored, TO_RAS @ AFFINE), path)
    return path


def whole(volume: NiftiVolume) -> Box:
    return Box(start=np.zeros(3, np.int64), stop=volume.geometry.shape)


def refusal(path: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        NiftiVolume.open(path)
    assert caught.value.what and caught.value.mend and str(path.parent) not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- sform and qform

MOVED = AFFINE + np.array([[0, 0, 0, 1.5]] + [[0] * 4] * 3)  # both forms at right angles, as a qform must be


def with_forms(path: Path, sform: tuple[Any, int], qform: tuple[Any, int]) -> Path:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), None)
    image.set_sform(TO_RAS @ sform[0], code=sform[1])
    image.set_qform(TO_RAS @ qform[0], code=qform[1])
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("sform", "qform", "used", "warned"),
    [
        ((AFFINE, 1), (AFFINE, 1), AFFINE, ""),
        ((AFFINE, 2), (AFFINE, 1), AFFINE, ""),
        ((AFFINE, 1), (MOVED, 1), AFFINE, "sform is used"),
        ((AFFINE, 2), (MOVED, 2), AFFINE, "sform is used"),
        ((AFFINE, 1), (MOVED, 2), AFFINE, "sform is used"),
        ((AFFINE, 2), (MOVED, 1), MOVED, "qform is used"),  # the scanner's own coordinates
        ((AFFINE, 4), (MOVED, 1), MOVED, "qform is used"),  # a template is not the patient
        ((AFFINE, 4), (MOVED, 2), MOVED, "qform is used"),
        ((AFFINE, 0), (MOVED, 1), MOVED, ""),
        ((AFFINE, 1), (MOVED, 0), AFFINE, ""),
    ],
)
def test_which_form_places_the_voxels(
    tmp_path: Path, sform: tuple[Any, int], qform: tuple[Any, int], used: Any, warned: str
) -> None:
    volume = NiftiVolume.open(with_forms(tmp_path / "ct.nii", sform, qform))
    np.testing.assert_allclose(volume.geometry.affine, used, atol=1e-5)
    assert [w.code for w in volume.warnings] == (["NIFTI_FORMS_DIFFER"] if warned else [])
    assert all(warned in w.what for w in volume.warnings)


def test_forms_that_agree_to_a_millimetre_are_no_doubt(tmp_path: Path) -> None:
    near = AFFINE + np.array([[0, 0, 0, 0.9]] + [[0] * 4] * 3)
    assert NiftiVolume.open(with_forms(tmp_path / "ct.nii", (AFFINE, 1), (near, 1))).warnings == ()


def test_a_qform_that_makes_no_rotation_is_a_doubt(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(numbers(4, 5, 6), TO_RAS @ AFFINE)
    image.header["qform_code"] = 1
    image.header["quatern_b"] = image.header["quatern_c"] = 3
    path = tmp_path / "ct.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + numbers(4, 5, 6).tobytes(order="F"))
    assert [w.code for w in NiftiVolume.open(path).warnings] == ["NIFTI_FORMS_DIFFER"]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("codes", [(4, 0), (3, 3), (0, 5)])
def test_a_position_in_a_template_is_none_in_the_patient(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = with_forms(tmp_path / "ct.nii", (AFFINE, codes[0]), (AFFINE, codes[1]))
    error = refusal(path)
    assert error.code == "NIFTI_NO_POSITION" and "template" in error.what


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_numbers_that_cannot_be_air(tmp_path: Path, dtype: str) -> None:
    stored = np.ones((4, 5, 6), dtype)
    assert refusal(write(tmp_path / "ct.nii", stored)).code == "NOT_HOUNSFIELD"
    image = nibabel.Nifti1Image(stored, TO_RAS @ AFFINE)
    image.header.set_slope_inter(1, -1024)
    nibabel.save(image, tmp_path / "shifted.nii")
    volume = NiftiVolume.open(tmp_path / "shifted.nii")
    assert volume.read_box(whole(volume)).min() == -1023


def test_pairs(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(numbers(4, 5, 6), TO_RAS @ AFFINE), tmp_path / "ct.img")
    assert [refusal(tmp_path / name).code for name in ("ct.img", "ct.hdr")] == ["NIFTI_PAIR"] * 2


@pytest.mark.parametrize("nifti", [nibabel.Nifti1Header, nibabel.Nifti2Header])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sizes_that_no_ct_has_are_refused_before_they_are_read(tmp_path: Path, suffix: str, nifti: Any) -> None:
    header = nifti()
    header.set_data_dtype(np.int16)
    header.set_data_shape((30000, 30000, 30000))
    header.set_sform(TO_RAS @ AFFINE, 1)
    header["vox_offset"] = 352 if nifti is nibabel.Nifti1Header else 544
    data = header.binaryblock + b"\0" * 4
    path = tmp_path / f"ct{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    assert refusal(path).code == "SERIES_TOO_LARGE"


def test_a_packed_file_that_unpacks_to_more_than_memory(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((1024, 1024, 2000))  # fewer voxels than the limit, 16 GiB
    header.set_sform(TO_RAS @ AFFINE, 1)
    data = header.binaryblock + b"\0" * 4
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(data))
    assert refusal(tmp_path / "ct.nii.gz").code == "SERIES_TOO_LARGE"
    (tmp_path / "ct.nii").write_bytes(data)
    volume = NiftiVolume.open(tmp_path / "ct.nii")  # a box of it needs no more than the box
    with pytest.raises(SeriesError) as caught:
        volume.read_box(whole(volume))
    assert caught.value.code == "BOX_TOO_LARGE"
