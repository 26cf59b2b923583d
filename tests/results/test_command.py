"""`noduleserve results`: any output, at any time, from a real journal."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from outcome_making import nodule, parked, run, scored
from typer.testing import CliRunner

from noduleserve.commands.results import render, results
from noduleserve.errors import JournalError, ResultsError
from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal
from noduleserve.journal.record import RowRecord


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Four rows: scored, parked, a twin of the first, scored; written in another order."""
    path = tmp_path / "night.journal"
    with Journal.open(path) as opened:
        opened.append(run(4))
        for record in (scored(3), parked(1), scored(0)):
            opened.append(record)
        opened.flush()
        opened.append(RowRecord(scored(0).key, replace(nodule(0), number=2)))
    return path


def command(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(results)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output, done.exception


def test_any_number_of_outputs_in_the_worklists_order(tmp_path: Path, journal: Path) -> None:
    table, lines = tmp_path / "r.csv", tmp_path / "r.jsonl"
    status, output, _ = command(journal, "--out", table, "--out", lines, "--embedding")
    assert status == 3  # one is parked
    assert f"{table}: 4 nodules\n{lines}: 4 nodules\n" in output
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["pid"] for row in rows] == ["p0", "p1", "p0", "p3"]
    assert [row["error_code"] for row in rows] == ["", "CENTER_OUTSIDE", "", ""]
    assert all(row["outcome_at"].endswith("Z") and row["notice"] == "made up" for row in rows)
    objects = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(objects[0]["embedding"][0]) == 256 and objects[0]["raw"] == objects[2]["raw"]
    again = tmp_path / "again.csv"
    command(journal, "--out", again)
    assert again.read_bytes() == table.read_bytes()


def test_a_run_that_broke_off_is_written_only_where_asked_for(tmp_path: Path) -> None:
    path, table = tmp_path / "night.journal", tmp_path / "r.csv"
    with Journal.open(path) as opened:
        opened.append(run(3))
        opened.append(scored(1))
    _, _, error = command(path, "--out", table)
    assert isinstance(error, ResultsError) and error.code == "RUN_INCOMPLETE" and "2 of 3 rows" in error.what
    assert not table.exists()
    status, output, _ = command(path, "--out", table, "--partial")
    assert status == 3 and "2 rows of the worklist have no outcome" in output
    assert len(table.read_text().splitlines()) == 3  # one cell has a line break


def test_a_journal_without_a_run_has_no_results(tmp_path: Path) -> None:
    Journal.open(tmp_path / "j").close()
    with Contents.open(tmp_path / "j") as contents, pytest.raises(ResultsError) as raised:
        render(contents, [tmp_path / "r.csv"], partial=True)
    assert raised.value.code == "RUN_INCOMPLETE"


def test_all_scored_and_no_journal_at_all(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as opened:
        opened.append(run(1))
        opened.append(scored(0))
    assert command(tmp_path / "j", "--out", tmp_path / "r.sqlite")[0] == 0
    _, _, error = command(tmp_path / "none", "--out", tmp_path / "r.csv")
    assert isinstance(error, JournalError) and error.code == "JOURNAL_NOT_FOUND"


def test_a_damaged_journal_gives_no_table(tmp_path: Path, journal: Path) -> None:
    table = tmp_path / "r.csv"
    with Contents.open(journal) as contents, pytest.raises(JournalError):
        data = bytearray(journal.read_bytes())
        data[data.index(b'"outcome"') + 40] ^= 1
        journal.write_bytes(data)
        render(contents, [table])
    assert not table.exists() and not list(tmp_path.glob("*.part"))
