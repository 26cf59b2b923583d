"""The cases are what a client would send, and what cannot be read is left out aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noduleserve.benchmarks.rivals.cases import cases_of
from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import WorklistError
from noduleserve.preprocessing import required_box
from noduleserve.worklist.table import read_worklist


def test_a_case_is_the_box_that_a_client_sends(worklist: Path) -> None:
    nodules = read_worklist(worklist)
    cases = cases_of(nodules)
    assert len({case.name for case in cases}) == len(nodules) == 5
    volume = open_volume(nodules[2].image_path)
    assert nodules[2].center is not None
    box = required_box(volume.geometry, nodules[2].center)
    assert cases[2].name == f"{nodules[2].pid}/{nodules[2].nodule_id}"
    np.testing.assert_array_equal(cases[2].voxels, volume.read_box(box))
    assert all(case.voxels.std() > 100 and case.views.shape == (9, 50, 50) for case in cases)


def test_names_stay_apart_and_what_cannot_be_read_is_told(worklist: Path) -> None:
    nodules = read_worklist(worklist)
    twice = [nodules[0], replace(nodules[0], number=7)]
    lost = [replace(nodules[1], center=(9e3, 0, 0)), replace(nodules[1], image_path=worklist.parent / "none")]
    lines: list[str] = []
    cases = cases_of([*twice, *lost], tell=lines.append)
    assert [case.name for case in cases] == ["PHANTOM-001/N1", "PHANTOM-001/N1 #7"]
    assert len(lines) == 2 and "CENTER_OUTSIDE" in lines[0] and "SERIES_NOT_FOUND" in lines[1]
    with pytest.raises(WorklistError, match="CASES_NONE"):
        cases_of(lost)


def test_no_more_than_asked_for(worklist: Path) -> None:
    lines: list[str] = []
    assert len(cases_of(read_worklist(worklist), most=2, tell=lines.append)) == 2
    assert len(lines) == 1
