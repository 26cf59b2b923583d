"""`noduleserve bench serving` with the real Triton: its own counts are the load's."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import command, living
from typer.testing import CliRunner

from noduleserve.benchmarks.record.files import read_record
from noduleserve.benchmarks.record.record import Record
from noduleserve.cli import app
from noduleserve.demo.command import RELEASE

for package in ("psutil", "scipy", "matplotlib"):
    pytest.importorskip(package, reason="the benchmarks are of the extra bench")

CALLS = 6


def environment_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:  # it ended just now, or is another's
        return ""


@pytest.fixture(scope="module")
def record(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("serving")
    out, temporary = folder / "out", folder / "tmp"
    temporary.mkdir()
    line = ("--calls", CALLS, "--concurrency", "1,3", "--rates", 20, "--per-second", "--rivals", "none", "--out", out)
    done = command("bench", "serving", tiny_release, *line, timeout=280.0, TMPDIR=str(temporary))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "3 in flight, turn 2 of 2: noduleserve, stream, 3 calls" in done.stderr
    assert "Closed loop" in done.stdout and "Open loop" in done.stdout
    assert [process for process in living() if str(temporary) in environment_of(process.pid)] == []
    assert list(temporary.glob("noduleserve-*")) == []
    return read_record(out)


def rows_of(record: Record, name: str) -> list[dict[str, object]]:
    (table,) = [table for table in record.tables if table.name == name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_all_scores_are_right_and_every_call_is_counted(record: Record) -> None:
    rows = rows_of(record, "closed-loop")
    assert [(row["way"], row["in_flight"]) for row in rows] == [
        (way, callers) for callers in (1, 3) for way in ("noduleserve, stream", "bare encoder")
    ]
    for row in rows + rows_of(record, "open-loop"):
        assert (row["calls"], row["errors"], row["counts"]) == (CALLS, 0, True)
        assert 0 <= float(str(row["score_difference"])) < 1e-4


def test_tritons_own_counts_are_those_of_the_load(record: Record) -> None:
    rows = rows_of(record, "triton")
    assert len(rows) == 2 * 4
    for row in rows:
        assert (row["requests"], row["failed"]) == (CALLS, 0)
        assert float(str(row["executions"])) * float(str(row["batch"])) == pytest.approx(CALLS)
    whole = {row["in_flight"]: row["whole_ms"] for row in rows if row["model"] == "nodule_score"}
    encoder = {row["in_flight"]: row["infer_ms"] for row in rows if row["model"] == "nodule_encoder"}
    assert all(float(str(whole[callers])) > float(str(encoder[callers])) > 0 for callers in (1, 3))


def test_usage_is_told_by_process(record: Record) -> None:
    processes = {row["process"] for row in rows_of(record, "usage") if row["way"] == "noduleserve, stream"}
    models = {"nodule_encoder", "nodule_preprocess", "nodule_similarity"}
    assert processes == {"client", "tritonserver", *models}
    assert all(float(str(row["memory_peak_mb"])) > 5 for row in rows_of(record, "usage"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--concurrency", "1,zero"), "not a list of positive numbers"),
        (("--concurrency", "1.5"), "whole numbers"),
        (("--rates", "0"), "not a list of positive numbers"),
        (("--rivals", "fastapi,flask"), "'flask' is none of"),
        (("--rivals", "straightforward"), "goes with --checkpoint"),
        (("--transport", "pigeon"), "'pigeon' is none of"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_started(options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "serving", str(RELEASE), *options], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert said in done.output
