from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import AXIAL, affine_of, ct_slice, write_series
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from noduleserve.ct.dicom import header as dicom_header
from noduleserve.ct.dicom.header import read_header
from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SEEN_FROM_THE_HEAD = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def whole(series: DicomSeries) -> Box:
    return Box(start=np.zeros(3, np.int64), stop=series.geometry.shape)


def numbers(*shape: int, dtype: str = "int16") -> NDArray[np.int16]:
    low, high = (-2000, 3000) if dtype == "int16" else (0, 4000)
    return np.random.default_rng(3).integers(low, high, shape).astype(dtype)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, SEEN_FROM_THE_HEAD, OBLIQUE])
@pytest.mark.parametrize("names", [["c", "a", "d", "b"], ["0.dcm", "1.dcm", "2.dcm", "3.dcm"], list("zyxw")])
def test_files_in_any_order_and_orientation(tmp_path: Path, orientation: tuple[float, ...], names: list[str]) -> None:
    stored = numbers(4, 5, 6)
    geometry = {"orientation": orientation, "position": (-10.5, 20.25, 3), "spacing": (0.5, 0.75, 2.5)}
    series = DicomSeries.open(write_series(tmp_path, stored, names=names, **geometry))
    assert series.series_uid == "1.2.3.4"
    assert series.geometry.shape.tolist() == [6, 5, 4]
    np.testing.assert_allclose(series.geometry.affine, affine_of(**geometry), atol=1e-5)
    voxels = series.read_box(whole(series))
    assert voxels.dtype == np.int16 and voxels.flags.c_contiguous
    np.testing.assert_array_equal(voxels, stored)


def test_slices_written_from_head_to_feet_come_out_from_feet_to_head(tmp_path: Path) -> None:
    stored = numbers(4, 5, 6)

    def turn(number: int, image: FileDataset) -> None:
        image.ImagePositionPatient = [0, 0, -2 * number]

    series = DicomSeries.open(write_series(tmp_path, stored, edit=turn))
    assert series.geometry.affine[:3, 2].tolist() == [0, 0, 2] and series.geometry.affine[2, 3] == -6
    np.testing.assert_array_equal(series.read_box(whole(series)), stored[::-1])


def test_a_box_is_a_part_of_the_whole(tmp_path: Path) -> None:
    stored = numbers(6, 9, 8)
    series = DicomSeries.open(write_series(tmp_path, stored))
    box = Box(start=np.array([2, 3, 1]), stop=np.array([7, 9, 4]))
    np.testing.assert_array_equal(series.read_box(box), stored[1:4, 3:9, 2:7])


def test_only_the_slices_of_the_box_are_read(tmp_path: Path) -> None:
    stored = numbers(5, 4, 4)
    series = DicomSeries.open(write_series(tmp_path, stored))
    for number in (0, 1, 4):
        (tmp_path / f"{number:03}.dcm").unlink()
    box = Box(start=np.array([0, 0, 2]), stop=np.array([4, 4, 4]))
    np.testing.assert_array_equal(series.read_box(box), stored[2:4])
    with pytest.raises(SeriesError) as caught:
        series.read_box(whole(series))
    assert caught.value.code == "FILE_UNREADABLE" and "000.dcm" in caught.value.what


def test_a_box_beyond_the_volume_is_a_programming_error(tmp_path: Path) -> None:
    series = DicomSeries.open(write_series(tmp_path, numbers(2, 3, 3)))
    with pytest.raises(ValueError, match="beyond"):
        series.read_box(Box(start=np.array([0, 0, 0]), stop=np.array([3, 4, 2])))


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    def rounded(number: int, image: FileDataset) -> None:
        image.ImagePositionPatient = [0, 0, round(0.625 * number, 1)]

    series = DicomSeries.open(write_series(tmp_path, numbers(40, 3, 3), edit=rounded))
    assert series.geometry.spacing[2] == pytest.approx(0.625, abs=0.002)


# ---------------------------------------------------------------- encodings and stored numbers


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
    ],
)
def test_transfer_syntaxes(tmp_path: Path, syntax: str, dtype: str) -> None:
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    plain = not syntax.is_compressed or syntax.is_deflated

    def encode(number: int, image: FileDataset) -> None:
        image.RescaleIntercept = -1024
        if not plain:
            image.compress(syntax, encoding_plugin="pydicom" if syntax == RLELossless else "")

    stored = numbers(3, 20, 16, dtype=dtype)
    folder = write_series(tmp_path, stored, syntax=syntax if plain else ExplicitVRLittleEndian, edit=encode)
    series = DicomSeries.open(folder)
    np.testing.assert_array_equal(series.read_box(whole(series)), stored.astype(int) - 1024)
    box = Box(start=np.array([2, 3, 1]), stop=np.array([12, 19, 3]))
    np.testing.assert_array_equal(series.read_box(box), stored[1:3, 3:19, 2:12].astype(int) - 1024)


def test_big_endian(tmp_path: Path) -> None:
    stored = numbers(3, 4, 5)
    series = DicomSeries.open(write_series(tmp_path, stored, syntax=ExplicitVRBigEndian))
    assert series.geometry.shape.tolist() == [5, 4, 3]
    np.testing.assert_array_equal(series.read_box(whole(series)), stored)


def test_each_slice_has_its_own_rescale_and_hounsfield_units_are_rounded(tmp_path: Path) -> None:
    stored = numbers(4, 5, 6)
    slopes, intercepts = [1, 0.7, 2.5, 1.0], [-1024, 0.3, -10.25, 0.4]

    def rescale(number: int, image: FileDataset) -> None:
        image.RescaleSlope, image.RescaleIntercept = slopes[number], intercepts[number]

    series = DicomSeries.open(write_series(tmp_path, stored, edit=rescale))
    expected = stored * np.reshape(slopes, (4, 1, 1)) + np.reshape(intercepts, (4, 1, 1))
    np.testing.assert_array_equal(series.read_box(whole(series)), np.rint(expected))


def test_hounsfield_units_are_clipped_into_int16(tmp_path: Path) -> None:
    stored = np.array([[[-32768, 32767], [0, 1]]] * 2, np.int16)

    def rescale(number: int, image: FileDataset) -> None:
        image.RescaleSlope, image.RescaleIntercept = (1, -1024) if number else (4, 0)

    series = DicomSeries.open(write_series(tmp_path, stored, edit=rescale))
    assert series.read_box(whole(series)).tolist() == [
        [[-32768, 32767], [0, 4]],
        [[-32768, 31743], [-1024, -1023]],
    ]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 12, 15])
def test_bits_that_are_not_stored_do_not_count(tmp_path: Path, signed: bool, high_bit: int) -> None:
    values = np.random.default_rng(5).integers(-2048 if signed else 0, 2048 if signed else 4096, (2, 4, 4))
    shift = high_bit - 11
    litter = 0x5A5A & ~(0xFFF << shift)
    words = ((values & 0xFFF) << shift | litter).astype(np.uint16)

    def describe(number: int, image: FileDataset) -> None:
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, high_bit, int(signed)

    series = DicomSeries.open(write_series(tmp_path, words, edit=describe))
    np.testing.assert_array_equal(series.read_box(whole(series)), values)


def test_padding_stays_as_it_is_stored(tmp_path: Path) -> None:
    stored = np.full((2, 3, 3), -2000, np.int16)

    def pad(number: int, image: FileDataset) -> None:
        image.add_new("PixelPaddingValue", "SS", -2000)
        image.RescaleIntercept = -1024

    series = DicomSeries.open(write_series(tmp_path, stored, edit=pad))
    assert (series.read_box(whole(series)) == -3024).all()


# ---------------------------------------------------------------- reading headers


def ordinary(number: int, image: FileDataset) -> None:
    pass


def with_sequences(number: int, image: FileDataset) -> None:
    """Sequences, of undefined length on odd slices, that hold attributes of the same names as the image's."""
    item, inner = Dataset(), Dataset()
    inner.SOPClassUID, inner.Columns = "1.2.4", 8
    item.SOPClassUID, item.Rows, item.ImagePositionPatient = "1.2.3", 7, [9, 9, 9]
    item.PurposeOfReferenceCodeSequence = Sequence([inner, inner])
    image.ReferencedImageSequence = Sequence([item, Dataset(), item])
    for sequence in (image["ReferencedImageSequence"], item["PurposeOfReferenceCodeSequence"]):
        sequence.is_undefined_length = bool(number % 2)
    for part in (item, inner):
        part.is_undefined_length_sequence_item = bool(number % 3)


def with_a_sequence_of_unknown_kind(number: int, image: FileDataset) -> None:
    """A sequence that an explicit file calls UN and leaves without a length; its items are implicit."""
    item = b"\x08\0\x50\x11\x06\0\0\x001.2.3\0"
    block = b"\xfe\xff\0\xe0" + len(item).to_bytes(4, "little") + item
    image.add_new(0x00090010, "LO", "SOME SCANNER")
    image.add_new(0x00091001, "UN", block + b"\xfe\xff\xdd\xe0\0\0\0\0")
    image[0x00091001].is_undefined_length = True


def with_private_bytes(number: int, image: FileDataset) -> None:
    image.private_block(0x0009, "SOME SCANNER", create=True).add_new(1, "OB", b"\0" * 50_000)


def with_long_private_text(number: int, image: FileDataset) -> None:
    image.private_block(0x0009, "SOME SCANNER", create=True).add_new(1, "UN", b"x" * 1_000)


@pytest.mark.parametrize(
    "edit", [ordinary, with_sequences, with_a_sequence_of_unknown_kind, with_private_bytes, with_long_private_text]
)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_the_short_way_through_a_header_agrees_with_pydicom(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    syntax: str,
    edit: Callable[[int, FileDataset], None],
) -> None:
    stored = numbers(4, 3, 3)
    write_series(tmp_path, stored, syntax=syntax, edit=edit)
    short = [read_header(path) for path in sorted(tmp_path.iterdir())]
    series = DicomSeries.open(tmp_path)
    np.testing.assert_array_equal(series.read_box(whole(series)), stored)
    monkeypatch.setattr(dicom_header, "_walk", lambda path, start, begun: None)
    assert [read_header(path) for path in sorted(tmp_path.iterdir())] == short


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_sequences_are_stepped_over_without_pydicom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    write_series(tmp_path, numbers(6, 3, 3), syntax=syntax, edit=with_sequences)
    monkeypatch.delattr(dicom_header, "_parse")
    assert DicomSeries.open(tmp_path).geometry.shape.tolist() == [3, 3, 6]


def test_what_is_no_ct_image_is_passed_over(tmp_path: Path) -> None:
    stored = numbers(3, 4, 4)
    write_series(tmp_path / "inner", stored)
    (tmp_path / "README.txt").write_text("not DICOM")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".DS_Store.dcm").write_bytes(b"\0" * 200)
    mr, localizer = ct_slice(stored[0]), ct_slice(stored[0])
    mr.SOPClassUID = mr.file_meta.MediaStorageSOPClassUID = MRImageStorage
    mr.SeriesInstanceUID = "1.9"
    mr.save_as(tmp_path / "mr")
    localizer.ImageType, localizer.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.8"
    localizer.save_as(tmp_path / "localizer")
    series = DicomSeries.open(tmp_path)
    np.testing.assert_array_equal(series.read_box(whole(series)), stored)
