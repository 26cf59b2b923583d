"""A folder of SRs among the outputs: the outcomes of each series together, whatever the worklist calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from pydicom import dcmread
from pydicom.dataset import FileDataset

from noduleserve.errors import ResultsError
from noduleserve.results.base import Head
from noduleserve.results.outcome import Outcome
from noduleserve.results.outputs import check_writable, open_writers

MakeOutcome = Callable[..., Outcome]
Place = Callable[..., Outcome]


def make_series(folder: Path, uid: str) -> Path:
    def describe(z: int, image: FileDataset) -> None:
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", uid
        image.SOPInstanceUID = f"{uid}.{z}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID

    return write_series(folder, np.zeros((21, 21, 21), np.int16), edit=describe)


@pytest.fixture
def place(tmp_path: Path, make_outcome: MakeOutcome) -> Place:
    """Makes the outcome of a nodule in a series of `tmp_path`."""

    def make(number: int, image: Path, read: str = "", asked: str = "", error: str = "") -> Outcome:
        outcome = make_outcome(number, error=error, calibrated=True)
        nodule = replace(outcome.nodule, image_path=image, series_uid=asked, center=(10.0, 10.0, 5.0 + number))
        return replace(outcome, nodule=nodule, series_uid=read)

    return make


def groups_of(path: Path) -> int:
    """Measurement groups of an SR."""
    (measurements,) = [i for i in dcmread(path).ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return len(measurements.ContentSequence)


def test_one_sr_a_series_beside_the_tables(tmp_path: Path, head: Head, place: Place) -> None:
    both = tmp_path / "both"
    make_series(both / "a", "1.2.8")
    make_series(both / "b", "1.2.9")
    outcomes = [
        place(0, both, "1.2.8", "1.2.8"),
        place(1, both, "1.2.9", "1.2.9"),
        place(2, both / "a", "1.2.8"),
        place(3, both / "a", error="WORKLIST_ROW"),  # names no series, but lies in the only one there
        place(4, both, "1.2.8", "1.2.8", error="SERVER_LOST"),
        place(5, tmp_path / "away", error="SERIES_NOT_FOUND"),
    ]
    check_writable([f"{tmp_path}/sr/", tmp_path / "r.csv"])
    with open_writers([f"{tmp_path}/sr/", tmp_path / "r.csv"], head) as writers:
        for outcome in outcomes:
            writers.add(outcome)
        assert list((tmp_path / "sr").iterdir()) == []
    assert [written.rows for written in writers.written] == [6, 6]
    assert writers.written[0].remarks == ()
    srs = sorted((tmp_path / "sr").iterdir())
    assert [sr.name for sr in srs] == ["1.2.8.1.dcm", "1.2.9.1.dcm"]
    assert [groups_of(sr) for sr in srs] == [2, 1]
    data = srs[0].read_bytes()
    assert b"2 scored, 2 not scored" in data and b"[SERVER_LOST]" in data and b"[WORKLIST_ROW]" in data


def test_a_series_that_is_gone_is_a_remark(tmp_path: Path, head: Head, place: Place) -> None:
    make_series(tmp_path / "here", "1.2.8")
    (tmp_path / "sr").mkdir()
    with open_writers([tmp_path / "sr"], head) as writers:
        writers.add(place(0, tmp_path / "away", "1.2.7"))
        writers.add(place(1, tmp_path / "here", "1.2.8"))
    (written,) = writers.written
    (remark,) = written.remarks
    assert written.lacking == 1
    assert remark.startswith("No SR for row 1: [SERIES_NOT_FOUND]")
    assert [sr.name for sr in (tmp_path / "sr").iterdir()] == ["1.2.8.1.dcm"]


def test_a_block_that_ends_in_an_error_writes_no_sr(tmp_path: Path, head: Head, place: Place) -> None:
    make_series(tmp_path / "here", "1.2.8")
    with pytest.raises(KeyboardInterrupt), open_writers([f"sr:{tmp_path / 'sr'}"], head) as writers:
        writers.add(place(0, tmp_path / "here", "1.2.8"))
        raise KeyboardInterrupt
    assert list((tmp_path / "sr").iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError) as raised:
        check_writable([f"sr:{tmp_path / 'file' / 'sr'}"])
    assert raised.value.code == "OUTPUT_NOT_WRITTEN"
