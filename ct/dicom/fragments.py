"""Where the frames of encapsulated Pixel Data lie (PS3.5 A.4), found without reading the others.

Offset tables are believed only as far as the items of the file bear them out: an offset that leads into the middle of
another frame would give the wrong slice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

_ITEM, _DELIMITER = 0xE000FFFE, 0xE0DDFFFE  # as the two halves of the tag stand in little endian
_HEAD = struct.Struct("<LL")
_END = b"\xff\xd9"  # of the codestreams of JPEG, JPEG-LS and JPEG 2000
_MOST_FRAGMENTS = 2**18


class PixelsDamaged(ValueError):
    """What is wrong with pixel data, as the end of a sentence; nothing of the patient in it."""


Span = tuple[int, int | None]  # offsets in the file: of the first item of a frame, of what follows its last


def frame_spans(file: BinaryIO, at: int, frames: int, extended: bytes = b"") -> list[Span]:
    """Where each frame's items begin and end; None for the end: at the end of the Pixel Data.

    Args:
        file: opened for reading.
        at: offset of the value of Pixel Data.
        frames: how many there are to be.
        extended: the value of Extended Offset Table, where there is one.

    Raises:
        PixelsDamaged: the items contradict the table or the number of frames.
    """
    length = _item(file, at)
    if length is None or length % 4:
        raise PixelsDamaged("the offset table is damaged")
    basic, start = file.read(length), at + _HEAD.size + length
    offsets = (
        struct.unpack(f"<{len(extended) // 8}Q", extended) if extended else struct.unpack(f"<{length // 4}L", basic)
    )
    if offsets:
        rising = all(a < b for a, b in pairwise(offsets))
        if len(offsets) != frames or offsets[0] or not rising:
            raise PixelsDamaged("the offset table does not fit the number of frames")
        begins = [start + offset for offset in offsets]
    elif frames == 1:
        begins = [start]
    else:
        begins = _frame_begins(file, start, frames)
    return list(zip(begins, [*begins[1:], None], strict=True))


def read_frame(file: BinaryIO, span: Span, limit: int, *, whole: bool = False) -> bytes:
    """The fragments of one frame joined; `whole`: which must be one, as of RLE (PS3.5 A.4.2).

    Raises:
        PixelsDamaged: they are more than `limit` bytes, or end early.
    """
    begin, end = span
    fragments, size = [], 0
    for at, length in _fragments(file, begin, end):
        size += length
        if size > limit:
            raise PixelsDamaged("a frame is longer than it would be uncompressed")
        file.seek(at + _HEAD.size)
        fragments.append(file.read(length))
        if whole and len(fragments) > 1:
            raise PixelsDamaged("a frame is in several fragments")
    if sum(map(len, fragments)) != size or not size:
        raise PixelsDamaged("the file ends before they do")
    return b"".join(fragments)


def _frame_begins(file: BinaryIO, start: int, frames: int) -> list[int]:
    """Where frames begin that no table tells of: each fragment is one, or each ends with an end marker."""
    fragments = list(_fragments(file, start, None))
    begins = [at for at, _ in fragments]
    if len(begins) != frames:
        ends = [_ends_codestream(file, at, length) for at, length in fragments]
        begins = [at for at, after_end in zip(begins, [True, *ends[:-1]], strict=False) if after_end]
        if len(begins) != frames or not ends[-1]:
            raise PixelsDamaged("the fragments do not fit the number of frames")
    return begins


def _ends_codestream(file: BinaryIO, at: int, length: int) -> bool:
    tail = min(length, 4)  # an end marker and what may pad it
    file.seek(at + _HEAD.size + length - tail)
    return _END in file.read(tail)


def _fragments(file: BinaryIO, at: int, end: int | None) -> Iterator[tuple[int, int]]:
    """Offset and length of each item from `at` to `end`, on which one must end, or to the delimiter."""
    for _ in range(_MOST_FRAGMENTS):
        if end is not None and at >= end:
            if at > end:
                raise PixelsDamaged("the offset table does not fit the fragments")
            return
        length = _item(file, at)
        if length is None:
            if end is not None:
                raise PixelsDamaged("the offset table does not fit the fragments")
            return
        yield at, length
        at += _HEAD.size + length
    raise PixelsDamaged("there are too many fragments")


def _item(file: BinaryIO, at: int) -> int | None:
    """Length of the item at an offset; None where the delimiter stands there."""
    file.seek(at)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise PixelsDamaged("the file ends before they do")
    tag, length = _HEAD.unpack(head)
    if tag == _DELIMITER:
        return None
    if tag != _ITEM or length == 0xFFFFFFFF:
        raise PixelsDamaged("the fragments are damaged")
    return int(length)
