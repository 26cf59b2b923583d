"""`noduleserve journal`: what it says, and that it says nothing of a patient."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from outcome_making import parked, run, scored
from typer.testing import CliRunner

from noduleserve.commands.journal import journal as command
from noduleserve.errors import JournalError
from noduleserve.journal.journal import Journal


def call(*arguments: object) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, JournalError):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "night.journal"
    with Journal.open(path) as journal:
        many = [scored(1), scored(2, "ns-2"), parked(3), parked(4), parked(5, "SERIES_UNREADABLE")]
        journal.append_all([run(7), *many])
    return path


def damage(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"p", b"q", 1)
    path.write_bytes(b"".join(lines))


def test_counts_releases_and_rows(path: Path) -> None:
    status, output = call(path)
    assert status == 0
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert lines[:5] == [
        "5 nodules: 2 scored, 3 parked",
        "2 CENTER_OUTSIDE",
        "1 SERIES_UNREADABLE",
        "release ns-1: 1 scored, 3 parked",
        "release ns-2: 1 scored, 0 parked",
    ]
    assert lines[5].startswith("from 20") and lines[5].endswith("UTC")
    assert lines[6].startswith("last run: tonight.csv") and lines[6].endswith("; 5 of 7 rows have an outcome")
    assert "p1" not in output and "says" not in output


def test_a_torn_end_is_told_and_left(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])
    before = path.read_bytes()
    status, output = call(path, "--verify")
    assert status == 0
    assert "torn end, never counted" in output
    assert "4 nodules: 2 scored, 2 parked" in output
    assert path.read_bytes() == before


def test_verify_lists_every_damaged_line_and_mend_leaves_them_out(path: Path) -> None:
    damage(path, 3)
    damage(path, 5)
    with pytest.raises(JournalError, match="Line 3"):
        call(path)
    status, output = call(path, "--verify")
    assert status == 1
    assert "line 3, " in output and "line 5, " in output and "5 lines are as they were written, 2 are not" in output
    status, output = call(path, "--mend")
    assert status == 0
    assert "2 of the lines left out; the journal as it was is kept as night.journal.1" in output
    assert "3 nodules: 1 scored, 2 parked" in output
    assert "nothing was changed" in call(path, "--mend")[1]
    assert call(path, "--verify")[0] == 0


def test_both_at_once_is_a_wrong_call(path: Path) -> None:
    assert call(path, "--verify", "--mend")[0] == 2
