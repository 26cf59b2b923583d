"""What folders from PACS, discs and desktops hold beside the slices, and slices that are there twice."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import ct_slice, write_series
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

STORED = np.random.default_rng(4).integers(-1000, 400, (5, 6, 7)).astype(np.int16)


def whole(series: DicomSeries) -> NDArray[np.int16]:
    return series.read_box(Box(start=np.zeros(3, np.int64), stop=series.geometry.shape))


def assert_read(folder: Path) -> None:
    np.testing.assert_array_equal(whole(DicomSeries.open(folder)), STORED)


def refusal(folder: Path, series_uid: str = "") -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        DicomSeries.open(folder, series_uid)
    assert "Doe" not in str(caught.value) and caught.value.what and caught.value.mend
    return caught.value


# ---------------------------------------------------------------- what lies beside the slices


def beside(folder: Path, name: str, edit: Callable[[FileDataset], None], *, series_uid: str = "1.2.9") -> Path:
    """A further object of the same study."""
    image = ct_slice(STORED[0])
    image.SeriesInstanceUID = series_uid
    edit(image)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.save_as(folder / name, enforce_file_format=True)
    return folder / name


@pytest.mark.parametrize(
    "sop_class",
    [ComprehensiveSRStorage, SegmentationStorage, RTStructureSetStorage, SecondaryCaptureImageStorage],
)
@pytest.mark.parametrize("long", [False, True])
def test_other_objects_of_the_study_are_passed_over(tmp_path: Path, sop_class: str, long: bool) -> None:
    write_series(tmp_path, STORED)

    def become(image: FileDataset) -> None:
        image.SOPClassUID = sop_class
        image.Modality = "CT"
        if long:  # a header beyond the bytes that are read at first
            image.add_new(0x00091001, "OB", b"\0" * 100_000)
            image.add_new(0x00090010, "LO", "X")

    beside(tmp_path, "other", become)
    beside(tmp_path, "other.dcm", become, series_uid="1.2.3.4")
    assert_read(tmp_path)


def test_dose_screens_stored_as_ct_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)

    def screen(image: FileDataset) -> None:
        image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        del image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing

    beside(tmp_path, "dose", screen)
    assert_read(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        path.unlink()
    assert refusal(tmp_path).code == "TAG_MISSING"


def test_a_localizer_within_the_series_is_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)

    def scout(image: FileDataset) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]
        image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    beside(tmp_path, "scout", scout, series_uid="1.2.3.4")
    assert_read(tmp_path)


def test_localizers_alone_are_no_series(tmp_path: Path) -> None:
    def scout(number: int, image: FileDataset) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    error = refusal(write_series(tmp_path, STORED, edit=scout))
    assert error.code == "NOT_CT" and "5 x CT Image Storage (localizer)" in error.what


def test_a_disc_with_a_dicomdir(tmp_path: Path) -> None:
    write_series(tmp_path / "files", STORED, edit=for_a_disc)
    disc = FileSet()
    for path in sorted((tmp_path / "files").iterdir()):
        disc.add(path)
    disc.write(tmp_path / "disc")
    assert (tmp_path / "disc" / "DICOMDIR").is_file()
    assert_read(tmp_path / "disc")


def for_a_disc(number: int, image: FileDataset) -> None:
    image.StudyInstanceUID, image.StudyID, image.SeriesNumber = "1.2.3", "1", 1
    image.StudyDate, image.StudyTime, image.AccessionNumber = "20200101", "120000", ""


def test_subfolders_hidden_files_and_notes(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        folder = tmp_path / f"study {number % 2}" / "deeper"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"IM{number}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.dcm").write_bytes(b"not DICOM")
    (tmp_path / "._IM0.dcm").write_bytes(b"\0" * 200)
    (tmp_path / "notes.txt").write_text("a note longer than a preamble " * 10)
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + b"\0" * 600)
    assert_read(tmp_path)


def test_links_and_pipes(tmp_path: Path) -> None:
    write_series(tmp_path / "store", STORED)
    (tmp_path / "links").mkdir()
    for path in sorted((tmp_path / "store").iterdir()):
        (tmp_path / "links" / path.name).symlink_to(path)
    os.mkfifo(tmp_path / "links" / "pipe.dcm")  # opening it would wait for ever
    (tmp_path / "links" / "round").symlink_to(tmp_path / "links", target_is_directory=True)
    assert_read(tmp_path / "links")
    (tmp_path / "store" / "004.dcm").unlink()
    error = refusal(tmp_path / "links")
    assert error.code == "FILE_UNREADABLE" and "004.dcm" in error.what


@pytest.mark.parametrize("content", [b"", b"a text " * 50, b"\0" * 300])
def test_a_damaged_file_called_dcm_refuses_the_series(tmp_path: Path, content: bytes) -> None:
    write_series(tmp_path, STORED)
    (tmp_path / "other").write_bytes(content)  # which may be anything
    assert_read(tmp_path)
    (tmp_path / "005.DCM").write_bytes(content)
    error = refusal(tmp_path)
    assert error.code == "FILE_UNREADABLE" and "005.DCM" in error.what


@pytest.mark.parametrize("name", ["005", "005.dcm"])
def test_dicom_that_does_not_say_what_it_is(tmp_path: Path, name: str) -> None:
    write_series(tmp_path, STORED)
    (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    error = refusal(tmp_path)
    assert error.code == "TAG_MISSING" and f"{name} has no SOPClassUID" in error.what


# ---------------------------------------------------------------- several series


def test_one_of_several_series_is_chosen_by_its_uid(tmp_path: Path) -> None:
    def thin(number: int, image: FileDataset) -> None:
        image.SliceThickness, image.ConvolutionKernel = 1.25, "LUNG"

    write_series(tmp_path / "a", STORED, series_uid="1.2.1", edit=thin)
    write_series(tmp_path / "b", STORED[:3], series_uid="1.2.2")
    error = refusal(tmp_path)
    assert error.code == "SERIES_AMBIGUOUS"
    assert "1.2.1 (5 files, slices of 1.25 mm, kernel LUNG), 1.2.2 (3 files)" in error.what
    np.testing.assert_array_equal(whole(DicomSeries.open(tmp_path, "1.2.2")), STORED[:3])
    np.testing.assert_array_equal(whole(DicomSeries.open(tmp_path, "1.2.1")), STORED)
    error = refusal(tmp_path, "1.2.3")
    assert error.code == "SERIES_NOT_IN_FOLDER" and "1.2.3, but 1.2.1 (5 files" in error.what


def test_many_series_are_counted(tmp_path: Path) -> None:
    for number in range(10):
        beside(tmp_path, f"{number}", lambda image: None, series_uid=f"1.2.{number}")
    error = refusal(tmp_path)
    assert error.code == "SERIES_AMBIGUOUS" and "10 CT series" in error.what and error.what.endswith(", 2 more.")


# ---------------------------------------------------------------- data sets without a preamble


def bare(path: Path, syntax: UID, keep_meta: bool) -> None:
    """Write a file again as some PACS do: without the preamble, with or without the meta information."""
    image = dcmread(path)
    data = path.read_bytes()[128 + 4 :]
    assert image.file_meta.TransferSyntaxUID == syntax
    meta = 12 + image.file_meta.FileMetaInformationGroupLength
    path.write_bytes(data if keep_meta else data[meta:])


def with_group_length(number: int, image: FileDataset) -> None:
    image.add_new(0x00080000, "UL", 8 + 18)
    image.SpecificCharacterSet = "ISO_IR 100"


def with_a_long_sequence(number: int, image: FileDataset) -> None:
    """Of undefined length, so that pydicom reads the header."""
    image.ReferencedImageSequence = [FileDataset("", {})]
    image.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2"
    image["ReferencedImageSequence"].is_undefined_length = True


@pytest.mark.parametrize("edit", [lambda number, image: None, with_group_length, with_a_long_sequence])
@pytest.mark.parametrize("keep_meta", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_data_sets_without_a_preamble(
    tmp_path: Path, suffix: str, syntax: UID, keep_meta: bool, edit: Callable[[int, FileDataset], None]
) -> None:
    names = [f"IM{number}{suffix}" for number in range(5)]
    write_series(tmp_path, STORED, syntax=syntax, names=names, edit=edit)
    for path in tmp_path.iterdir():
        bare(path, syntax, keep_meta)
    assert_read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00" * 200,
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"text" * 50,
        b"\x08\x00\x16\x00UI\x08\x00no UID !" + b"\0" * 100,
        b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0" + b"\0" * 100,
        b"1.2.840.10008.5.1.4.1.1.2 " * 20,
        bytes(range(256)) * 3,
    ],
)
def test_what_only_begins_like_a_data_set_is_none(tmp_path: Path, content: bytes) -> None:
    write_series(tmp_path, STORED)
    (tmp_path / "other").write_bytes(content)
    assert_read(tmp_path)


def test_a_bare_data_set_of_another_kind_is_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)

    def become(image: FileDataset) -> None:
        image.SOPClassUID = ComprehensiveSRStorage

    bare(beside(tmp_path, "report", become), ExplicitVRLittleEndian, keep_meta=False)
    assert_read(tmp_path)


# ---------------------------------------------------------------- slices that are there twice


def test_the_same_files_twice_count_once(tmp_path: Path) -> None:
    write_series(tmp_path / "a", STORED)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    series = DicomSeries.open(tmp_path)
    assert series.geometry.shape.tolist() == [7, 6, 5] and len(series.instances) == 5
    np.testing.assert_array_equal(whole(series), STORED)


def test_one_export_plain_and_one_compressed_are_the_same(tmp_path: Path) -> None:
    write_series(tmp_path / "a", STORED)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        image = dcmread(path)
        image.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
        image.save_as(path)
    assert_read(tmp_path)


def other_pixels(image: FileDataset) -> None:
    image.PixelData = image.PixelData[:-2] + b"\x01\x02"


def other_rescale(image: FileDataset) -> None:
    image.RescaleIntercept = -1024


def other_place(image: FileDataset) -> None:
    image.ImagePositionPatient = [0, 0, 77]


def other_orientation(image: FileDataset) -> None:
    image.ImageOrientationPatient = [0, 1, 0, -1, 0, 0]


def other_spacing(image: FileDataset) -> None:
    image.PixelSpacing = [1, 1.5]


def other_size(image: FileDataset) -> None:
    image.Rows, image.Columns = image.Columns, image.Rows


@pytest.mark.parametrize(
    "edit", [other_pixels, other_rescale, other_place, other_orientation, other_spacing, other_size]
)
def test_one_uid_with_different_content_is_refused(tmp_path: Path, edit: Callable[[FileDataset], None]) -> None:
    write_series(tmp_path, STORED)
    image = dcmread(tmp_path / "002.dcm")
    edit(image)
    image.save_as(tmp_path / "copy.dcm")
    error = refusal(tmp_path)
    assert error.code == "SERIES_DUPLICATE" and "002.dcm and copy.dcm" in error.what and "UID" in error.what


def test_two_instances_at_one_position_are_refused_even_where_they_are_equal(tmp_path: Path) -> None:
    write_series(tmp_path, STORED)
    image = dcmread(tmp_path / "002.dcm")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.save_as(tmp_path / "copy.dcm")
    error = refusal(tmp_path)
    assert error.code == "SERIES_DUPLICATE" and "002.dcm and copy.dcm lie at the same position" in error.what


def test_slices_without_an_instance_uid_are_no_copies_of_one_another(tmp_path: Path) -> None:
    def remove(number: int, image: FileDataset) -> None:
        del image.SOPInstanceUID

    write_series(tmp_path, STORED, edit=remove)
    for path in tmp_path.iterdir():
        bare(path, ExplicitVRLittleEndian, keep_meta=False)
    series = DicomSeries.open(tmp_path)
    np.testing.assert_array_equal(whole(series), STORED)
    assert {instance.sop_instance_uid for instance in series.instances} == {""}


# ---------------------------------------------------------------- what else a series says


def test_facts_of_the_series(tmp_path: Path) -> None:
    def describe(number: int, image: FileDataset) -> None:
        image.StudyInstanceUID, image.Manufacturer, image.ConvolutionKernel = "1.2.3", "MAKER ", "B30f"
        image.SliceThickness = "2.50"

    names = ["e", "c", "a", "b", "d"]
    series = DicomSeries.open(write_series(tmp_path, STORED, names=names, edit=describe))
    images = [dcmread(tmp_path / name) for name in names]
    assert [instance.sop_instance_uid for instance in series.instances] == [image.SOPInstanceUID for image in images]
    assert {(i.sop_class_uid, i.frame) for i in series.instances} == {("1.2.840.10008.5.1.4.1.1.2", None)}
    assert series.frame_of_reference == images[0].FrameOfReferenceUID
    assert (series.study_uid, series.series_uid) == ("1.2.3", "1.2.3.4")
    assert series.scanner == {
        "Manufacturer": "MAKER",
        "ManufacturerModelName": "",
        "ConvolutionKernel": "B30f",
        "SliceThickness": "2.50",
    }


@pytest.mark.parametrize("option", ["--length-undefined", "--group-length-create", "--padding-create=512 512"])
def test_files_that_dcmtk_writes(tmp_path: Path, option: str) -> None:
    if shutil.which("dcmconv") is None:
        pytest.skip("dcmtk is not installed")
    write_series(tmp_path / "in", STORED, edit=for_a_disc)
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "in").iterdir():
        line = ["dcmconv", *option.replace("=", " ").split(), path, tmp_path / "out" / path.stem]
        subprocess.run(line, check=True, capture_output=True)
    assert_read(tmp_path / "out")


@pytest.mark.parametrize("syntax", ["--write-xfer-little", "--write-xfer-implicit"])
def test_bare_data_sets_that_dcmtk_writes(tmp_path: Path, syntax: str) -> None:
    if shutil.which("dcmconv") is None:
        pytest.skip("dcmtk is not installed")
    write_series(tmp_path / "in", STORED)
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "in").iterdir():
        line = ["dcmconv", "--write-dataset", syntax, path, tmp_path / "out" / path.stem]
        subprocess.run(line, check=True, capture_output=True)
    assert (tmp_path / "out" / "000").read_bytes()[:2] == b"\x08\0"
    assert_read(tmp_path / "out")
