"""One line of a journal: a JSON object that carries its own checksum, and the lines of a whole file."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = "noduleserve.journal"
VERSION = 1
START = b'{"format":"noduleserve.journal",'  # of every journal of every version
LONGEST = 2**26  # bytes; a row of a worklist has a MiB at most
_TAIL = len(b',"crc":"00000000"}\n')
_CHUNK = 2**14


class BadLine(ValueError):
    """A line that is not what was written; its text says in which way."""


@dataclass(frozen=True)
class Line:
    """One line as it stands in the file.

    Attributes:
        number: from 1.
        offset: of its first byte in the file.
        data: its bytes, with the newline if it has one.
        last: whether nothing comes behind it.
    """

    number: int
    offset: int
    data: bytes
    last: bool


def encode(fields: Mapping[str, Any]) -> bytes:
    """Fields as a line: ASCII JSON, the CRC-32 of all bytes before it as its last field, a newline.

    Raises:
        ValueError: for no fields, and for numbers that JSON has not (NaN, infinity).
    """
    if not fields or "crc" in fields:
        raise ValueError("a line needs fields, none of them called crc")
    body = json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")[:-1]
    return body + _tail(body)


def decode(line: bytes) -> dict[str, Any]:
    """The fields of a line, without its checksum.

    Raises:
        BadLine: where a single bit of it is not as it was written.
    """
    if not line.endswith(b"\n"):
        raise BadLine("it does not end in a newline")
    if len(line) > LONGEST:
        raise BadLine("it is longer than any record")
    body = line[:-_TAIL]
    if line[-_TAIL:] != _tail(body):  # as bytes: digits in upper case would be a flipped bit
        raise BadLine("its checksum is wrong")
    try:
        fields = json.loads(body + b"}")
    except ValueError as error:  # not to be had by chance
        raise BadLine("it is not JSON") from error
    return fields


def lines_of(descriptor: int) -> Iterator[Line]:
    """The lines of an open file from its start on; where the file itself stands does not matter and does not change."""
    end = os.fstat(descriptor).st_size
    number = offset = 0
    with io.BufferedReader(_Positioned(descriptor, end), 2**20) as file:
        while data := file.readline(LONGEST + 1):
            number += 1
            offset += len(data)
            yield Line(number, offset - len(data), data, offset >= end)


def line_at(descriptor: int, offset: int) -> bytes:
    """The line that begins at a byte of the file."""
    parts = []
    while part := os.pread(descriptor, _CHUNK, offset):
        head, newline, _ = part.partition(b"\n")
        parts.append(head + newline)
        if newline:
            break
        offset += len(part)
    return b"".join(parts)


def _tail(body: bytes) -> bytes:
    return b',"crc":"%08x"}\n' % zlib.crc32(body)


class _Positioned(io.RawIOBase):
    """Reads by pread up to a given end, so that neither a writer nor the file's own position matters."""

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor, self._end, self._position = descriptor, end, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file goes."""
        part = memoryview(buffer)[: self._end - self._position]
        count = os.preadv(self._descriptor, [part], self._position) if len(part) else 0
        self._position += count
        return count
