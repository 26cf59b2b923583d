"""The key of a nodule: computable by anyone from the specification, and no two things under one key."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcome_making import nodule

from noduleserve.journal.key import Key, key_of, stamp_of, worklist_digest
from noduleserve.worklist.table import Nodule


def test_the_digest_is_that_of_the_text_that_the_specification_gives() -> None:
    key = Key("1.2.3", 'n"1 ü', ("-59.67", "1e-05", "0.1"), "ns-1", "1")
    text = (
        '{"center":["-59.67","1e-05","0.1"],"nodule_id":"n\\"1 \\u00fc","preprocessing":"1","release":"ns-1",'
        '"series":"1.2.3"}'
    )
    assert key.canonical == text.encode("ascii")
    assert key.text == hashlib.sha256(text.encode("ascii")).hexdigest()


@given(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3))
def test_centres_are_kept_to_the_last_bit(center: tuple[float, float, float]) -> None:
    row = dataclasses.replace(nodule(0), center=center)
    assert tuple(float(text) for text in key_of(row, "r", "1", series_uid="1.2").center) == center


def test_the_next_number_is_another_key_and_minus_zero_is_none() -> None:
    row = dataclasses.replace(nodule(0), center=(1.0, 2.0, 0.0))
    near = dataclasses.replace(row, center=(1.0, math.nextafter(2.0, 3), 0.0))
    minus = dataclasses.replace(row, center=(1.0, 2.0, -0.0))
    mine, other, same = (key_of(r, "r", "1", series_uid="1.2").text for r in (row, near, minus))
    assert mine != other
    assert mine == same


def test_every_part_counts() -> None:
    base = key_of(nodule(1), "r", "1", series_uid="1.2")
    others = [
        key_of(nodule(1), "s", "1", series_uid="1.2"),
        key_of(nodule(1), "r", "2", series_uid="1.2"),
        key_of(nodule(1), "r", "1", series_uid="1.3"),
        key_of(nodule(1), "r", "1"),
        key_of(nodule(1), "r", "1", stamp="5-7"),
        key_of(nodule(1, image="/ct/b"), "r", "1"),
        key_of(dataclasses.replace(nodule(1), series_uid="1.9"), "r", "1"),
        key_of(dataclasses.replace(nodule(1), nodule_id="x"), "r", "1", series_uid="1.2"),
    ]
    assert len({key.text for key in [base, *others]}) == len(others) + 1


def test_number_and_further_columns_do_not_count() -> None:
    row = nodule(1)
    moved = dataclasses.replace(row, number=7, columns={**row.columns, "remark": "new"})
    assert key_of(row, "r", "1", series_uid="1.2") == key_of(moved, "r", "1", series_uid="1.2")


def test_a_row_that_cannot_be_used_never_meets_one_that_can() -> None:
    good = dataclasses.replace(nodule(1), center=(1.0, 2.0, 3.0))
    cells = {**good.columns, "coordX": "1.0", "coordY": "2.0", "coordZ": "3.0"}
    bad = dataclasses.replace(good, columns=cells, center=None, problem="The row has 9 cells, the header 7.")
    doubtful = dataclasses.replace(good, columns=cells, problem="series_uid is 'x', not a DICOM UID.")
    keys = {key_of(row, "r", "1").text for row in (good, bad, doubtful)}
    assert len(keys) == 2  # the two bad ones are as bad as each other
    assert key_of(bad, "r", "1").center == ("cell:1.0", "cell:2.0", "cell:3.0")


def test_the_series_uid_is_there_only_where_it_was_learned() -> None:
    assert key_of(nodule(1), "r", "1", series_uid="1.2").series_uid == "1.2"
    assert key_of(nodule(1), "r", "1").series_uid == ""
    assert key_of(nodule(1, problem="bad"), "r", "1", series_uid="1.2").series_uid == ""


def test_the_stamp_tells_another_file_under_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    assert stamp_of(file) == ""
    file.write_bytes(b"12345")
    before = stamp_of(file)
    assert before.startswith("5-")
    os.utime(file, ns=(1, 1))
    assert stamp_of(file) == "5-1" != before
    assert stamp_of(tmp_path).startswith("0-")
    assert stamp_of(Path("a\0b")) == ""


@pytest.mark.parametrize("change", ["cell", "order", "place", "rows"])
def test_the_digest_of_a_worklist_tells_any_change(change: str) -> None:
    rows = [nodule(0), nodule(1)]

    def changed() -> list[Nodule]:
        first = rows[0]
        return {
            "cell": [dataclasses.replace(first, columns={**first.columns, "pid": "x"}), rows[1]],
            "order": rows[::-1],
            "place": [dataclasses.replace(first, image_path=Path("/b")), rows[1]],
            "rows": rows[:1],
        }[change]

    assert worklist_digest(rows) == worklist_digest([nodule(0), nodule(1)])
    assert worklist_digest(rows) != worklist_digest(changed())
