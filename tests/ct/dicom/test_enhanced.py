"""Enhanced CT, written by highdicom and pydicom, against the classic series of the same slices."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_writing import write_series
from enhanced_writing import enhanced
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
SHAPE = (7, 9, 11)
STORED = np.random.default_rng(11).integers(-1000, 400, SHAPE).astype(np.int16)


def whole(series: DicomSeries) -> NDArray[np.int16]:
    return series.read_box(Box(start=np.zeros(3, np.int64), stop=series.geometry.shape))


def classic(folder: Path, stored: NDArray[Any] = STORED) -> list[FileDataset]:
    """An oblique series with a rescale of its own for every slice, as some scanners write."""

    def describe(number: int, image: FileDataset) -> None:
        image.RescaleSlope, image.RescaleIntercept = 1 + 0.25 * number, -1000 - number
        image.StudyInstanceUID = "1.2.3"
        image.ConvolutionKernel, image.Manufacturer, image.ManufacturerModelName = "B30f", "MAKER", "MODEL"
        image.SliceThickness = 2.5
        image.StudyDate = image.SeriesDate = image.ContentDate = image.AcquisitionDate = "20200101"
        image.StudyTime = image.SeriesTime = image.ContentTime = image.AcquisitionTime = "120000"
        image.StudyID, image.SeriesNumber, image.AccessionNumber = "1", 1, ""
        image.ReferringPhysicianName = image.PatientBirthDate = ""
        image.PatientSex, image.PatientPosition, image.PositionReferenceIndicator = "O", "HFS", ""

    write_series(folder, stored, orientation=OBLIQUE, spacing=(0.5, 0.75, 2.5), position=(-9, 5, 2), edit=describe)
    return [dcmread(path) for path in sorted(folder.iterdir())]


def legacy(images: list[FileDataset], **how: object) -> FileDataset:
    """What highdicom makes of classic slices: a Legacy Converted Enhanced CT Image."""
    highdicom = pytest.importorskip("highdicom.legacy")
    return highdicom.LegacyConvertedEnhancedCTImage(images, generate_uid(), 2, generate_uid(), 1, **how)


def saved(image: FileDataset, folder: Path, name: str = "enhanced") -> Path:
    folder.mkdir(exist_ok=True)
    image.save_as(folder / name, enforce_file_format=True)
    return folder


def assert_same(series: DicomSeries, expected: DicomSeries) -> None:
    np.testing.assert_array_equal(series.geometry.affine, expected.geometry.affine)
    np.testing.assert_array_equal(whole(series), whole(expected))
    box = Box(start=np.array([2, 3, 1]), stop=np.array([9, 7, 3]))
    np.testing.assert_array_equal(series.read_box(box), whole(expected)[1:3, 3:7, 2:9])


def refusal(folder: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        DicomSeries.open(folder)
    assert "Doe" not in str(caught.value) and caught.value.mend
    return caught.value


# ---------------------------------------------------------------- read right


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless])
def test_legacy_converted_enhanced_ct(tmp_path: Path, syntax: str) -> None:
    stored = np.random.default_rng(2).integers(0, 4000, (4, 36, 40)).astype(np.uint16)  # JPEG 2000 wants 32 at least
    images = classic(tmp_path / "classic", stored)
    file = saved(legacy(images, transfer_syntax_uid=syntax), tmp_path / "enhanced")
    assert_same(DicomSeries.open(file), DicomSeries.open(tmp_path / "classic"))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), [3, 0, 6, 1, 5, 2, 4]])
def test_frames_in_any_order(tmp_path: Path, order: list[int], syntax: str) -> None:
    image = enhanced(classic(tmp_path / "classic"), list(order))
    image.file_meta.TransferSyntaxUID = syntax
    image.save_as(tmp_path / "file", enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian)
    series, expected = open_volume(tmp_path / "file"), DicomSeries.open(tmp_path / "classic")
    assert isinstance(series, DicomSeries)
    assert_same(series, expected)
    frames = [instance.frame for instance in series.instances]
    assert frames == [list(order).index(z) + 1 for z in range(7)]
    assert {instance.sop_instance_uid for instance in series.instances} == {image.SOPInstanceUID}
    assert series.scanner == {
        "Manufacturer": "MAKER",
        "ManufacturerModelName": "MODEL",
        "ConvolutionKernel": "",
        "SliceThickness": "99.5",
    }
    assert (series.study_uid, series.frame_of_reference) == ("1.2.3", expected.frame_of_reference)


def test_a_slope_that_all_frames_share(tmp_path: Path) -> None:
    image = enhanced(classic(tmp_path / "classic"))
    group = deepcopy(image.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence)
    group[0].RescaleSlope, group[0].RescaleIntercept = 2, -100
    image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = group
    for frame in image.PerFrameFunctionalGroupsSequence:
        del frame.PixelValueTransformationSequence
    np.testing.assert_array_equal(whole(DicomSeries.open(saved(image, tmp_path / "e"))), STORED.astype(int) * 2 - 100)


def test_parts_of_a_concatenation_and_files_of_one_series_are_joined(tmp_path: Path) -> None:
    images = classic(tmp_path / "classic")
    uid = generate_uid()
    for number, order in enumerate(([4, 5, 6], [0, 1], [2, 3])):
        part = enhanced(images, order)
        part.ConcatenationUID, part.InConcatenationNumber, part.InConcatenationTotalNumber = uid, number + 1, 3
        saved(part, tmp_path / "parts", f"{number}")
        plain = enhanced(images, order)
        saved(plain, tmp_path / "files", f"{number}")
    expected = DicomSeries.open(tmp_path / "classic")
    assert_same(DicomSeries.open(tmp_path / "parts"), expected)
    assert_same(DicomSeries.open(tmp_path / "files"), expected)
    (tmp_path / "parts" / "0").unlink()
    error = refusal(tmp_path / "parts")
    assert error.code == "SERIES_UNEVEN" and "Part 1 of 3" in error.what


def test_localizers_among_the_frames_are_passed_over(tmp_path: Path) -> None:
    images = classic(tmp_path / "classic")
    image = enhanced([*images, images[0]])
    scout = image.PerFrameFunctionalGroupsSequence[7]
    scout.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    scout.PlaneOrientationSequence = [Dataset()]
    scout.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    assert_same(DicomSeries.open(saved(image, tmp_path / "e")), DicomSeries.open(tmp_path / "classic"))


def test_the_geometry_is_learnt_without_pixel_data(tmp_path: Path) -> None:
    image = enhanced(classic(tmp_path / "classic"))
    folder = saved(image, tmp_path / "e")
    path = folder / "enhanced"
    path.write_bytes(path.read_bytes()[: -STORED.nbytes + 100])
    series = DicomSeries.open(folder)
    assert series.geometry.shape.tolist() == [11, 9, 7]
    with pytest.raises(SeriesError) as caught:
        whole(series)
    assert caught.value.code == "PIXELS_TRUNCATED"


def test_the_same_file_twice_counts_once(tmp_path: Path) -> None:
    image = enhanced(classic(tmp_path / "classic"))
    saved(image, tmp_path / "e", "a")
    image.PatientID = "another"  # not the same bytes, so that frames are compared
    saved(image, tmp_path / "e", "b")
    assert_same(DicomSeries.open(tmp_path / "e"), DicomSeries.open(tmp_path / "classic"))


# ---------------------------------------------------------------- refused


def test_time_points_at_one_place(tmp_path: Path) -> None:
    images = classic(tmp_path / "classic")
    image = enhanced([*images, *images])
    error = refusal(saved(image, tmp_path / "e"))
    assert error.code == "SERIES_DUPLICATE" and "(frame 1)" in error.what and "7 such pairs" in error.what


def test_two_stacks_of_different_orientation(tmp_path: Path) -> None:
    image = enhanced(classic(tmp_path / "classic"))
    frame = image.PerFrameFunctionalGroupsSequence[4]
    frame.PlaneOrientationSequence = [Dataset()]
    frame.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    error = refusal(saved(image, tmp_path / "e"))
    assert error.code == "SERIES_MIXED" and "(frame 5)" in error.what


def without_positions(image: FileDataset) -> None:
    del image.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def without_slope(image: FileDataset) -> None:
    del image.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence
    image.RescaleSlope, image.RescaleIntercept = 1, 0  # where an enhanced CT does not have them


def without_spacing(image: FileDataset) -> None:
    del image.SharedFunctionalGroupsSequence


def with_other_units(image: FileDataset) -> None:
    image.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence[0].RescaleType = "ED"


def with_fewer_frames(image: FileDataset) -> None:
    image.NumberOfFrames = 6


def without_frames(image: FileDataset) -> None:
    del image.PerFrameFunctionalGroupsSequence


def without_their_number(image: FileDataset) -> None:
    del image.NumberOfFrames


def as_scouts(image: FileDataset) -> None:
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]


def with_a_gap(image: FileDataset) -> None:
    as_scouts(image)
    for number in (0, 1, 2, 4, 5, 6):
        image.PerFrameFunctionalGroupsSequence[number].CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY"]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (without_positions, "TAG_MISSING"),
        (without_slope, "TAG_MISSING"),
        (without_spacing, "TAG_MISSING"),
        (without_their_number, "TAG_MISSING"),
        (with_other_units, "NOT_HOUNSFIELD"),
        (with_fewer_frames, "TAG_INVALID"),
        (without_frames, "TAG_INVALID"),
        (as_scouts, "NOT_CT"),
        (with_a_gap, "SERIES_UNEVEN"),
    ],
)
def test_enhanced_ct_that_is_refused(tmp_path: Path, edit: Callable[[FileDataset], None], code: str) -> None:
    image = enhanced(classic(tmp_path / "classic"))
    edit(image)
    assert refusal(saved(image, tmp_path / "e")).code == code


def test_several_frames_in_a_classic_file(tmp_path: Path) -> None:
    def claim(number: int, image: FileDataset) -> None:
        image.NumberOfFrames = 2
        image.PixelData += image.PixelData

    error = refusal(write_series(tmp_path, STORED, edit=claim))
    assert error.code == "TAG_INVALID" and "NumberOfFrames" in error.what


def test_a_single_frame_said_to_be_one_is_a_classic_slice(tmp_path: Path) -> None:
    def say(number: int, image: FileDataset) -> None:
        image.NumberOfFrames = 1

    np.testing.assert_array_equal(whole(DicomSeries.open(write_series(tmp_path, STORED, edit=say))), STORED)
