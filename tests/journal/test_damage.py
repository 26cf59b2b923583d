"""Damage: a torn end is cut off, everything else is found and named, and no record ever changes unseen."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from outcome_making import content, key, nodule, parked, run, scored

from noduleserve.errors import JournalError
from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal
from noduleserve.journal.line import lines_of
from noduleserve.journal.mending import mend, verify
from noduleserve.journal.record import OutcomeRecord


def small(number: int) -> OutcomeRecord:
    """A record of few bytes, so that all of them can be tried."""
    row = dataclasses.replace(nodule(number), columns={"pid": "p"})
    return OutcomeRecord(key(number), dataclasses.replace(parked(number).outcome, nodule=row))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "night.journal"
    with Journal.open(path) as journal:
        journal.append_all([run(3), small(0), small(1), small(2)])
    return path


def line_starts(path: Path) -> list[int]:
    data = path.read_bytes()
    return [0, *(place + 1 for place, byte in enumerate(data) if byte == 0x0A)]


def found(path: Path) -> list[list[object]]:
    with Contents.open(path) as contents:
        return [content(record) for record in contents.records()]


def test_a_journal_cut_at_any_byte_of_its_last_record_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    last = line_starts(path)[-2]
    torn = path.with_name("night.journal.torn")
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        with Contents.open(path) as contents:
            assert (contents.torn_bytes, contents.count) == (end - last, 2)
        assert path.read_bytes() == whole[:end]  # reading cuts nothing
        with Journal.open(path) as journal:
            assert journal.cut_bytes == end - last
            assert path.read_bytes() == whole[:last]
            assert journal.get(key(2)) is None
            journal.append_all([small(2)])
        assert found(path) == [content(small(number)) for number in range(3)]
        if end > last:
            assert torn.read_bytes() == whole[last:end] + b"\n"  # kept, to be looked at
            torn.unlink()


def test_a_last_line_that_is_whole_but_wrong_is_cut_off_and_kept(path: Path) -> None:
    whole = path.read_bytes()
    last = line_starts(path)[-2]
    path.write_bytes(whole[:-5] + b"0" + whole[-4:] if whole[-5:-4] != b"0" else whole[:-5] + b"1" + whole[-4:])
    with Journal.open(path) as journal:
        assert journal.cut_bytes == len(whole) - last
    assert found(path) == [content(small(0)), content(small(1))]


def test_any_flipped_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    written = found(path)
    chance = random.Random(7)
    places = [chance.randrange(len(whole)) for _ in range(400)] + [start - 1 for start in line_starts(path)[1:]]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            with Contents.open(path) as contents:
                records = [content(record) for record in contents.records()]
                torn = contents.torn_bytes
        except JournalError as error:
            assert error.code in ("JOURNAL_DAMAGED", "JOURNAL_NOT_A_JOURNAL")
            with pytest.raises(JournalError, match=error.code):
                Journal.open(path)
            assert path.read_bytes() == flipped  # nothing is cut
        else:
            assert torn > 0
            assert records == written[: len(records)]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_damage_before_the_end_is_named_by_line_and_mended(path: Path, number: int) -> None:
    whole = path.read_bytes()
    place = line_starts(path)[number - 1] + 60
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(JournalError, match=rf"\[JOURNAL_DAMAGED\] Line {number} of night.journal .*--mend"):
        Journal.open(path)
    good, bad = verify(path)
    assert (good, [(p.number, p.torn) for p in bad]) == (4, [(number, False)])
    damaged = path.read_bytes()
    left_out, aside = mend(path)
    assert left_out == 1 and aside == path.with_name("night.journal.1")
    assert aside.read_bytes() == damaged
    expected = [content(small(n)) for n in range(3) if n != number - 3]
    assert found(path) == expected
    with Journal.open(path) as journal:
        journal.append_all([small(0), small(1), small(2)])
        assert journal.count == 3
    assert sorted(file.name for file in path.parent.iterdir()) == ["night.journal", "night.journal.1"]


def test_a_whole_journal_is_not_mended(path: Path) -> None:
    whole = path.read_bytes()
    assert verify(path) == (5, [])
    assert mend(path) == (0, None)
    assert path.read_bytes() == whole


def test_a_line_that_is_taken_out_by_hand_costs_its_nodule_only(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"nodule_id":"1"' not in line))
    with Journal.open(path) as journal:
        assert journal.missing == 1
        assert [row.outcome.nodule.number for row in journal.rows()] == [0, 2]


def test_damage_that_comes_after_opening_is_found_when_it_is_read(path: Path) -> None:
    starts = line_starts(path)
    with Contents.open(path) as contents:
        with path.open("r+b") as file:
            file.seek(starts[2] + 60)
            file.write(b"#")
        with pytest.raises(JournalError, match="Line 3 of"):
            contents.get(key(0))
        assert content(contents.get(key(1))) == content(small(1))


def test_verify_finds_a_record_that_was_forged(path: Path) -> None:
    from noduleserve.journal.line import encode

    forged = {**small(2).fields(), "key": key(9).text}
    with path.open("ab") as file:
        file.write(encode(forged))
    good, bad = verify(path)
    assert (good, [place.how for place in bad]) == (5, ["its key is not that of its fields"])
    with Contents.open(path) as contents, pytest.raises(JournalError, match="JOURNAL_DAMAGED"):
        contents.get(key(9))


def test_an_end_within_the_header_is_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "new.journal"
    with Journal.open(path):
        pass
    header = path.read_bytes()
    start = len('{"format":"noduleserve.journal",')
    for end in range(start, len(header)):
        path.write_bytes(header[:end])
        with Journal.open(path) as journal:
            journal.append_all([scored(1)])
        assert len(found(path)) == 1
    for end in range(1, start):
        path.write_bytes(header[:end])
        with pytest.raises(JournalError, match="JOURNAL_NOT_A_JOURNAL"):
            Journal.open(path)
        assert path.read_bytes() == header[:end]


def test_a_long_file_that_only_begins_like_a_journal_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "odd.journal"
    path.write_bytes(b'{"format":"noduleserve.journal",' + b"x" * 5000)
    with pytest.raises(JournalError, match="Line 1"):
        Journal.open(path)
    assert path.stat().st_size == 5000 + 32


def test_lines_of_the_journal_are_counted_from_one(path: Path) -> None:
    with path.open("rb") as file:
        assert [line.number for line in lines_of(file.fileno())] == [1, 2, 3, 4, 5]
