"""What a compressed frame says of itself, read from its markers before any decoder sees it.

Decoders are written in C and believe the markers: damaged ones make some allocate gigabytes, never return, or end the
process. So every marker segment is held against its standard here, what decoding does not need (comments, thumbnails)
is left out, and what ends early is told apart from what is complete. What is left to chance is the entropy-coded data
alone. Everything that is wrong is PixelsDamaged.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .fragments import PixelsDamaged
from .jpeg_lossless import LosslessScan

_MOST_TILES = 4096  # of 128 x 128 in the largest frame that is read
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF_LOSSLESS, _SOF_LS, _DHT, _SOS, _DRI, _LSE = 0xC3, 0xF7, 0xC4, 0xDA, 0xDD, 0xF8
_NEEDLESS = {*range(0xE0, 0xF0), 0xFE, 0xDB}  # APPn, COM; DQT, which lossless coding does not use
# In entropy-coded data FF is followed by 00 (JPEG) or by a byte below 80 (JPEG-LS), or it starts a restart marker.
_END_OF_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_END_OF_SCAN_LS = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")
_JP2 = b"\0\0\0\x0cjP  "
_SOC, _SIZ, _COD, _SOT, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF90, 0xFFD9
_U16, _U32 = struct.Struct(">H").unpack_from, struct.Struct(">L").unpack_from


@dataclass(frozen=True)
class Codestream:
    """One compressed frame of one component.

    Attributes:
        data: what a decoder needs of it.
        rows, columns: of the picture.
        precision: bits of each number.
        signed: whether its numbers are signed; codings that know no sign have unsigned numbers.
        near: the most by which a number may differ from the original; None where that has no bound.
        scan: of lossless JPEG.
    """

    data: bytes
    rows: int
    columns: int
    precision: int
    signed: bool = False
    near: int | None = 0
    scan: LosslessScan | None = None


def parse_rle(data: bytes, rows: int, columns: int, bits_allocated: int) -> Codestream:
    """Hold the header of RLE (PS3.5 annex G) against the frame that it should decode to."""
    segments, *offsets = struct.unpack("<16L", data[:64].ljust(64, b"\0"))
    _require(len(data) > 64 and segments == bits_allocated // 8, "the number of segments")
    used = offsets[:segments]
    rising = all(a < b for a, b in zip(used, [*used[1:], len(data)], strict=True))
    _require(used[0] == 64 and rising and not any(offsets[segments:]), "the offsets of its segments")
    return Codestream(data, rows, columns, bits_allocated)


def parse_jpeg_lossless(data: bytes) -> Codestream:
    """Read JPEG, process 14 (ISO 10918-1 annex H): one component, one scan."""
    frame, tables, restart, needed = b"", dict[int, tuple[int, ...]](), 0, _SOI
    for marker, body, end in _segments(data):
        if marker in _NEEDLESS:
            continue
        needed += _segment(marker, body)
        if marker == _SOF_LOSSLESS:
            _require(len(body) == 9 and not frame and body[5] == 1 and 2 <= body[0] <= 16, "its frame header")
            frame = body
        elif marker == _DHT:
            tables |= _huffman_tables(body)
        elif marker == _DRI:
            _require(len(body) == 2, "its restart interval")
            (restart,) = _U16(body)
        elif marker == _SOS:
            _require(bool(frame) and len(body) == 6, "its scan header")
            count, component, table, predictor, last, shift = body
            _require(count == 1 and component == frame[6] and table >> 4 in tables, "the component of its scan")
            _require(1 <= predictor <= 7 and last == 0 and shift == 0, "its predictor or point transform")
            (rows,), (columns,) = _U16(frame, 1), _U16(frame, 3)
            _require(columns > 0 and restart % columns == 0, "its restart interval")
            coded = _scan(data, end, _END_OF_SCAN)
            parts = tuple(len(part) - part.count(b"\xff\0") for part in _RESTART.split(coded[:-2]))
            scan = LosslessScan(tables[table >> 4], predictor, frame[0], restart // columns, parts)
            return Codestream(needed + coded, rows, columns, frame[0], scan=scan)
        else:
            raise PixelsDamaged(f"the codestream has a marker {marker:02X}")
    raise PixelsDamaged("the codestream has no scan")


def _huffman_tables(body: bytes) -> dict[int, tuple[int, ...]]:
    """The tables that one segment defines: id -> bits of the code of each category of differences, 0 to 16."""
    tables, at = {}, 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        space = sum(count << 16 - length for length, count in enumerate(counts, 1))
        complete = len(counts) == 16 and len(symbols) == sum(counts) == len({*symbols}) > 0
        _require(complete and body[at] < 4 and space < 1 << 16 and max(symbols) <= 16, "a Huffman table")
        lengths = [length for length, count in enumerate(counts, 1) for _ in range(count)]
        code_bits = dict(zip(symbols, lengths, strict=True))
        tables[body[at]] = tuple(code_bits.get(category, 0) for category in range(17))
        at += 17 + len(symbols)
    return tables


def parse_jpeg_ls(data: bytes) -> Codestream:
    """Read JPEG-LS (ISO 14495-1): one component, one scan."""
    frame, needed = b"", _SOI
    for marker, body, end in _segments(data):
        if marker in _NEEDLESS:
            continue
        needed += _segment(marker, body)
        if marker == _SOF_LS:
            _require(len(body) == 9 and not frame and body[5] == 1 and 2 <= body[0] <= 16, "its frame header")
            frame = body
        elif marker == _LSE:
            _require(len(body) == 11 and body[0] == 1, "its coding parameters")
        elif marker == _SOS:
            _require(bool(frame) and len(body) == 6, "its scan header")
            count, component, mapping, near, interleave, shift = body
            _require(count == 1 and component == frame[6] and mapping == 0, "the component of its scan")
            _require(interleave <= 2 and shift == 0, "its interleave mode or point transform")
            (rows,), (columns,) = _U16(frame, 1), _U16(frame, 3)
            return Codestream(needed + _scan(data, end, _END_OF_SCAN_LS), rows, columns, frame[0], near=near)
        else:
            _require(marker == _DRI, f"marker {marker:02X}")
    raise PixelsDamaged("the codestream has no scan")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, body and end of each segment of JPEG or JPEG-LS, up to the first start of scan."""
    _require(data[:2] == _SOI, "its start")
    at = 2
    while at + 4 <= len(data):
        if data[at : at + 2] == b"\xff\xff":  # fill byte
            at += 1
            continue
        (length,) = _U16(data, at + 2)
        end = at + 2 + length
        _require(data[at] == 0xFF and length >= 2 and end <= len(data), "its segments")
        yield data[at + 1], data[at + 4 : end], end
        at = end


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _scan(data: bytes, at: int, end_of_scan: re.Pattern[bytes]) -> bytes:
    """Entropy-coded data from `at` to the end marker, which must be the next after the only scan."""
    end = end_of_scan.search(data, at)
    _require(end is not None and end[0].endswith(_EOI), "its end, which is missing")
    assert end is not None
    _require(not data[end.end() :].strip(b"\0"), "what follows its end marker")
    return data[at : end.start()] + _EOI  # without fill bytes


def parse_jpeg_2000(data: bytes) -> Codestream:
    """Read JPEG 2000 or HTJ2K (ISO 15444-1, -15): one component, every tile-part complete."""
    at = 0
    if data.startswith(_JP2):  # DICOM wants the bare codestream; some encoders put it into a JP2 file
        at = _codestream_of_jp2(data)
    data = data[at:]
    _require(_marker(data, 0) == _SOC and _marker(data, 2) == _SIZ and len(data) >= 45, "its start")
    size, (columns, rows), precision, signed = _jpeg_2000_size(data)
    at, reversible = 4 + size, None
    while (marker := _marker(data, at)) != _SOT:
        (length,) = _U16(data, at + 2) if at + 4 <= len(data) else (0,)
        _require(marker > _SOC and length >= 2 and at + 2 + length <= len(data), "its main header")
        if marker == _COD:
            _require(length >= 12, "its coding style")
            layers, levels, transform = _U16(data, at + 6)[0], data[at + 9], data[at + 13]
            _require(layers >= 1 and levels <= 32 and transform <= 1, "its coding style")
            reversible = transform == 1
        at += 2 + length
    _require(reversible is not None, "its coding style")
    end = _end_of_tiles(data, at)
    return Codestream(data[:end], rows, columns, precision, signed, near=0 if reversible else None)


def _jpeg_2000_size(data: bytes) -> tuple[int, tuple[int, int], int, bool]:
    """Length of the SIZ segment, width and height, precision and sign."""
    length, _, right, lower, left, upper, tile_x, tile_y, tile_left, tile_upper, components = struct.unpack_from(
        ">HH8LH", data, 4
    )
    depth, step_x, step_y = data[42:45]
    _require(length == 41 and components == 1 and step_x == step_y == 1, "its components")
    precision = (depth & 0x7F) + 1
    _require(left < right and upper < lower and tile_x > 0 and tile_y > 0 and precision <= 32, "its size")
    _require(left >= tile_left > left - tile_x and upper >= tile_upper > upper - tile_y, "its tiles")
    tiles = -(-(right - tile_left) // tile_x) * -(-(lower - tile_upper) // tile_y)
    _require(tiles <= _MOST_TILES, "its number of tiles")
    return length, (right - left, lower - upper), precision, depth > 0x7F


def _end_of_tiles(data: bytes, at: int) -> int:
    """Where the codestream ends, walking from tile-part to tile-part by the lengths that they give."""
    while (marker := _marker(data, at)) == _SOT:
        _require(at + 12 <= len(data) and _U16(data, at + 2)[0] == 10, "its tile-parts")
        (length,) = _U32(data, at + 6)
        if length == 0:  # up to the end of the codestream
            at = len(data.rstrip(b"\0")) - 2
        else:
            _require(length >= 14, "its tile-parts")
            at += length
    _require(marker == _EOC, "its end, which is missing")
    _require(not data[at + 2 :].strip(b"\0"), "what follows its end marker")
    return at + 2


def _codestream_of_jp2(data: bytes) -> int:
    at = 0
    while at + 8 <= len(data):
        (length,), kind = _U32(data, at), data[at + 4 : at + 8]
        if kind == b"jp2c":
            return at + 8
        _require(length >= 8, "its JP2 boxes")
        at += length
    raise PixelsDamaged("the JP2 file has no codestream")


def _marker(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") if at + 2 <= len(data) else 0


def _require(right: bool, what: str) -> None:
    if not right:
        raise PixelsDamaged(f"the codestream is damaged in {what}")
