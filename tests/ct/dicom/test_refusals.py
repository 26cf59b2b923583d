"""What DicomSeries refuses, and with which code."""

from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless, MRImageStorage, RLELossless

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box


def whole(series: DicomSeries) -> Box:
    return Box(start=np.zeros(3, np.int64), stop=series.geometry.shape)


def numbers(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-2000, 3000, shape).astype(np.int16)


def refusal(folder: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        DicomSeries.open(folder)
    error = caught.value
    assert error.what and error.mend
    assert "Doe" not in str(error) and "4711" not in str(error) and str(folder) not in str(error)
    return error


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").code == "SERIES_NOT_FOUND"


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    assert refusal(tmp_path).code == "SERIES_EMPTY"


def test_a_folder_without_ct(tmp_path: Path) -> None:
    def as_mr(number: int, image: FileDataset) -> None:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage

    error = refusal(write_series(tmp_path, numbers(3, 4, 4), edit=as_mr))
    assert error.code == "NOT_CT" and "3 x MR Image Storage" in error.what


def test_two_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a", numbers(3, 4, 4), series_uid="1.2.1")
    write_series(tmp_path / "b", numbers(2, 4, 4), series_uid="1.2.2")
    error = refusal(tmp_path)
    assert error.code == "SERIES_AMBIGUOUS"
    assert "1.2.1 (3 files), 1.2.2 (2 files)" in error.what


def test_one_slice(tmp_path: Path) -> None:
    assert refusal(write_series(tmp_path, numbers(1, 4, 4))).code == "SERIES_TOO_FEW"


@pytest.mark.parametrize(
    "keyword",
    [
        "SeriesInstanceUID",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SamplesPerPixel",
        "RescaleSlope",
        "RescaleIntercept",
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_attribute(tmp_path: Path, keyword: str, empty: bool) -> None:
    def remove(number: int, image: FileDataset) -> None:
        if number == 1:
            delattr(image, keyword)
            if empty:
                setattr(image, keyword, None)

    error = refusal(write_series(tmp_path, numbers(3, 4, 4), edit=remove))
    assert error.code == "TAG_MISSING"
    assert "001.dcm" in error.what and keyword in error.what


def test_a_series_without_a_frame_of_reference_is_read(tmp_path: Path) -> None:
    def remove(number: int, image: FileDataset) -> None:
        del image.FrameOfReferenceUID

    assert DicomSeries.open(write_series(tmp_path, numbers(3, 4, 4), edit=remove)).geometry.shape[2] == 3


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", [-1, 1]),
        ("SamplesPerPixel", 3),
        ("BitsStored", 17),
        ("HighBit", 9),
        ("RescaleSlope", 0),
    ],
)
def test_an_attribute_that_makes_no_sense(tmp_path: Path, keyword: str, value: object) -> None:
    def spoil(number: int, image: FileDataset) -> None:
        setattr(image, keyword, value)

    assert refusal(write_series(tmp_path, numbers(3, 4, 4), edit=spoil)).code == "TAG_INVALID"


@pytest.mark.parametrize("text", [b"NaN ", b"abc ", b"1_0 "])
def test_a_number_that_is_none(tmp_path: Path, text: bytes) -> None:
    write_series(tmp_path, numbers(2, 4, 4))
    path = tmp_path / "001.dcm"
    data = path.read_bytes()
    slope = data.index(b"\x28\x00\x53\x10DS")  # (0028,1053) Rescale Slope, two bytes long
    path.write_bytes(data[: slope + 6] + b"\x04\0" + text + data[slope + 10 :])
    error = refusal(tmp_path)
    assert error.code == "TAG_INVALID" and "RescaleSlope" in error.what


def test_other_units(tmp_path: Path) -> None:
    def density(number: int, image: FileDataset) -> None:
        image.RescaleType = "MGML"

    assert refusal(write_series(tmp_path, numbers(2, 4, 4), edit=density)).code == "NOT_HOUNSFIELD"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [1, 1.01]),
        ("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]),
        ("FrameOfReferenceUID", "1.2.3.9"),
    ],
)
def test_mixed_slices(tmp_path: Path, keyword: str, value: object) -> None:
    def differ(number: int, image: FileDataset) -> None:
        if number == 2:
            setattr(image, keyword, value)

    error = refusal(write_series(tmp_path, numbers(4, 4, 4), edit=differ))
    assert error.code == "SERIES_MIXED" and "002.dcm" in error.what and keyword in error.what


def test_slices_of_different_size(tmp_path: Path) -> None:
    write_series(tmp_path, numbers(3, 4, 4))
    other = dcmread(tmp_path / "002.dcm")
    other.Rows, other.PixelData = 2, other.PixelData[:16]
    other.save_as(tmp_path / "002.dcm")
    error = refusal(tmp_path)
    assert error.code == "SERIES_MIXED" and "Rows" in error.what


def moved(tmp_path: Path, positions: list[tuple[float, float, float]]) -> SeriesError:
    def move(number: int, image: FileDataset) -> None:
        image.ImagePositionPatient = list(positions[number])

    return refusal(write_series(tmp_path, numbers(len(positions), 3, 3), edit=move))


def test_a_slice_beside_the_others(tmp_path: Path) -> None:
    error = moved(tmp_path, [(0, 0, z) for z in range(4)] + [(5, 0, 4)] + [(0, 0, z) for z in range(5, 8)])
    assert error.code == "SERIES_MIXED" and "004.dcm" in error.what


def test_two_slices_at_one_position(tmp_path: Path) -> None:
    error = moved(tmp_path, [(0, 0, z) for z in (0, 1, 2, 2, 3)])
    assert error.code == "SERIES_DUPLICATE" and "002.dcm and 003.dcm" in error.what


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_missing_slice(tmp_path: Path, missing: int) -> None:
    error = moved(tmp_path, [(0, 0, 2.5 * z) for z in range(10) if z != missing])
    assert error.code == "SERIES_UNEVEN" and "1 slice of 2.5 mm seem" in error.what
    assert f"{missing - 1:03}.dcm and {missing:03}.dcm" in error.what


def test_spacing_that_changes(tmp_path: Path) -> None:
    error = moved(tmp_path, [(0, 0, z) for z in (0, 1, 2, 3, 4.3, 5.6, 6.9)])
    assert error.code == "SERIES_UNEVEN" and "from 1 to 1.3 mm" in error.what


def test_a_stack_that_runs_too_far_aslant(tmp_path: Path) -> None:
    shift = np.tan(np.radians(31))
    error = moved(tmp_path, [(0, shift * z, z) for z in range(6)])
    assert error.code == "SERIES_TILTED_TOO_FAR" and "31.0 degrees" in error.what and "30 degrees" in error.what


def test_slices_too_far_apart(tmp_path: Path) -> None:
    assert moved(tmp_path, [(0, 0, 12 * z) for z in range(3)]).code == "VOXEL_TOO_LARGE"


def claiming(folder: Path, rows: int, columns: int, slices: int) -> Path:
    """A series of headers that claim slices of a size, with hardly any pixels."""

    def claim(number: int, image: FileDataset) -> None:
        image.Rows, image.Columns = rows, columns

    return write_series(folder, numbers(slices, 2, 2), edit=claim)


@pytest.mark.parametrize(("rows", "columns"), [(8193, 2), (2, 8193), (65535, 65535)])
def test_slices_larger_than_any_scanner_makes(tmp_path: Path, rows: int, columns: int) -> None:
    error = refusal(claiming(tmp_path, rows, columns, 3))
    assert error.code == "SERIES_TOO_LARGE" and "000.dcm" in error.what and f"{rows} x {columns}" in error.what


def test_a_volume_larger_than_any_scanner_makes(tmp_path: Path) -> None:
    assert DicomSeries.open(claiming(tmp_path / "fits", 8192, 8192, 64)).geometry.shape.tolist() == [8192, 8192, 64]
    assert refusal(claiming(tmp_path / "too large", 8192, 8192, 65)).code == "SERIES_TOO_LARGE"


def test_a_box_that_does_not_fit_into_memory(tmp_path: Path) -> None:
    series = DicomSeries.open(claiming(tmp_path, 8192, 8192, 9))
    with pytest.raises(SeriesError) as caught:
        series.read_box(whole(series))
    assert caught.value.code == "BOX_TOO_LARGE"


@pytest.mark.parametrize("length", [0, 100, 300, 600])
def test_a_file_that_ends_in_its_header(tmp_path: Path, length: int) -> None:
    write_series(tmp_path, numbers(3, 4, 4))
    path = tmp_path / "002.dcm"
    path.write_bytes(path.read_bytes()[:length])
    error = refusal(tmp_path)
    assert error.code in ("FILE_UNREADABLE", "TAG_MISSING", "TAG_INVALID") and "002.dcm" in error.what


def test_a_file_that_ends_in_its_pixels(tmp_path: Path) -> None:
    write_series(tmp_path, numbers(3, 8, 8))
    path = tmp_path / "001.dcm"
    path.write_bytes(path.read_bytes()[:-1])
    series = DicomSeries.open(tmp_path)
    first_rows = Box(start=np.array([0, 0, 0]), stop=np.array([8, 2, 2]))
    with pytest.raises(SeriesError) as caught:
        series.read_box(first_rows)
    assert caught.value.code == "PIXELS_TRUNCATED" and "001.dcm" in caught.value.what


def test_pixel_data_that_are_not_there(tmp_path: Path) -> None:
    def remove(number: int, image: FileDataset) -> None:
        del image.PixelData

    series = DicomSeries.open(write_series(tmp_path, numbers(2, 4, 4), edit=remove))
    with pytest.raises(SeriesError) as caught:
        series.read_box(whole(series))
    assert caught.value.code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize("syntax", ["1.2.840.113619.5.2", "1.2.3", "none"])
def test_an_encoding_that_dicom_does_not_know(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path, numbers(2, 4, 4))
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        known = b"UI\x14\x001.2.840.10008.1.2.1\0"
        assert known in data
        path.write_bytes(data.replace(known, b"UI\x14\0" + syntax.encode().ljust(20, b"\0")))
    error = refusal(tmp_path)
    assert error.code == "DECODER_MISSING" and f"({syntax})" in error.what


def test_damaged_compressed_pixels(tmp_path: Path) -> None:
    def spoil(number: int, image: FileDataset) -> None:
        image.compress(RLELossless, encoding_plugin="pydicom")
        image.PixelData = image.PixelData[:20] + b"\xff" * (len(image.PixelData) - 20)

    series = DicomSeries.open(write_series(tmp_path, numbers(2, 8, 8), edit=spoil))
    with pytest.raises(SeriesError) as caught:
        series.read_box(whole(series))
    assert caught.value.code == "PIXELS_UNREADABLE" and "000.dcm" in caught.value.what


def test_a_compression_without_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(number: int, image: FileDataset) -> None:
        image.compress(RLELossless, encoding_plugin="pydicom")
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless

    series = DicomSeries.open(write_series(tmp_path, numbers(2, 8, 8), edit=pretend))
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(SeriesError) as caught:
        series.read_box(whole(series))
    assert caught.value.code == "DECODER_MISSING" and "pip install pylibjpeg pylibjpeg-openjpeg" in caught.value.mend
