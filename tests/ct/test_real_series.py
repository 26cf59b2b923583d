"""Two real chest CTs lead to the expected views, read from DICOM and from NIfTI alike."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.volume import Volume
from noduleserve.preprocessing import Box, cut_cube, required_box, views_of_request

KINDS = ("dicom", ".nii", ".nii.gz")


@pytest.fixture(scope="module")
def volumes(lidc_series: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Volume]:
    """(series, kind) -> the series opened as DICOM, and as NIfTI written from it."""
    folder = tmp_path_factory.mktemp("nifti")
    opened: dict[tuple[str, str], Volume] = {}
    for name, unpacked in lidc_series.items():
        series = open_volume(unpacked / "dicom")
        opened[name, "dicom"] = series
        box = Box(start=np.zeros(3, np.int64), stop=series.geometry.shape)
        voxels = series.read_box(box).transpose(2, 1, 0)
        image = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.geometry.affine)
        for kind in (".nii", ".nii.gz"):
            path = folder / f"{name}{kind}"
            nibabel.save(image, path)
            opened[name, kind] = open_volume(path)
    return opened


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_crops_of_all_nodules(volumes: dict[tuple[str, str], Volume], expected: Any, kind: str) -> None:
    assert len(expected.nodules) == 12
    for number, (row, center) in enumerate(zip(expected.nodules, expected.centers_lps, strict=True)):
        volume = volumes[row["image_path"], kind]
        box = required_box(volume.geometry, center)
        voxels = volume.read_box(box)
        views = views_of_request(voxels, box.start, volume.geometry.shape, volume.geometry.affine, center)
        np.testing.assert_allclose(views, expected.preprocessing["views"][number], atol=1e-5, rtol=0)
        cube = cut_cube(voxels, box.start, volume.geometry, center)
        for name, plane in (("axial", cube[50]), ("coronal", cube[:, 50]), ("sagittal", cube[:, :, 50])):
            crop = expected.preprocessing[f"crop_{name}"][number]
            np.testing.assert_allclose(plane, crop, atol=1e-3, rtol=0, err_msg=name)


def test_a_folder_above_the_files_opens_the_same_series(lidc_series: dict[str, Path]) -> None:
    for unpacked in lidc_series.values():
        above, inner = DicomSeries.open(unpacked), DicomSeries.open(unpacked / "dicom")
        assert above.series_uid == inner.series_uid != ""
        np.testing.assert_array_equal(above.geometry.affine, inner.geometry.affine)


def test_an_independent_reader_sees_the_same_volume(lidc_series: dict[str, Path]) -> None:
    highdicom = pytest.importorskip("highdicom")
    for unpacked in lidc_series.values():
        series = DicomSeries.open(unpacked)
        images = [dcmread(path) for path in sorted((unpacked / "dicom").glob("*.dcm"))]
        volume = highdicom.get_volume_from_series(images)
        # highdicom's axes are slice, row, column, and its slices may run the other way
        affine = np.asarray(volume.affine)[:, [2, 1, 0, 3]]
        array = np.asarray(volume.array)
        if affine[:3, 2] @ series.geometry.affine[:3, 2] < 0:
            affine[:, 3] += affine[:, 2] * (len(array) - 1)
            affine[:, 2] *= -1
            array = array[::-1]
        np.testing.assert_allclose(series.geometry.affine, affine, atol=1e-4)
        voxels = series.read_box(Box(start=np.zeros(3, np.int64), stop=series.geometry.shape))
        np.testing.assert_array_equal(voxels, array)
