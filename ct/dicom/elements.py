"""The elements of a data set in memory, little endian, one after another: tags and places, no values."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

UNDEFINED = 0xFFFFFFFF  # as a length

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, b"\xfe\xff\x0d\xe0", 0xFFFEE0DD
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_SHORT_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_IMPLICIT = struct.Struct("<HHL").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


def elements(data: bytes, at: int, *, implicit: bool) -> Iterator[tuple[int, int, int]]:
    """Tag, offset of the value and length of each element from `at` on, as far as it can tell them.

    A length may be UNDEFINED, and may reach beyond the data. It ends before an element of unknown value representation,
    and after one of undefined length that is no sequence: pixel data, or what has lost its representation.
    """
    last = len(data) - 12
    while at <= last:
        if implicit:
            group, element, length = _IMPLICIT(data, at)
            at += 8
        else:
            group, element, vr, length = _EXPLICIT(data, at)
            at += 8
            if vr in _LONG_VRS:
                (length,) = _LENGTH(data, at)
                at += 4
            elif vr not in _SHORT_VRS:
                return
        yield group << 16 | element, at, length
        if length != UNDEFINED:
            at += length
        elif implicit or vr == b"SQ":
            at = _after_sequence(data, at, implicit=implicit)
            if at < 0:
                return
        else:
            return


def _after_sequence(data: bytes, at: int, *, implicit: bool) -> int:
    """The offset behind a sequence of undefined length whose items begin at `at`; -1 where it cannot be told."""
    while at + 8 <= len(data):
        group, element, length = _IMPLICIT(data, at)
        at += 8
        if group << 16 | element == _SEQUENCE_END:
            return at
        if group << 16 | element != _ITEM:
            return -1
        at = _after_item(data, at, implicit=implicit) if length == UNDEFINED else at + length
        if at < 0:
            return -1
    return -1


def _after_item(data: bytes, at: int, *, implicit: bool) -> int:
    """The offset behind an item of undefined length whose elements begin at `at`; -1 where it cannot be told."""
    while data[at : at + 4] != _ITEM_END:
        element = next(elements(data, at, implicit=implicit), None)
        if element is None:
            return -1
        _, value, length = element
        if length != UNDEFINED:
            at = value + length
        elif implicit or data[at + 4 : at + 6] == b"SQ":
            at = _after_sequence(data, value, implicit=implicit)
        else:
            return -1
        if at < 0:
            return -1
    return at + 8
