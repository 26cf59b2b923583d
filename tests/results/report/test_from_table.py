"""results.csv is read back as it was written, and what is not as it was written is refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from report_making import INFO, WHEN, failed, score_of, scored

from noduleserve.ct.doubt import InputWarning
from noduleserve.errors import NoduleserveError
from noduleserve.results.base import Head
from noduleserve.results.csv_table import CsvWriter
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.report.from_table import ResultsTable
from noduleserve.results.report.night import gather

COLUMNS = ("pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ", "Manufacturer", "SliceThickness")
INPUT = {"Manufacturer": "GE", "SliceThickness": "2.5"}


def write(path: Path, outcomes: Sequence[Outcome], info: ReleaseInfo = INFO, columns: Sequence[str] = COLUMNS) -> Path:
    writer = CsvWriter(str(path), Head(tuple(columns), info))
    writer.begin()
    for number, outcome in enumerate(outcomes):
        writer.add(outcome, WHEN + timedelta(seconds=number))
    writer.finish()
    return path


def test_scores_reasons_times_and_scanner_come_back(tmp_path: Path) -> None:
    wide = InputWarning("SPACING_WIDE", "Voxels are 3 mm apart.", "Prefer a finer one.")
    first = dataclasses.replace(scored(0, views=False, **INPUT), warnings=(wide,), series_uid="1.2.3")
    second = failed(1, "The box ends early. Mend: Send more.")
    info = dataclasses.replace(INFO, notice="Untrained.")
    table = ResultsTable(write(tmp_path / "results.csv", [first, second], info), root=tmp_path / "ct")
    (one, at), (two, later) = table.outcomes()
    before, after = score_of(first), score_of(one)
    assert np.array_equal(after.raw, before.raw) and np.array_equal(after.calibrated, before.calibrated)
    assert np.array_equal(after.semantic, before.semantic) and after.release == "rel-7"
    assert after.malignancy == pytest.approx(before.malignancy, abs=1e-8)
    assert np.isnan(after.view_attention).all() and after.view_attention.shape == (3, 9)
    assert one.nodule.columns == {name: first.nodule.columns[name] for name in COLUMNS}
    assert one.nodule.center == (1.5, -2.25, 30.0)
    assert one.nodule.image_path == tmp_path / "ct" / "series" / "0"
    assert one.series_uid == "1.2.3" and one.scanner == INPUT
    assert [warning.code for warning in one.warnings] == ["SPACING_WIDE"]
    assert (two.error_code, two.error, two.score) == ("BOX_SHORT", "The box ends early. Mend: Send more.", None)
    assert (at, later) == (WHEN.timestamp(), WHEN.timestamp() + 1)
    assert table.labels == INFO.labels and table.notice == "Untrained."
    night = gather(table.outcomes())
    assert (night.scored, night.parked, night.releases) == (1, 1, {"rel-7": 1})
    assert table.lacks == ["A results table has no attention of views, and no time of stages; the journal has both."]


def test_a_release_without_calibration_has_its_raw_mean(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, calibrated=False)
    table = ResultsTable(write(tmp_path / "r.csv", [scored(0, calibrated=False, views=False)], info))
    ((outcome, _),) = table.outcomes()
    score = score_of(outcome)
    assert score.malignancy == pytest.approx(float(score.raw.mean()), abs=1e-7)
    assert np.isnan(score.calibrated).all()


def test_a_table_of_before_lacks_times_and_scanner_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", [scored(0, views=False)], columns=COLUMNS[:6])
    lines = [line.split(",")[:-3] for line in path.read_text().splitlines()]  # the last three are of later versions
    old = tmp_path / "old.csv"
    old.write_text("\n".join(",".join(line) for line in lines))
    table = ResultsTable(old)
    ((outcome, at),) = table.outcomes()
    assert math.isnan(at) and outcome.score is not None and not outcome.scanner
    said = " ".join(table.lacks)
    assert "throughput is not known" in said and "no scanner" in said


@pytest.mark.parametrize(
    ("edit", "code", "why"),
    [
        (("status", "state"), "RESULTS_COLUMNS", "lacks the columns status"),
        (("coordX", "pid"), "RESULTS_COLUMNS", "lacks the columns coordX"),
        (("rel-7,scored,,", "rel-7,scored,CODE,"), "RESULTS_STATUS", "row 1 has neither a score nor a code"),
        (("rel-7,scored", "rel-7"), "RESULTS_UNREADABLE", "row 1 has"),
        (("0.0", "x"), "RESULTS_SCORE", "row 1 has no probability in its column"),
        (("0.1", "7.1"), "RESULTS_SCORE", "row 1 has no probability in its column"),
        (("2026-03-04T", "yesterday "), "RESULTS_UNREADABLE", "row 1 has no time"),
        (("SPACING_WIDE", "SPACING_ODD"), "RESULTS_UNREADABLE", "row 1 has a warning"),
        (("P000", '"P000'), "RESULTS_UNREADABLE", "not CSV"),
    ],
)
def test_a_table_that_was_edited_is_refused(tmp_path: Path, edit: tuple[str, str], code: str, why: str) -> None:
    wide = InputWarning("SPACING_WIDE", "Voxels are 3 mm apart.", "")
    path = write(tmp_path / "r.csv", [dataclasses.replace(scored(0, views=False), warnings=(wide,))])
    text = path.read_text()
    assert edit[0] in text
    path.write_text(text.replace(*edit))
    with pytest.raises(NoduleserveError, match=why) as caught:
        list(ResultsTable(path).outcomes())
    assert caught.value.code == code


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00p")
    for path in (tmp_path / "r.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(NoduleserveError) as caught:
            ResultsTable(path)
        assert caught.value.code == "RESULTS_UNREADABLE"
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(NoduleserveError) as caught:
        ResultsTable(tmp_path / "empty.csv")
    assert caught.value.code == "RESULTS_COLUMNS"
