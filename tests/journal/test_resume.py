"""A night that is taken up again: nothing twice, nothing stale."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from outcome_making import RELEASE, bits, nodule, run, score

from noduleserve.journal.journal import Journal
from noduleserve.journal.record import RowRecord
from noduleserve.journal.resume import Resume
from noduleserve.results.outcome import Outcome


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "night.journal") as journal:
        journal.append_all([run(4)])
        yield journal


def test_what_is_done_is_handed_on_with_the_rows_own_columns(journal: Journal) -> None:
    resume = Resume(journal, RELEASE, "1")
    assert resume.done(nodule(1), "1.2") is None
    journal.append_all([resume.record(Outcome(nodule(1), score(1), series_uid="1.2"))])
    twin = dataclasses.replace(nodule(1), number=3, columns={**nodule(1).columns, "remark, with comma": "twin"})
    done = resume.done(twin, "1.2")
    assert done is not None and done.score is not None
    assert (done.nodule, done.resumed, done.series_uid) == (twin, True, "1.2")
    assert bits(done.score) == bits(score(1))
    record = resume.record(done)
    assert isinstance(record, RowRecord)
    journal.append_all([record])
    assert [row.outcome.nodule for row in journal.rows()] == [nodule(1), twin]
    assert resume.done(nodule(1), "1.3") is None
    assert resume.done(nodule(1), "") is None


@pytest.mark.parametrize(("release", "preprocessing"), [("ns-2", "1"), (RELEASE, "2")])
def test_another_release_or_preprocessing_scores_anew(journal: Journal, release: str, preprocessing: str) -> None:
    journal.append_all([Resume(journal, RELEASE, "1").record(Outcome(nodule(1), score(1), series_uid="1.2"))])
    assert Resume(journal, release, preprocessing).done(nodule(1), "1.2") is None


def test_parked_ones_are_tried_again_where_asked_for(journal: Journal) -> None:
    resume = Resume(journal, RELEASE, "1")
    outcomes = [
        Outcome(nodule(1), error_code="CENTER_OUTSIDE", error="It lies outside.", series_uid="1.2"),
        Outcome(nodule(2), score(2), series_uid="1.2"),
    ]
    journal.append_all([resume.record(outcome) for outcome in outcomes])
    parked = resume.done(nodule(1), "1.2")
    assert parked is not None and parked.error_code == "CENTER_OUTSIDE"
    again = Resume(journal, RELEASE, "1", retry_parked=True)
    assert again.done(nodule(1), "1.2") is None
    assert again.done(nodule(2), "1.2") is not None


def test_a_file_that_was_replaced_is_scored_again(journal: Journal, tmp_path: Path) -> None:
    image = tmp_path / "a.nii"
    image.write_bytes(b"volume")
    row = nodule(1, image=str(image))
    resume = Resume(journal, RELEASE, "1")
    assert resume.done(row, "") is None
    os.utime(image, ns=(5, 5))  # while it is read: what was read was the old one
    journal.append_all([resume.record(Outcome(row, score(1)))])
    assert resume.done(row, "") is not None
    assert Resume(journal, RELEASE, "1").done(row, "") is None


def test_a_series_that_was_not_there_is_tried_once_it_is(journal: Journal, tmp_path: Path) -> None:
    row = nodule(1, image=str(tmp_path / "late"))
    missing = Outcome(row, error_code="SERIES_NOT_FOUND", error="There is no series.")
    journal.append_all([Resume(journal, RELEASE, "1").record(missing)])
    assert Resume(journal, RELEASE, "1").done(row, "") is not None
    (tmp_path / "late").mkdir()
    assert Resume(journal, RELEASE, "1").done(row, "") is None


def test_a_row_that_cannot_be_used_keeps_its_reason_and_gives_no_other_row_anything(journal: Journal) -> None:
    bad = nodule(1, problem="The row has 9 cells, the header 7.")
    resume = Resume(journal, RELEASE, "1")
    journal.append_all([resume.record(Outcome(bad, error_code="WORKLIST_ROW", error=bad.problem))])
    assert resume.done(bad, "") is not None
    assert resume.done(nodule(1), "") is None
