"""Damaged DICOM series by the thousand: each ends in views or in a code, soon, and without eating the memory."""

from __future__ import annotations

from collections import Counter

import pytest
from fuzzing.mutations import KINDS, damaged
from fuzzing.run import Case, run

SHARD, SHARDS = 500, 4


@pytest.mark.parametrize("first", [shard * SHARD for shard in range(SHARDS)])
def test_damaged_series(first: int) -> None:
    cases = list(run(first, SHARD))
    assert [case.number for case in cases] == list(range(first, first + SHARD))
    assert [case for case in cases if case.failed] == []
    # The damage does its work, and does not always: both ways out are walked.
    ends = Counter(case.end for case in cases)
    assert SHARD // 10 < ends["views"] < SHARD * 9 // 10
    assert len(ends) > 5 and len({case.kind for case in cases}) == len(set(KINDS))


def test_damage_can_be_repeated() -> None:
    data = bytes(range(256)) * 16
    assert [damaged(seed, data) for seed in range(50)] == [damaged(seed, data) for seed in range(50)]
    assert all(damaged(seed, data)[1] != data for seed in range(50))


def test_a_failure_is_told_from_an_end() -> None:
    ends = {"views": False, "TAG_INVALID": False, "CRASH": True, "SURPRISE KeyError: 1": True}
    assert {end: Case(0, "", "", end).failed for end in ends} == ends
    assert Case(0, "", "", "views", megabytes=1000).failed
