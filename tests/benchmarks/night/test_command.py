"""`noduleserve bench night` with the real Triton: all nodules count, all stages are there."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from serving import command
from typer.testing import CliRunner

from noduleserve.benchmarks.record.files import read_record
from noduleserve.benchmarks.record.record import Record
from noduleserve.cli import app
from noduleserve.demo.command import RELEASE
from noduleserve.demo.phantom import make_phantom, write_dicom, write_worklist

for package in ("scipy", "onnx", "matplotlib"):
    pytest.importorskip(package, reason="the benchmarks are of the extra bench")

COUNT = 7
ONE, SEVERAL = "one nodule a scan", "3 nodules a scan"
OURS, BARE = "noduleserve, DICOM to results", "bare encoder"


@pytest.fixture(scope="module")
def record(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("night")
    phantom = make_phantom(shape_xyz=(96, 72, 60), spacing_xyz=(3.6, 3.6, 4.0))
    write_dicom(phantom, folder / "ct")
    write_worklist(replace(phantom, nodules=phantom.nodules[:3]), folder / "ct", folder / "worklist.csv")
    line = ("--worklist", folder / "worklist.csv", "--count", COUNT, "--nodules-a-scan", 3, "--readers", 0)
    (folder / "tmp").mkdir()
    environment = {"TMPDIR": str(folder / "tmp")}
    done = command(
        "bench", "night", tiny_release, *line, "--turns", 1, "--starts", 1, "--out", folder / "out", **environment
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert f"turn 1, {ONE}: night " in done.stderr and f"turn 1, {SEVERAL}: night " in done.stderr
    assert list((folder / "tmp").glob("noduleserve-*")) == []
    return read_record(folder / "out")


def rows_of(record: Record, name: str) -> list[dict[str, object]]:
    (table,) = [table for table in record.tables if table.name == name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def sums_of(rows: list[dict[str, object]], key: str, value: str) -> dict[str, dict[str, float]]:
    """Of each workload: key -> value."""
    sums: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        sums[str(row["workload"])][str(row[key])] = float(str(row[value]))
    return sums


def test_all_nodules_are_scored_and_right(record: Record) -> None:
    rows = rows_of(record, "night-throughput")
    assert [(row["workload"], row["way"]) for row in rows] == [(w, way) for w in (ONE, SEVERAL) for way in (OURS, BARE)]
    assert [(row["nodules"], row["scans"]) for row in rows] == [(COUNT, COUNT)] * 2 + [(COUNT, 3)] * 2
    for row in rows:
        assert row["counts"] is True
        if row["way"] == OURS:
            assert 0 < float(str(row["by_processor_time"])) < 1
        assert 0 <= float(str(row["differs"])) < 1e-4
        per_s, each = float(str(row["nodules_per_s"])), float(str(row["nodule_ms"]))
        assert per_s * each == pytest.approx(1000)
    assert [row["of_bare_encoder"] for row in rows if row["way"] == BARE] == [1, 1]
    assert "times_straightforward" not in rows[0]
    assert any("needs --checkpoint" in remark for remark in record.remarks)


def test_the_wall_time_is_taken_apart_without_remainder(record: Record) -> None:
    walls = sums_of(rows_of(record, "night-wall"), "part", "wall_s")
    throughput = rows_of(record, "night-throughput")
    for workload in (ONE, SEVERAL):
        parts = dict(walls[workload])
        whole = parts.pop("all")
        assert math.fsum(parts.values()) == pytest.approx(whole)
        (night,) = [row for row in throughput if (row["workload"], row["way"]) == (workload, OURS)]
        assert whole == pytest.approx(float(str(night["nodule_ms"])) * COUNT / 1000)
        assert parts["encoder, as fast as alone"] / whole == pytest.approx(night["of_bare_encoder"])
        for name in ("before the first answer", "last answer to journal on disk", "results written"):
            assert parts[name] > -0.002  # outcomes bear their time to the millisecond


def test_stages_fit_into_the_wall_time(record: Record) -> None:
    stages = sums_of(rows_of(record, "night-stages"), "stage", "total_s")
    whole = {w: parts["all"] for w, parts in sums_of(rows_of(record, "night-wall"), "part", "wall_s").items()}
    processors = sums_of(rows_of(record, "night-processors"), "process", "cpu_s")
    for workload, found in stages.items():
        assert len(found) == 15
        assert found["open series"] + found["read box"] < whole[workload]  # one thread reads
        for name in ("preprocessing", "encoder", "head"):  # an instance each
            assert 0 < found[name] < whole[workload]
        assert 0 < sum(found[f"journal, {name}"] for name in ("lines", "disk", "index")) < whole[workload]
        assert all(seconds >= 0 for name, seconds in found.items() if name.startswith(("queue", "room", "transport")))
        assert set(processors[workload]) >= {"client", "nodule_encoder", "nodule_preprocess", "nodule_similarity"}
        assert found["open series"] > 0


def test_reading_and_starting_by_themselves(record: Record) -> None:
    rows = rows_of(record, "night-reading")
    assert [row["cache"] for row in rows] == ["cold"] * 5 + ["warm"] * 5
    assert all(float(str(row["scan_ms"])) > 0 for row in rows)
    start = [float(str(row["median_s"])) for row in rows_of(record, "night-start")]
    assert 0 < start[0] < start[2] < start[3] < start[4]


def test_plots(record: Record) -> None:
    wall, work = record.plots
    assert list(wall.lines[0].x) == [BARE, ONE, SEVERAL]
    assert list(work.lines[0].x) == [ONE, SEVERAL]
    assert min(y for plot in record.plots for line in plot.lines for y in line.y) >= 0


def test_a_worklist_cannot_be_compressed(tmp_path: Path) -> None:
    line = ["bench", "night", str(RELEASE), "--worklist", str(tmp_path / "w.csv"), "--syntax", "rle"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2
    assert "synthetic" in done.output
