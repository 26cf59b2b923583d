"""A series of one's own in the demo: its nodules come from a CSV, and what cannot be used says how to mend it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noduleserve.cli import app
from noduleserve.demo.command import make_worklist
from noduleserve.errors import WorklistError
from noduleserve.worklist.own_series import own_worklist
from noduleserve.worklist.table import read_worklist


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the phantom's series and worklist."""
    folder = tmp_path_factory.mktemp("phantom")
    make_worklist(folder)
    return folder


def test_what_the_file_does_not_say_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    file = tmp_path / "places.csv"
    file.write_text("nodule_id;coordX;coordY;coordZ;kind;ensemble\na;1;2;3;solid;0.9\nb;4;5;6;;0.1\n", "utf-8-sig")
    worklist = own_worklist(tmp_path / "ct", file, tmp_path / "out")
    nodules = read_worklist(worklist)
    assert [(n.pid, n.nodule_id, n.image_path, n.center) for n in nodules] == [
        ("ct", "a", tmp_path / "ct", (1.0, 2.0, 3.0)),
        ("ct", "b", tmp_path / "ct", (4.0, 5.0, 6.0)),
    ]
    assert [n.columns["kind"] for n in nodules] == ["solid", ""]
    assert "ensemble" not in nodules[0].columns


def test_the_ids_of_a_worklist_stay_and_its_paths_do_not(tmp_path: Path) -> None:
    file = tmp_path / "worklist.csv"
    file.write_text("pid,nodule_id,image_path,coordX,coordY,coordZ\nP1,a,elsewhere,1,2,3\n")
    nodule = read_worklist(own_worklist(tmp_path / "ct", file, tmp_path / "out"))[0]
    assert (nodule.pid, nodule.image_path) == ("P1", tmp_path / "ct")


def test_a_row_with_a_cell_too_many_is_not_scored_at_a_wrong_place(tmp_path: Path) -> None:
    file = tmp_path / "places.csv"
    file.write_text("nodule_id,coordX,coordY,coordZ\na,1,5,2,3\nb,1,2\nc,4,5,6\n")
    shifted, short, right = read_worklist(own_worklist(tmp_path / "ct", file, tmp_path / "out"))
    assert shifted.center is None and "cells" in shifted.problem
    assert short.center is None and "cells" in short.problem
    assert (right.center, right.problem) == ((4.0, 5.0, 6.0), "")


@pytest.mark.parametrize("column", ["pid", "image_path", "series_uid"])
def test_places_in_other_scans_are_refused(tmp_path: Path, column: str) -> None:
    file = tmp_path / "places.csv"
    file.write_text(f"nodule_id,coordX,coordY,coordZ,{column}\na,1,2,3,first\nb,4,5,6,second\n")
    with pytest.raises(WorklistError, match="WORKLIST_SEVERAL"):
        own_worklist(tmp_path, file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "WORKLIST_NOT_FOUND"),
        (b"nodule_id,coordX\na,1\n", "WORKLIST_COLUMNS"),
        (b"\xff\xfea", "WORKLIST_UNREADABLE"),
    ],
)
def test_what_is_no_table_of_places_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / "places.csv").write_bytes(content)
    with pytest.raises(WorklistError) as refused:
        own_worklist(tmp_path, tmp_path / "places.csv", tmp_path / "out")
    assert refused.value.code == code


def test_one_option_without_the_other_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--series", str(tmp_path)])
    assert result.exit_code == 2 and "go together" in result.output


def test_a_series_is_scored_by_the_places_in_a_file(phantom: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((phantom / "worklist-7.csv").open()))[:2]
    places = tmp_path / "places.csv"
    with places.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["nodule_id", "coordX", "coordY", "coordZ"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out"
    said = CliRunner().invoke(
        app, ["demo", "--series", str(phantom / "ct-7"), "--nodules", str(places), "--out", str(out)]
    )
    assert said.exit_code == 0, said.output
    scored = list(csv.DictReader((out / "results.csv").open()))
    assert [(row["pid"], row["nodule_id"], row["status"]) for row in scored] == [
        ("ct-7", row["nodule_id"], "scored") for row in rows
    ]
    assert "phantom" not in said.stdout and "ct-7" in (out / "report.html").read_text()
