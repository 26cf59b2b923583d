"""Where Pixel Data lie in a file whose header says no more than that they are there."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from .fragments import PixelsDamaged, Span, frame_spans
from .inflate import inflated

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF


class PixelPlace(NamedTuple):
    """The value of Pixel Data in a file: offset, length, value representation, and Extended Offset Table if any."""

    at: int
    length: int
    vr: str = "OW"
    extended: bytes = b""


def opened(path: Path, transfer_syntax: str) -> BinaryIO:
    """A file for reading, inflated where it is deflated.

    Raises:
        SeriesError: FILE_TOO_LARGE.
        OSError, ValueError, zlib.error: it cannot be read or inflated.
    """
    file = path.open("rb")
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        return file
    with file:
        plain = inflated(file, path.name)
        if plain is None:
            raise PixelsDamaged("it is not deflated as its header says")
        return plain


def find_pixels(file: BinaryIO) -> PixelPlace:
    """Find Pixel Data in any file that pydicom can read.

    Raises:
        Exception: of many kinds, where there are none or the file is damaged.
    """
    file.seek(0)
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=["ExtendedOffsetTable"], force=True)
    implicit, little = dataset.original_encoding
    order, head = "<" if little else ">", file.read(12)
    if struct.unpack_from(f"{order}HH", head) != _PIXEL_DATA:
        raise PixelsDamaged("there is no Pixel Data")
    extended = dataset.get("ExtendedOffsetTable", b"")
    if implicit:
        (length,) = struct.unpack_from(f"{order}L", head, 4)
        return PixelPlace(file.tell() - 4, length, "OW", extended)
    (length,) = struct.unpack_from(f"{order}L", head, 8)
    return PixelPlace(file.tell(), length, head[4:6].decode("ascii"), extended)


def frame_span(file: BinaryIO, path: Path, frame: int, frames: int) -> Span:
    """Where one frame of encapsulated Pixel Data lies; remembered as long as the file stays the same.

    Raises:
        Exception: as `find_pixels`.
        PixelsDamaged: what the file says of its frames cannot be right.
    """
    about = os.fstat(file.fileno())
    return _spans(path, about.st_mtime_ns, about.st_size, about.st_ino, frames)[frame]


@lru_cache(maxsize=4096)
def _spans(path: Path, mtime_ns: int, size: int, inode: int, frames: int) -> list[Span]:
    with path.open("rb") as file:
        place = find_pixels(cast(BinaryIO, file))
        if place.length != _UNDEFINED:
            raise PixelsDamaged("they are not compressed as its transfer syntax says")
        return frame_spans(cast(BinaryIO, file), place.at, frames, place.extended)
