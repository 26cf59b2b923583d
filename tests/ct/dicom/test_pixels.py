"""What stored numbers mean: rescale, padding, photometric interpretation, and codestreams that contradict headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import ct_slice
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from noduleserve.ct.dicom.codestream import Codestream
from noduleserve.ct.dicom.decoders import numbers as numbers_of
from noduleserve.ct.dicom.fragments import PixelsDamaged
from noduleserve.ct.dicom.header import read_header
from noduleserve.ct.dicom.pixels import SlicePixels
from noduleserve.errors import SeriesError

Edit = Callable[[FileDataset], None]


def described(path: Path, image: FileDataset) -> SlicePixels:
    image.SeriesInstanceUID = "1.2.3"
    image.save_as(path / "a.dcm", enforce_file_format=True)
    header = read_header(path / "a.dcm")
    assert header is not None
    return SlicePixels.of(header)


def whole(pixels: SlicePixels) -> NDArray[np.int16]:
    return pixels.read_hounsfield(slice(0, pixels.rows), slice(0, pixels.columns))


def refusal(path: Path, image: FileDataset) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        whole(described(path, image))
    assert "a.dcm" in caught.value.what and caught.value.mend and "Doe" not in str(caught.value)
    return caught.value


def picture(*, signed: bool = False, high: int = 4096) -> NDArray[np.int16]:
    low = -2000 if signed else 0
    return np.random.default_rng(3).integers(low, high, (40, 48)).astype("int16" if signed else "uint16")


# ---------------------------------------------------------------- rescale and units


def test_rescale_known_from_elsewhere_goes_before_the_header(tmp_path: Path) -> None:
    stored = picture()
    header = described(tmp_path, ct_slice(stored)).header
    pixels = SlicePixels.of(header, slope=0.5, intercept=-10.0)
    np.testing.assert_array_equal(whole(pixels), np.rint(stored * 0.5 - 10))


def test_rescale_known_from_elsewhere_need_not_be_in_the_header(tmp_path: Path) -> None:
    image = ct_slice(picture())
    del image.RescaleSlope, image.RescaleIntercept
    with pytest.raises(SeriesError, match="TAG_MISSING"):
        described(tmp_path, image)
    header = read_header(tmp_path / "a.dcm")
    assert header is not None
    np.testing.assert_array_equal(whole(SlicePixels.of(header, 1.0, -1024.0)), picture().astype(int) - 1024)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_missing_rescale(tmp_path: Path, keyword: str) -> None:
    image = ct_slice(picture())
    delattr(image, keyword)
    error = refusal(tmp_path, image)
    assert error.code == "TAG_MISSING" and keyword in error.what


@pytest.mark.parametrize("kind", ["HU", "US"])
def test_units_that_are_hounsfield_units(tmp_path: Path, kind: str) -> None:
    image = ct_slice(picture())
    image.RescaleType = kind
    np.testing.assert_array_equal(whole(described(tmp_path, image)), picture())


@pytest.mark.parametrize("kind", ["HU_MOD", "Z_EFF", "ED", "PCT"])
def test_units_that_are_none(tmp_path: Path, kind: str) -> None:
    image = ct_slice(picture())
    image.RescaleType = kind
    assert refusal(tmp_path, image).code == "NOT_HOUNSFIELD"


@pytest.mark.parametrize("undefined_length", [False, True])
@pytest.mark.parametrize("with_rescale", [False, True])
def test_a_modality_lut(tmp_path: Path, with_rescale: bool, undefined_length: bool) -> None:
    image, lut = ct_slice(picture()), Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType, lut.LUTData = [2, 0, 16], "HU", [0, 1]
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    image.ModalityLUTSequence = Sequence([lut])
    image["ModalityLUTSequence"].is_undefined_length = undefined_length
    if not with_rescale:
        del image.RescaleSlope, image.RescaleIntercept
    error = refusal(tmp_path, image)
    assert error.code == "NOT_HOUNSFIELD" and "Modality LUT" in error.what


def test_monochrome1_turns_the_picture_round_and_not_the_numbers(tmp_path: Path) -> None:
    image = ct_slice(picture())
    image.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_array_equal(whole(described(tmp_path, image)), picture())


def test_indices_into_a_palette_are_no_hounsfield_units(tmp_path: Path) -> None:
    image = ct_slice(picture())
    image.PhotometricInterpretation = "PALETTE COLOR"
    assert refusal(tmp_path, image).code == "NOT_HOUNSFIELD"


@pytest.mark.parametrize("bits", [1, 12, 24, 64])
def test_bits_allocated_that_nobody_stores_ct_in(tmp_path: Path, bits: int) -> None:
    image = ct_slice(picture())
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, 1, 0
    assert refusal(tmp_path, image).code == "TAG_INVALID"


# ---------------------------------------------------------------- padding


def padded(
    stored: NDArray, value: int, limit: int | None = None, intercept: int = -1024, slope: float = 1, bits: int = 16
) -> FileDataset:
    image = ct_slice(stored)
    image.add_new("PixelPaddingValue", "US", value)
    if limit is not None:
        image.add_new("PixelPaddingRangeLimit", "US", limit)
    image.RescaleIntercept, image.RescaleSlope = intercept, slope
    image.BitsStored, image.HighBit = bits, bits - 1
    return image


def test_padding_read_with_the_other_sign_becomes_air(tmp_path: Path) -> None:
    """-2000 in unsigned words is 63536: far above metal."""
    stored = picture()
    stored[:5] = 63536
    expected = stored.astype(int) - 1024
    expected[:5] = -1024
    pixels = described(tmp_path, padded(stored, 63536))
    np.testing.assert_array_equal(whole(pixels), expected)
    np.testing.assert_array_equal(pixels.read_hounsfield(slice(3, 9), slice(2, 7)), expected[3:9, 2:7])


def test_padding_in_bits_that_are_not_stored_becomes_air(tmp_path: Path) -> None:
    """The low 12 bits of 63536 are 2096: 1072 HU, which would pass for bone."""
    stored = picture()
    stored[:5] = 63536
    expected = stored.astype(int) - 1024
    expected[:5] = -1024
    np.testing.assert_array_equal(whole(described(tmp_path, padded(stored, 63536, bits=12))), expected)


def test_padding_that_is_as_low_as_air_stays_what_it_is(tmp_path: Path) -> None:
    stored = picture(signed=True)
    stored[:5] = -2000
    pixels = described(tmp_path, padded(stored, 63536, intercept=0))
    assert pixels.padding is None
    np.testing.assert_array_equal(whole(pixels), stored)


@pytest.mark.parametrize("value", [0, 30, 1024, 3000, 4095])
def test_padding_that_could_be_tissue_is_not_touched(tmp_path: Path, value: int) -> None:
    stored = picture()
    stored[:5] = value
    np.testing.assert_array_equal(whole(described(tmp_path, padded(stored, value))), stored.astype(int) - 1024)


def test_metal_is_no_padding(tmp_path: Path) -> None:
    stored = np.full((4, 4), 20000, np.uint16)
    assert (whole(described(tmp_path, padded(stored, 63536))) == 18976).all()


@pytest.mark.parametrize("ends", [(63000, 63999), (63999, 63000)])
def test_a_range_of_padding(tmp_path: Path, ends: tuple[int, int]) -> None:
    stored = np.array([[62999, 63000, 63500, 63999, 64000, 100]], np.uint16)
    expected = [[32767, -1024, -1024, -1024, 32767, -924]]  # what is not in the range is clipped into int16
    assert whole(described(tmp_path, padded(stored, ends[0], ends[1]))).tolist() == expected


def test_of_a_range_through_zero_only_the_ends_count(tmp_path: Path) -> None:
    stored = np.array([[65526, 10, 0, 30000, 65535]], np.uint16)
    found = whole(described(tmp_path, padded(stored, 65526, 10))).tolist()
    assert found == [[-1024, -1014, -1024, 28976, 32767]]


# ---------------------------------------------------------------- codestreams that contradict their header


def compressed(stored: NDArray, syntax: UID, bits: int, signed: bool, **how: object) -> FileDataset:
    """A slice whose codestream has `bits` and a sign or none, under a header that can be changed afterwards."""
    data = get_encoder(syntax).encode(
        stored.tobytes(),
        encoding_plugin="pyjpegls" if "LS" in syntax.name else "pylibjpeg",
        rows=stored.shape[0],
        columns=stored.shape[1],
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=bits,
        pixel_representation=int(signed),
        photometric_interpretation="MONOCHROME2",
        **how,
    )
    image = ct_slice(stored)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([data])
    image["PixelData"].is_undefined_length, image["PixelData"].VR = True, "OB"
    return image


def header_says(image: FileDataset, bits: int, signed: bool) -> FileDataset:
    image.BitsStored, image.HighBit, image.PixelRepresentation = bits, bits - 1, int(signed)
    return image


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_numbers_that_were_compressed_as_unsigned_ones(tmp_path: Path, bits: int) -> None:
    stored = picture(signed=True, high=2000)
    words = (stored.view(np.uint16) & ((1 << bits) - 1)).astype(np.uint16)
    image = header_says(compressed(words, JPEG2000Lossless, bits, signed=False), bits, signed=True)
    np.testing.assert_array_equal(whole(described(tmp_path, image)), stored)


def test_unsigned_numbers_that_were_compressed_as_signed_ones(tmp_path: Path) -> None:
    stored = picture(high=65536)
    image = header_says(compressed(stored.view(np.int16), JPEG2000Lossless, 16, signed=True), 16, signed=False)
    image.RescaleIntercept = -32768
    np.testing.assert_array_equal(whole(described(tmp_path, image)), stored.astype(int) - 32768)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("signed", [False, True])
def test_a_codestream_of_more_bits_than_the_header_says(tmp_path: Path, syntax: UID, signed: bool) -> None:
    """As many encoders write 12 of 16 bits; whether they fill up the sign or not, the 12 bits are the same."""
    stored = picture(signed=signed, high=2000)
    for words in (stored, (stored.view(np.uint16) & 0xFFF).astype(stored.dtype)):
        image = header_says(compressed(words, syntax, 16, signed=signed), 12, signed)
        np.testing.assert_array_equal(whole(described(tmp_path, image)), stored)


def test_a_codestream_of_fewer_bits_than_the_header_says(tmp_path: Path) -> None:
    image = header_says(compressed(picture(), JPEG2000Lossless, 12, signed=False), 16, signed=False)
    np.testing.assert_array_equal(whole(described(tmp_path, image)), picture())
    image = header_says(compressed(picture(high=2000), JPEG2000Lossless, 12, signed=False), 16, signed=True)
    np.testing.assert_array_equal(whole(described(tmp_path, image)), picture(high=2000))


def test_a_sign_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    """3000 in 12 bits is 3000 or -1096: the header has 16 signed bits, the codestream 12 unsigned ones."""
    image = header_says(compressed(picture(), JPEG2000Lossless, 12, signed=False), 16, signed=True)
    error = refusal(tmp_path, image)
    assert error.code == "PIXELS_UNREADABLE" and "sign" in error.what


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_signed_numbers_that_lossy_compression_may_have_turned_round_are_refused(tmp_path: Path, syntax: UID) -> None:
    how = {"j2k_cr": [4]} if syntax == JPEG2000 else {"jls_error": 2}
    words = picture()
    words[:10:2], words[1:10:2] = 0x7FF, 0x800  # the highest and the lowest number of 12 bits
    image = header_says(compressed(words, syntax, 12, signed=False, **how), 12, signed=True)
    error = refusal(tmp_path, image)
    assert error.code == "PIXELS_UNREADABLE" and "sign" in error.what


@pytest.mark.parametrize(
    ("stream", "header", "word", "number"),
    [
        ((12, False, 2), (12, 11, True), 0xF00, -256),
        ((12, False, 2), (12, 11, True), 0x7FD, 2045),
        ((12, False, 2), (12, 11, True), 0x7FE, None),
        ((12, False, 2), (12, 11, True), 0x801, None),
        ((12, False, 2), (12, 11, True), 0x802, -2046),
        ((12, False, None), (12, 11, True), 0xF00, None),
        ((12, False, None), (12, 11, True), 0x0F0, 0xF0),
        ((16, False, 2), (12, 11, True), 0x0FFF, None),
        ((16, True, None), (12, 11, True), 0x0805, 2053),  # past the bits stored, as lossy coding may: no wrapping
        ((16, False, None), (12, 11, False), 0x1003, 4099),
        ((16, False, None), (12, 15, False), 0x0100, None),
        ((14, False, 0), (12, 15, False), 0x0100, None),
        ((16, False, 0), (12, 15, False), 0x0107, 16),
        ((16, True, 0), (16, 15, False), 0xFFFF, 65535),
        ((16, True, None), (16, 15, False), 0xFFFF, None),
        ((12, True, 0), (16, 15, False), 0xFFFF, None),
        ((12, True, 0), (16, 15, True), 0xFFFF, -1),
    ],
)
def test_what_a_header_makes_of_a_codestream(
    stream: tuple[int, bool, int | None], header: tuple[int, int, bool], word: int, number: int | None
) -> None:
    precision, signed, near = stream
    codestream = Codestream(b"", 1, 1, precision, signed, near)
    words = np.array([[word]], np.uint16)
    if number is None:
        with pytest.raises(PixelsDamaged):
            numbers_of(words, codestream, *header)
    else:
        assert numbers_of(words, codestream, *header).tolist() == [[number]]


# ---------------------------------------------------------------- what is not read


def test_a_compression_that_nobody_stores_ct_in(tmp_path: Path) -> None:
    image = compressed(picture(), JPEG2000Lossless, 12, signed=False)
    image.file_meta.TransferSyntaxUID = MPEG2MPML
    error = refusal(tmp_path, image)
    assert error.code == "DECODER_MISSING" and "MPEG2" in error.what and "gdcmconv --raw" in error.mend
