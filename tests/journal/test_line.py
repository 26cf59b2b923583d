"""A line of a journal: whole or refused, wherever it stands in the file."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noduleserve.journal.line import LONGEST, BadLine, decode, encode, line_at, lines_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "crc"), JSON, min_size=1, max_size=4))
def test_what_is_written_comes_back(fields: dict[str, object]) -> None:
    line = encode(fields)
    assert line.isascii() and line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode(line) == fields
    assert list(decode(line)) == list(fields)
    assert json.loads(line)["crc"] == f"{zlib.crc32(line[:-19]):08x}"


def test_every_flipped_bit_is_found() -> None:
    line = encode({"kind": "outcome", "text": 'a "quoted"\nü', "number": 0.1})
    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            with pytest.raises(BadLine):
                decode(bytes(flipped))


def test_every_shortened_line_is_found() -> None:
    line = encode({"kind": "outcome", "crc32": "no field of ours"})
    for length in range(len(line)):
        with pytest.raises(BadLine):
            decode(line[:length])
        if length < len(line) - 1:
            with pytest.raises(BadLine):
                decode(line[:length] + b"\n")


@pytest.mark.parametrize("fields", [{}, {"crc": 1}, {"a": float("nan")}, {"a": float("inf")}])
def test_what_json_has_not_is_not_written(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        encode(fields)


def test_lines_are_found_by_number_and_by_place(tmp_path: Path) -> None:
    lengths = [0, 1, 2**14 - 1, 2**14, 2**14 + 1, 2**20 - 1, 2**20, 2**20 + 1, 3]  # around the sizes of the buffers
    written = [b"x" * length + b"\n" for length in lengths]
    file = tmp_path / "lines"
    file.write_bytes(b"".join(written) + b"end without newline")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.lseek(descriptor, 7, os.SEEK_SET)
        lines = list(lines_of(descriptor))
        assert [line.data for line in lines] == [*written, b"end without newline"]
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        assert [line.last for line in lines] == [False] * (len(lines) - 1) + [True]
        assert all(line_at(descriptor, line.offset) == line.data for line in lines)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7
    finally:
        os.close(descriptor)


def test_what_is_added_while_lines_are_read_is_not_seen(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\nb\n")
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND)
    try:
        seen = []
        for line in lines_of(descriptor):
            os.write(descriptor, b"more\n")
            seen.append(line.data)
        assert seen == [b"a\n", b"b\n"]
    finally:
        os.close(descriptor)


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    with file.open("wb") as out:
        out.truncate(3 * LONGEST)  # a hole, which takes no space
    descriptor = os.open(file, os.O_RDONLY)
    try:
        first = next(lines_of(descriptor))
        assert len(first.data) == LONGEST + 1 and not first.last
        with pytest.raises(BadLine):
            decode(first.data)
    finally:
        os.close(descriptor)
