"""Every transfer syntax gives back the voxels that an encoder was given, through files as encoders write them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_writing import ct_slice
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from noduleserve.ct.dicom import decoders
from noduleserve.ct.dicom.header import read_header
from noduleserve.ct.dicom.pixels import SlicePixels

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]


@dataclass(frozen=True)
class Kind:
    """A kind of stored numbers."""

    name: str
    bits_allocated: int
    bits_stored: int
    signed: bool

    def numbers(self, *shape: int) -> NDArray[Any]:
        """Smooth with noise, as a CT, over the whole range that the bits have."""
        low = -(1 << (self.bits_stored - 1)) if self.signed else 0
        rng = np.random.default_rng(self.bits_stored)
        wave = np.sin(np.arange(np.prod(shape)) / 7).reshape(shape) + rng.normal(0, 0.02, shape)
        span = (1 << self.bits_stored) - 1
        found = np.clip(low + span * (wave + 1) / 2, low, low + span).astype(np.int64)
        found.flat[:2] = low, low + span
        return found.astype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


KINDS = [
    Kind("unsigned 12 of 16", 16, 12, False),
    Kind("signed 12 of 16", 16, 12, True),
    Kind("unsigned 16 of 16", 16, 16, False),
    Kind("signed 16 of 16", 16, 16, True),
    Kind("unsigned 8 of 8", 8, 8, False),
    Kind("signed 8 of 8", 8, 8, True),
]
U12, S12, U16, S16, U8, S8 = KINDS


def image_of(numbers: NDArray[Any], kind: Kind, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    image = ct_slice(numbers, syntax)
    image.SeriesInstanceUID = "1.2.3"
    image.BitsAllocated, image.BitsStored, image.HighBit = kind.bits_allocated, kind.bits_stored, kind.bits_stored - 1
    if kind.bits_allocated == 8:
        image["PixelData"].VR = "OB"  # as OW, big-endian files would have the bytes two and two
    if len(image.PixelData) % 2:
        image.PixelData += b"\0"
    return image


def with_frames(image: FileDataset, syntax: UID, frames: list[bytes], **how: Any) -> FileDataset:
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate(frames, **how)
    image["PixelData"].is_undefined_length, image["PixelData"].VR = True, "OB"
    image.NumberOfFrames = len(frames)
    return image


def save(image: FileDataset, path: Path) -> Path:
    image.save_as(path, enforce_file_format=True)
    return path


def read(path: Path, frame: int = 0, frames: int = 1, rows: slice | None = None) -> NDArray[np.int16]:
    header = read_header(path)
    assert header is not None
    pixels = SlicePixels.of(header, frame=frame, frames=frames)
    return pixels.read_hounsfield(rows or slice(0, pixels.rows), slice(0, pixels.columns))


def clipped(numbers: NDArray[Any]) -> NDArray[np.int16]:
    return numbers.astype(np.int64).clip(-32768, 32767).astype(np.int16)


# ---------------------------------------------------------------- encoders that pip installs


# pydicom tries others first, one of which ends the process over pictures of 8 bits
ENCODERS = {
    RLELossless: "pydicom",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}


def by_pydicom(numbers: NDArray[Any], kind: Kind, syntax: UID, **how: Any) -> FileDataset:
    image = image_of(numbers, kind)
    image.compress(syntax, encoding_plugin=ENCODERS[syntax], **how)
    return image


def htj2k(numbers: NDArray[Any], kind: Kind, syntax: UID) -> FileDataset:
    imagecodecs = pytest.importorskip("imagecodecs")
    data = bytes(imagecodecs.htj2k_encode(numbers, reversible=syntax != HTJ2K))
    return with_frames(image_of(numbers, kind), syntax, [data])


def jpeg_lossless_frame(numbers: NDArray[Any], kind: Kind, predictor: int = 1) -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    words = numbers.view(f"u{numbers.dtype.itemsize}") & ((1 << kind.bits_stored) - 1)
    encode = imagecodecs.jpeg8_encode
    return bytes(encode(words, lossless=True, predictor=predictor, bitspersample=kind.bits_stored))


def jpeg_lossless(numbers: NDArray[Any], kind: Kind, syntax: UID, predictor: int = 1) -> FileDataset:
    return with_frames(image_of(numbers, kind), syntax, [jpeg_lossless_frame(numbers, kind, predictor)])


LOSSLESS: dict[UID, Callable[..., FileDataset]] = {
    RLELossless: by_pydicom,
    JPEGLSLossless: by_pydicom,
    JPEG2000Lossless: by_pydicom,
    HTJ2KLossless: htj2k,
    HTJ2KLosslessRPCL: htj2k,
    JPEGLossless: jpeg_lossless,
    JPEGLosslessSV1: jpeg_lossless,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
def test_native(tmp_path: Path, syntax: UID, kind: Kind) -> None:
    numbers = kind.numbers(7, 9)
    path = save(image_of(numbers, kind, syntax), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path), clipped(numbers))
    np.testing.assert_array_equal(read(path, rows=slice(2, 5)), clipped(numbers[2:5]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_lossless(tmp_path: Path, syntax: UID, kind: Kind) -> None:
    numbers = kind.numbers(37, 51)
    path = save(LOSSLESS[syntax](numbers, kind, syntax), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path), clipped(numbers))
    np.testing.assert_array_equal(read(path, rows=slice(5, 30)), clipped(numbers[5:30]))


@pytest.mark.parametrize("predictor", range(1, 8))
def test_jpeg_lossless_with_every_predictor(tmp_path: Path, predictor: int) -> None:
    numbers = S16.numbers(37, 51)
    path = save(jpeg_lossless(numbers, S16, JPEGLossless, predictor), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path), numbers)


@pytest.mark.parametrize("error", [1, 3])
def test_near_lossless_jpeg_ls_as_its_decoder_gives_it(tmp_path: Path, error: int) -> None:
    jpeg_ls = pytest.importorskip("jpeg_ls")
    numbers = U12.numbers(37, 51)
    image = by_pydicom(numbers, U12, JPEGLSNearLossless, jls_error=error)
    found = read(save(image, tmp_path / "a.dcm"))
    assert 0 < np.abs(found - numbers.astype(int)).max() <= error
    np.testing.assert_array_equal(found, jpeg_ls.decode(np.frombuffer(get_frame(image.PixelData, 0), np.uint8)))


@pytest.mark.parametrize("kind", [U12, S12, U16, S16], ids=lambda kind: kind.name)
def test_lossy_jpeg_2000_is_near_the_original(tmp_path: Path, kind: Kind) -> None:
    numbers = kind.numbers(64, 80)
    image = by_pydicom(numbers, kind, JPEG2000, j2k_cr=[4])
    difference = np.abs(read(save(image, tmp_path / "a.dcm")).astype(int) - clipped(numbers))
    assert 0 < difference.max() < 0.05 * 2**kind.bits_stored


def test_lossy_htj2k_is_near_the_original(tmp_path: Path) -> None:
    numbers = U16.numbers(64, 80) // 4
    difference = np.abs(read(save(htj2k(numbers, U16, HTJ2K), tmp_path / "a.dcm")).astype(int) - numbers)
    assert 0 < difference.max() < 300


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
def test_32_bits(tmp_path: Path, syntax: UID) -> None:
    kind = Kind("signed 20 of 32", 32, 20, True)
    numbers = kind.numbers(5, 7)
    image = image_of(numbers, kind, syntax)
    image.RescaleSlope = 0.0625
    expected = np.rint(numbers * 0.0625).clip(-32768, 32767)
    np.testing.assert_array_equal(read(save(image, tmp_path / "a.dcm")), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1], ids=lambda s: s.name)
@pytest.mark.parametrize("signed", [False, True])
def test_a_high_bit_above_the_bits_stored_and_litter_around_them(tmp_path: Path, syntax: UID, signed: bool) -> None:
    kind = Kind("12 of 16", 16, 12, signed)
    numbers = kind.numbers(9, 11)
    words = ((numbers.view(np.uint16) & 0xFFF) << 3 | 0x8005).astype(np.uint16)
    image = image_of(words, U16)
    if syntax == JPEGLosslessSV1:
        image = jpeg_lossless(words, U16, syntax)
    elif syntax == RLELossless:
        image.compress(syntax, encoding_plugin=ENCODERS[syntax])
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 14, int(signed)
    np.testing.assert_array_equal(read(save(image, tmp_path / "a.dcm")), numbers)


# ---------------------------------------------------------------- frames and fragments


def encoded(numbers: NDArray[Any], syntax: UID) -> bytes:
    return get_frame(LOSSLESS[syntax](numbers, U12, syntax).PixelData, 0)


@pytest.mark.parametrize(
    ("table", "fragments"), [("basic", 1), ("basic", 3), ("empty", 1), ("empty", 3), ("extended", 1)]
)
@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1], ids=lambda s: s.name)
def test_frames_in_fragments(tmp_path: Path, syntax: UID, table: str, fragments: int) -> None:
    numbers = U12.numbers(4, 36, 40)
    frames = [encoded(plane, syntax) for plane in numbers]
    image = image_of(numbers[0], U12)
    if table == "extended":
        with_frames(image, syntax, frames)
        image.PixelData, image.ExtendedOffsetTable, image.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        with_frames(image, syntax, frames, fragments_per_frame=fragments, has_bot=table == "basic")
    path = save(image, tmp_path / "a.dcm")
    for frame in (2, 0, 3, 1):
        np.testing.assert_array_equal(read(path, frame, 4), numbers[frame])


@pytest.mark.parametrize("has_bot", [True, False])
def test_one_frame_in_several_fragments(tmp_path: Path, has_bot: bool) -> None:
    numbers = U12.numbers(20, 24)
    image = image_of(numbers, U12)
    data = encoded(numbers, JPEGLSLossless)
    with_frames(image, JPEGLSLossless, [data], fragments_per_frame=4, has_bot=has_bot)
    np.testing.assert_array_equal(read(save(image, tmp_path / "a.dcm")), numbers)


@pytest.mark.parametrize("kind", [U12, S8], ids=lambda kind: kind.name)
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
def test_frames_of_native_files(tmp_path: Path, syntax: UID, kind: Kind) -> None:
    numbers = kind.numbers(3, 5, 7)
    image = image_of(numbers[0], kind, syntax)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes()
    data += b"\0" * (len(data) % 2)
    if syntax == ExplicitVRBigEndian and kind.bits_allocated == 8:
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
        image["PixelData"].VR = "OW"
    image.PixelData, image.NumberOfFrames = data, 3
    path = save(image, tmp_path / "a.dcm")
    for frame in (1, 2, 0):
        np.testing.assert_array_equal(read(path, frame, 3), numbers[frame])
        np.testing.assert_array_equal(read(path, frame, 3, slice(1, 4)), numbers[frame, 1:4])


def test_threads_may_share_a_slice(tmp_path: Path) -> None:
    numbers = U12.numbers(64, 64)
    paths = {
        save(LOSSLESS[syntax](numbers, U12, syntax), tmp_path / f"{number}.dcm"): numbers
        for number, syntax in enumerate(LOSSLESS)
    }
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [*paths] * 12))
    for voxels in found:
        np.testing.assert_array_equal(voxels, numbers)


def test_every_decoder_is_installed() -> None:
    assert [syntax.name for syntax in decoders.COMPRESSIONS if not decoders.is_available(syntax)] == []


# ---------------------------------------------------------------- encoders of other houses

OTHER_HOUSES = {
    **{f"dcmcjpeg process 14, predictor {n}": ["dcmcjpeg", "+el", "+sv", str(n)] for n in (1, 4, 7)},
    "dcmcjpeg SV1": ["dcmcjpeg", "+e1"],
    "dcmcjpeg SV1 in fragments": ["dcmcjpeg", "+e1", "+fs", "2"],
    "dcmcjpls": ["dcmcjpls"],
    "dcmcjpls, empty offset table": ["dcmcjpls", "-ot", "+fs", "2"],
    "dcmcrle": ["dcmcrle"],
    "dcmconv implicit": ["dcmconv", "+ti"],
    "dcmconv explicit, sequences of undefined length": ["dcmconv", "+te", "-e"],
    "dcmconv big endian": ["dcmconv", "+tb"],
    "dcmconv deflated": ["dcmconv", "+td"],
    "gdcmconv JPEG": ["gdcmconv", "-J"],
    "gdcmconv JPEG-LS": ["gdcmconv", "-L"],
    "gdcmconv JPEG 2000": ["gdcmconv", "-K"],
    "gdcmconv RLE": ["gdcmconv", "-R"],
    "gdcmconv deflated": ["gdcmconv", "-d"],
}


@pytest.mark.parametrize("kind", [U12, S12, S16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("house", OTHER_HOUSES)
def test_files_of_other_houses(tmp_path: Path, house: str, kind: Kind) -> None:
    tool, *options = OTHER_HOUSES[house]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed (Debian: dcmtk, libgdcm-tools)")
    numbers = kind.numbers(65, 83)
    source, target = save(image_of(numbers, kind), tmp_path / "in.dcm"), tmp_path / "out.dcm"
    subprocess.run([tool, *options, str(source), str(target)], check=True, capture_output=True, timeout=60)
    np.testing.assert_array_equal(read(target), clipped(numbers))


# ---------------------------------------------------------------- JPEG lossless with restart markers


def with_restarts(numbers: NDArray[np.uint16], precision: int, interval_rows: int) -> bytes:
    """Code a picture as ISO 10918-1 annex H says, with predictor 4 and 5 bits for each of the 17 categories."""
    bits = ""
    scan = b""
    for y, row in enumerate(numbers.astype(int).tolist()):
        if y and y % interval_rows == 0:
            scan, bits = scan + _stuffed(bits) + bytes((0xFF, 0xD0 + (y // interval_rows - 1) % 8)), ""
        for x, number in enumerate(row):
            if y % interval_rows == 0:
                predicted = row[x - 1] if x else 1 << (precision - 1)
            else:
                above = numbers[y - 1].astype(int).tolist()
                predicted = row[x - 1] + above[x] - above[x - 1] if x else above[0]
            difference = (number - predicted + 32768) % 65536 - 32768
            category = abs(difference).bit_length()
            bits += f"{category:05b}"
            if 0 < category < 16:
                bits += f"{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}"
    rows, columns = numbers.shape
    table = struct.pack(">BBHB16s17s", 0xFF, 0xC4, 36, 0, bytes([0] * 4 + [17] + [0] * 11), bytes(range(17)))
    frame = struct.pack(">BBHBHH4B", 0xFF, 0xC3, 11, precision, rows, columns, 1, 1, 0x11, 0)
    interval = struct.pack(">BBHH", 0xFF, 0xDD, 4, interval_rows * columns)
    start = bytes((0xFF, 0xDA, 0, 8, 1, 1, 0, 4, 0, 0))
    return b"\xff\xd8" + table + frame + interval + start + scan + _stuffed(bits) + b"\xff\xd9"


def _stuffed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


@pytest.mark.parametrize("interval_rows", [1, 3, 20])
def test_jpeg_lossless_with_restart_markers(tmp_path: Path, interval_rows: int) -> None:
    numbers = U12.numbers(31, 17)
    data = with_restarts(numbers, 12, interval_rows)
    assert data.count(b"\xff\xd0") >= 1
    path = save(with_frames(image_of(numbers, U12), JPEGLossless, [data]), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path), numbers)
