"""Damaged, truncated and hostile pixel data: always a SeriesError, never a crash, a hang or gigabytes."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import ct_slice
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.pixels import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from noduleserve.ct.dicom import inflate
from noduleserve.ct.dicom.codestream import parse_jpeg_2000, parse_jpeg_lossless, parse_jpeg_ls, parse_rle
from noduleserve.ct.dicom.decoders import decode, take_apart
from noduleserve.ct.dicom.fragments import PixelsDamaged
from noduleserve.ct.dicom.header import read_header
from noduleserve.ct.dicom.pixels import SlicePixels
from noduleserve.errors import SeriesError

ROWS, COLUMNS = 40, 48
PICTURE = np.random.default_rng(3).integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
SYNTAXES = [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless]
PLUGINS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


def codestream(syntax: UID, rows: int = ROWS) -> bytes:
    if syntax in (JPEGLosslessSV1, HTJ2KLossless):
        imagecodecs = pytest.importorskip("imagecodecs")
        if syntax == HTJ2KLossless:
            return bytes(imagecodecs.htj2k_encode(PICTURE[:rows]))
        return bytes(imagecodecs.jpeg8_encode(PICTURE[:rows], lossless=True, predictor=1, bitspersample=12))
    return get_encoder(syntax).encode(
        PICTURE[:rows].tobytes(),
        encoding_plugin=PLUGINS[syntax],
        rows=rows,
        columns=COLUMNS,
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
    )


def image_of(pixel_data: bytes, syntax: UID) -> FileDataset:
    image = ct_slice(PICTURE)
    image.SeriesInstanceUID = "1.2.3"
    image.BitsStored, image.HighBit = 12, 11
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = pixel_data
    image["PixelData"].is_undefined_length, image["PixelData"].VR = True, "OB"
    return image


def read(path: Path, frame: int = 0, frames: int = 1) -> np.ndarray:
    header = read_header(path)
    assert header is not None
    return SlicePixels.of(header, frame=frame, frames=frames).read_hounsfield(slice(0, ROWS), slice(0, COLUMNS))


def refusal(path: Path, image: FileDataset | None = None, frame: int = 0, frames: int = 1) -> SeriesError:
    if image is not None:
        image.save_as(path, enforce_file_format=True)
    with pytest.raises(SeriesError) as caught:
        read(path, frame, frames)
    assert path.name in caught.value.what and caught.value.mend
    return caught.value


# ---------------------------------------------------------------- truncated


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_codestream_that_ends_early(tmp_path: Path, syntax: UID, kept: float) -> None:
    data = codestream(syntax)
    data = data[: int(kept * len(data)) // 2 * 2]
    assert refusal(tmp_path / "a.dcm", image_of(encapsulate([data]), syntax)).code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("cut", [1, 9, 300])
def test_a_file_that_ends_in_a_codestream(tmp_path: Path, syntax: UID, cut: int) -> None:
    path = tmp_path / "a.dcm"
    image_of(encapsulate([codestream(syntax)]), syntax).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-cut])
    assert refusal(path).code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_a_fragment_that_is_missing(tmp_path: Path, syntax: UID) -> None:
    data = codestream(syntax)
    third = len(data) // 6 * 2
    without_middle = encapsulate([data[:third] + data[2 * third :]])
    error = refusal(tmp_path / "a.dcm", image_of(without_middle, syntax))
    assert error.code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda s: s.name
)
def test_native_pixels_that_end_early(tmp_path: Path, syntax: UID) -> None:
    path, image = tmp_path / "a.dcm", ct_slice(PICTURE, syntax)
    image.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-2])
    assert refusal(path).code == "PIXELS_TRUNCATED"


def test_deflated_pixels_that_end_early(tmp_path: Path) -> None:
    path, image = tmp_path / "a.dcm", ct_slice(PICTURE, DeflatedExplicitVRLittleEndian)
    image.PixelData = image.PixelData[:-2]
    assert refusal(path, image).code == "PIXELS_TRUNCATED"


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_a_picture_of_another_size(tmp_path: Path, syntax: UID) -> None:
    error = refusal(tmp_path / "a.dcm", image_of(encapsulate([codestream(syntax, ROWS - 4)]), syntax))
    assert error.code == "PIXELS_UNREADABLE"
    assert syntax == RLELossless or f"{ROWS - 4} x {COLUMNS}" in error.what


@pytest.mark.parametrize("has_bot", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_two_frames_where_one_is_to_be(tmp_path: Path, syntax: UID, has_bot: bool) -> None:
    data = encapsulate([codestream(syntax)] * 2, has_bot=has_bot)
    assert refusal(tmp_path / "a.dcm", image_of(data, syntax)).code == "PIXELS_UNREADABLE"


@pytest.mark.parametrize("has_bot", [True, False])
def test_fewer_frames_than_there_are_to_be(tmp_path: Path, has_bot: bool) -> None:
    data = encapsulate([codestream(JPEGLSLossless)] * 2, has_bot=has_bot)
    error = refusal(tmp_path / "a.dcm", image_of(data, JPEGLSLossless), frame=0, frames=3)
    assert error.code == "PIXELS_UNREADABLE" and "number of frames" in error.what


def test_more_native_frames_than_there_are_to_be(tmp_path: Path) -> None:
    image = ct_slice(PICTURE)
    image.PixelData *= 2
    error = refusal(tmp_path / "a.dcm", image)
    assert error.code == "PIXELS_UNREADABLE" and "more frames" in error.what


@pytest.mark.parametrize("offsets", [(0, 10), (0, 0), (8, 16), (600, 0), (0, 2**32 - 2)])
def test_an_offset_table_that_leads_elsewhere(tmp_path: Path, offsets: tuple[int, int]) -> None:
    data = encapsulate([codestream(JPEGLSLossless)] * 2)
    data = data[:8] + struct.pack("<2L", *offsets) + data[16:]
    image = image_of(data, JPEGLSLossless)
    for frame in (0, 1):
        assert refusal(tmp_path / "a.dcm", image, frame, frames=2).code == "PIXELS_UNREADABLE"


def test_an_extended_offset_table_that_leads_elsewhere(tmp_path: Path) -> None:
    image = image_of(b"", JPEGLSLossless)
    image.PixelData, _, image.ExtendedOffsetTableLengths = encapsulate_extended([codestream(JPEGLSLossless)] * 2)
    image.ExtendedOffsetTable = struct.pack("<2Q", 0, 12)
    for frame in (0, 1):
        assert refusal(tmp_path / "a.dcm", image, frame, frames=2).code == "PIXELS_UNREADABLE"


def test_native_pixels_under_the_name_of_compressed_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    ct_slice(PICTURE).save_as(path, enforce_file_format=True)
    native, data = ExplicitVRLittleEndian.encode() + b"\0", path.read_bytes()
    assert (read(path) == PICTURE).all()
    for syntax in (RLELossless, JPEGLSLossless):
        name = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
        path.write_bytes(_with_syntax(data, native, name))
        assert refusal(path).code == "PIXELS_UNREADABLE"


def _with_syntax(data: bytes, old: bytes, new: bytes) -> bytes:
    """A file with another transfer syntax in its meta information, and the lengths that go with it."""
    at, grown = data.index(old), len(new) - len(old)
    (length,) = struct.unpack_from("<L", data, 140)
    meta = data[:140] + struct.pack("<L", length + grown) + data[144 : at - 2]
    return meta + struct.pack("<H", len(new)) + new + data[at + len(old) :]


def test_a_frame_that_is_longer_than_it_would_be_uncompressed(tmp_path: Path) -> None:
    data = codestream(JPEGLSLossless)
    comment = b"\xff\xfe" + struct.pack(">H", 60_000) + bytes(59_998)
    image = image_of(encapsulate([data[:2] + 2 * comment + data[2:]]), JPEGLSLossless)
    assert "longer" in refusal(tmp_path / "a.dcm", image).what


@pytest.mark.parametrize("side", ["Rows", "Columns"])
def test_a_slice_of_absurd_size(tmp_path: Path, side: str) -> None:
    image = ct_slice(PICTURE)
    setattr(image, side, 8193)
    assert refusal(tmp_path / "a.dcm", image).code == "SERIES_TOO_LARGE"


# ---------------------------------------------------------------- codestreams


def changed(data: bytes, marker: bytes, at: int, value: bytes) -> bytes:
    start = data.index(marker) + at
    return data[:start] + value + data[start + len(value) :]


PARSERS = {JPEGLosslessSV1: parse_jpeg_lossless, JPEGLSLossless: parse_jpeg_ls, JPEG2000Lossless: parse_jpeg_2000}
SOF3, DHT, SOS, SOF55 = b"\xff\xc3", b"\xff\xc4", b"\xff\xda", b"\xff\xf7"
SIZ, COD, SOT = b"\xff\x51", b"\xff\x52", b"\xff\x90"


@pytest.mark.parametrize(
    ("syntax", "marker", "at", "value"),
    [
        (JPEGLosslessSV1, SOF3, 0, b"\xff\xc1"),  # not lossless
        (JPEGLosslessSV1, SOF3, 4, b"\x11"),  # 17 bits
        (JPEGLosslessSV1, SOF3, 9, b"\x03"),  # three components
        (JPEGLosslessSV1, DHT, 5, b"\xff"),  # more codes of one bit than there can be
        (JPEGLosslessSV1, DHT, 4, b"\x07"),  # a table that there cannot be
        (JPEGLosslessSV1, SOS, 6, b"\x30"),  # a table that is not there
        (JPEGLosslessSV1, SOS, 7, b"\x00"),  # no predictor
        (JPEGLSLossless, SOF55, 4, b"\x11"),
        (JPEGLSLossless, SOF55, 9, b"\x03"),
        (JPEGLSLossless, SOS, 8, b"\x03"),  # an interleave mode that there cannot be
        (JPEG2000Lossless, SIZ, 38, b"\0\3"),  # three components
        (JPEG2000Lossless, SIZ, 22, b"\0\0\0\1\0\0\0\0"),  # tiles of no height
        (JPEG2000Lossless, COD, 9, b"\x40"),  # 64 levels
        (JPEG2000Lossless, SOT, 6, b"\0\0\0\x20"),  # a tile-part that ends in the middle of its data
        (JPEG2000Lossless, SOT, 6, b"\xff\0\0\0"),  # a tile-part that ends behind the file
    ],
)
def test_markers_that_contradict_the_standard(syntax: UID, marker: bytes, at: int, value: bytes) -> None:
    data = codestream(syntax)
    assert PARSERS[syntax](data).columns == COLUMNS
    with pytest.raises(PixelsDamaged):
        PARSERS[syntax](changed(data, marker, at, value))


def test_tiles_by_the_million() -> None:
    size = struct.pack(">8L", 8192, 8192, 0, 0, 1, 1, 0, 0)
    data = changed(codestream(JPEG2000Lossless), SIZ, 6, size)
    with pytest.raises(PixelsDamaged, match="number of tiles"):
        parse_jpeg_2000(data)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless], ids=lambda s: s.name)
def test_comments_and_thumbnails_do_not_reach_the_decoder(syntax: UID) -> None:
    data, comment = codestream(syntax), b"\xff\xfe\x00\x06\xff\xd9ab"
    stream = take_apart(data[:2] + comment + data[2:], syntax, ROWS, COLUMNS, 16)
    assert b"ab" not in stream.data[:20] and stream.data[:4] != data[:2] + comment[:2]
    np.testing.assert_array_equal(decode(stream, syntax), PICTURE)


def test_a_codestream_in_a_jp2_file_is_read(tmp_path: Path) -> None:
    data = codestream(JPEG2000Lossless)
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + struct.pack(">L", len(data) + 8) + b"jp2c"
    image = image_of(encapsulate([boxes + data]), JPEG2000Lossless)
    image.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm"), PICTURE)


@pytest.mark.parametrize("header", [(0,), (3, 64, 100, 200), (2, 64, 64), (2, 64, 10_000_000), (2, 60, 100)])
def test_a_header_of_rle_that_cannot_be(header: tuple[int, ...]) -> None:
    data = get_frame(encapsulate([codestream(RLELossless)]), 0)
    assert parse_rle(data, ROWS, COLUMNS, 16).rows == ROWS
    with pytest.raises(PixelsDamaged):
        parse_rle(struct.pack(f"<{len(header)}L", *header).ljust(64, b"\0") + data[64:], ROWS, COLUMNS, 16)


_DECODE_DAMAGED = """
import logging, random, resource, sys
from pathlib import Path
from pydicom.uid import UID
from noduleserve.ct.dicom.decoders import decode, take_apart

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
logging.disable()
syntax, data, rng = UID(sys.argv[1]), Path(sys.argv[2]).read_bytes(), random.Random(5)
tried = 0
for _ in range(400):
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(damaged)) if rng.random() < 0.7 else rng.randrange(min(len(damaged), 150))
        if rng.random() < 0.9:
            damaged[at] = rng.randrange(256)
        else:
            del damaged[at : at + rng.randrange(1, 30)]
    try:
        stream = take_apart(bytes(damaged), syntax, 40, 48, 16)
        tried += 1
        assert decode(stream, syntax).shape == (40, 48)
    except Exception:
        pass
print("decoder asked", tried)
"""


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_damaged_codestreams_neither_end_the_process_nor_hang_it(tmp_path: Path, syntax: UID) -> None:
    (tmp_path / "data").write_bytes(codestream(syntax))
    run = subprocess.run(
        [sys.executable, "-c", _DECODE_DAMAGED, str(syntax), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout.split()[-1]) > 50


# ---------------------------------------------------------------- deflated


def deflated(path: Path, image: FileDataset) -> bytes:
    image.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def test_a_deflated_bomb_is_refused_before_it_fills_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, image = tmp_path / "a.dcm", ct_slice(np.zeros((512, 512), np.uint16), DeflatedExplicitVRLittleEndian)
    assert len(deflated(path, image)) < 4000
    read_header(path)
    monkeypatch.setattr(inflate, "MOST_BYTES", 500_000)
    monkeypatch.setattr(inflate, "_STEP", 10_000)
    with pytest.raises(SeriesError) as caught:
        read_header(path)
    assert caught.value.code == "FILE_TOO_LARGE" and "a.dcm" in caught.value.what


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_deflated_file_is_inflated_whole_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    path, image = tmp_path / "a.dcm", ct_slice(PICTURE, DeflatedExplicitVRLittleEndian)
    deflated(path, image)
    monkeypatch.setattr(inflate, "_STEP", step)
    with path.open("rb") as file:
        plain = inflate.inflated(file, "a.dcm")
    assert plain is not None and plain.getvalue().endswith(PICTURE.tobytes())


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_damaged_deflated_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.dcm"
    data = deflated(path, ct_slice(PICTURE, DeflatedExplicitVRLittleEndian))
    path.write_bytes(data[:-200] if damage == "cut" else data[:400] + bytes(range(256)) + data[656:])
    with pytest.raises(SeriesError) as caught:
        read(path)
    assert caught.value.code == "FILE_UNREADABLE"


def test_what_is_not_deflated_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    ct_slice(PICTURE).save_as(path, enforce_file_format=True)
    with path.open("rb") as file:
        assert inflate.inflated(file, "a.dcm") is None
