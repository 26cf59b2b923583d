"""The results table: every row once, in the worklist's order, on disk as soon as it can be."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from noduleserve.ct.doubt import InputWarning
from noduleserve.errors import NoduleserveError
from noduleserve.results.csv_table import ResultsCsv
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import Nodule, is_result_column

INFO = ReleaseInfo("", folds=2, calibrated=True, labels=("margin.smooth", "margin.rough"))
COLUMNS = ["pid", "remark, with comma"]
ADDED_COLUMNS = ["ct_series_uid", "outcome_at", "notice"]


def outcome(number: int, *, error: str = "", calibrated: bool = True) -> Outcome:
    columns = {COLUMNS[0]: f"p{number}", COLUMNS[1]: f'says "{number}",\nand more'}
    nodule = Nodule(number, columns, f"p{number}", "1", Path("/ct"), (0.0, 0.0, 0.0))
    if error:
        return Outcome(nodule, error_code=error, error=f"{error}, which is bad. Mend: Do better.")
    raw = np.float32([0.1, number / 7])
    score = Score(
        malignancy=0.5,
        raw=raw,
        calibrated=raw / 2 if calibrated else np.full(2, np.nan, np.float32),
        semantic=np.float32([0.3, 0.7]),
        embedding=np.zeros((2, 256), np.float32),
        view_attention=np.zeros((2, 9), np.float32),
        release="ns-1",
    )
    return Outcome(nodule, score)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_and_cells(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with ResultsCsv(path, COLUMNS, INFO) as table:
        table.add(outcome(0))
        table.add(outcome(1, error="CENTER_OUTSIDE"))
    first, second = read(path)
    scores = ["raw_0", "raw_1", "ensemble", "calibrated_0", "calibrated_1", "calibrated_ensemble"]
    semantic = ["semantic.margin.smooth", "semantic.margin.rough"]
    status = ["release", "status", "error_code", "error", "warnings"]
    assert list(first) == [*COLUMNS, *scores, *semantic, *status, *ADDED_COLUMNS]
    assert [first[c] for c in COLUMNS] == ["p0", 'says "0",\nand more']
    assert [first[c] for c in status] == ["ns-1", "scored", "", "", ""]
    assert {second[c] for c in scores + semantic} == {""}
    assert [second[c] for c in status] == [
        "", "failed", "CENTER_OUTSIDE", "CENTER_OUTSIDE, which is bad. Mend: Do better.", "",
    ]  # fmt: skip
    assert all(is_result_column(name) for name in scores + semantic + status)  # a worklist must not have them


def test_warnings_stand_beside_the_score_or_the_error(tmp_path: Path) -> None:
    wide = InputWarning("SPACING_WIDE", "Voxels are 3 mm apart.", "Prefer a finer one.")
    air = InputWarning("CENTER_IN_AIR", "All is air.", "Look at it.")
    with ResultsCsv(tmp_path / "r.csv", COLUMNS, INFO) as table:
        table.add(dataclasses.replace(outcome(0), warnings=(wide, air)))
        table.add(dataclasses.replace(outcome(1, error="SERVER_LOST"), warnings=(air,)))
        table.add(outcome(2))
    rows = read(tmp_path / "r.csv")
    assert [row["warnings"] for row in rows] == ["SPACING_WIDE;CENTER_IN_AIR", "CENTER_IN_AIR", ""]
    assert [row["status"] for row in rows] == ["scored", "failed", "scored"]


def test_numbers_survive_to_the_last_bit_of_float32(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with ResultsCsv(path, COLUMNS, INFO) as table:
        table.add(outcome(0))
        for number in range(1, 7):
            table.add(outcome(number))
    for number, row in enumerate(read(path)):
        score = outcome(number).score
        assert score
        assert np.float32(row["raw_1"]) == score.raw[1]
        assert np.float32(row["calibrated_1"]) == score.calibrated[1]
        assert float(row["ensemble"]) == pytest.approx(score.raw.astype(float).mean(), abs=1e-9)
        assert float(row["calibrated_ensemble"]) == pytest.approx(score.calibrated.astype(float).mean(), abs=1e-9)


def test_without_a_calibration_its_columns_are_empty(tmp_path: Path) -> None:
    with ResultsCsv(tmp_path / "r.csv", COLUMNS, INFO) as table:
        table.add(outcome(0, calibrated=False))
    (row,) = read(tmp_path / "r.csv")
    assert row["calibrated_0"] == row["calibrated_1"] == row["calibrated_ensemble"] == ""
    assert row["raw_0"] == "0.100000001"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_rows_in_the_worklists_order_whenever_they_come(tmp_path: Path, order: tuple[int, ...]) -> None:
    path, part = tmp_path / "results.csv", tmp_path / "results.csv.part"
    with ResultsCsv(path, COLUMNS, INFO) as table:
        for count, number in enumerate(order, start=1):
            table.add(outcome(number, error="" if number % 2 else "SERVER_LOST"))
            came = order[:count]
            complete = next(n for n in range(5) if n not in came)  # all before it are there
            assert [row["pid"] for row in read(part)] == [f"p{n}" for n in range(complete)]
        assert not path.exists()
    assert [row["pid"] for row in read(path)] == ["p0", "p1", "p2", "p3"]
    assert not part.exists()


def test_a_run_that_breaks_off_leaves_what_came_and_the_older_table(tmp_path: Path) -> None:
    path, part = tmp_path / "results.csv", tmp_path / "results.csv.part"
    path.write_text("last night's\n")
    with pytest.raises(KeyboardInterrupt), ResultsCsv(path, COLUMNS, INFO) as table:
        for number in (0, 3, 2):
            table.add(outcome(number))
        raise KeyboardInterrupt
    assert path.read_text() == "last night's\n"
    assert [row["pid"] for row in read(part)] == ["p0", "p2", "p3"]


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    with ResultsCsv(tmp_path / "a" / "b" / "r.csv", COLUMNS, INFO) as table:
        table.add(outcome(0))
    assert len(read(tmp_path / "a" / "b" / "r.csv")) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file" / "r.csv"):
        with pytest.raises(NoduleserveError) as raised, ResultsCsv(path, COLUMNS, INFO):
            pytest.fail("it was opened")
        assert raised.value.code == "RESULTS_UNWRITABLE"
        assert str(path) in raised.value.what
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
