"""A run is recorded with its machine and its command, and names neither host nor user nor folder."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import noduleserve
from noduleserve.benchmarks.record.files import read_record
from noduleserve.benchmarks.record.machine import gpus_of, machine
from noduleserve.benchmarks.record.record import Line, Plot, Table
from noduleserve.benchmarks.record.recording import Recording, command_line, release_facts
from noduleserve.benchmarks.record.strain import Strain, strain_between
from noduleserve.benchmarks.record.versions import commit_of
from noduleserve.commands.bench.keeping import OutOption, show_and_keep
from noduleserve.demo.command import RELEASE
from noduleserve.errors import BenchmarkError
from noduleserve.release import Release

TABLE = Table("t", "T", ("x",), [(1,)])
PLOT = Plot("p", "P", "x", "y", [Line("a", [1], [1])])


# ---------------------------------------------------------------- the machine


def test_the_machine_is_described() -> None:
    found = machine()
    assert found["processor"]["cores_usable"] == len(os.sched_getaffinity(0))
    assert found["processor"]["architecture"] == platform.machine()
    assert found["memory_gb"] == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, rel=0.1)
    assert found["python"].endswith(platform.python_version())
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["nvidia-pytriton"] and "sha256" in found["versions"]["tritonserver"]
    assert "torch-that-is-not" not in found["versions"]
    assert found["code"]["noduleserve"] == noduleserve.__version__
    flags = set(re.findall(r"\S+", Path("/proc/cpuinfo").read_text()))
    assert set(found["processor"]["flags"]) <= flags
    assert ("avx2" in found["processor"]["flags"]) == ("avx2" in flags)


def test_the_machine_names_no_host_no_user_and_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/home/someone/libjemalloc.so")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    found = machine()
    assert found["environment"].items() >= {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "GPU"}.items()
    assert found["environment"]["LD_PRELOAD"] == "libjemalloc.so"
    text = json.dumps(found)
    words = set(re.findall(r"[\w.-]+", text))
    assert not words & {socket.gethostname(), platform.node(), getpass.getuser(), "someone", "secret"}
    assert not re.search(r'[": ]/\w', text)


def test_gpus_are_read_from_what_nvidia_smi_says() -> None:
    said = "NVIDIA H100 80GB HBM3, 550.54.15, 81559, 700.00, 1980\nNVIDIA A2, 550.54.15, 15356, [N/A], 1770\n"
    assert gpus_of(said)[0] == {
        **{"name": "NVIDIA H100 80GB HBM3", "driver": "550.54.15", "memory_mib": "81559"},
        **{"power_limit_w": "700.00", "highest_clock_mhz": "1980"},
    }
    assert len(gpus_of(said)) == 2
    assert gpus_of("No devices were found\n") == []


def test_the_commit_of_a_checkout_and_whether_code_differs_from_it(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    assert commit_of(tmp_path) == {"commit": None, "changed": None}

    def git(*words: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "docs").mkdir()
    for name in ("code.py", "docs/page.md"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    assert commit_of(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    assert commit_of(tmp_path / "docs") == {"commit": None, "changed": None}
    (tmp_path / "docs" / "page.md").write_text("2")
    (tmp_path / "results.csv").write_text("2")
    assert commit_of(tmp_path)["changed"] is False
    (tmp_path / "new.py").write_text("2")
    assert commit_of(tmp_path)["changed"] is True
    (tmp_path / "new.py").unlink()
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path)["changed"] is True


def test_strain_is_what_passed_between_two_moments() -> None:
    before, after = Strain(0.5, 10.0, 1.0, 2.0, (1000.0, 2000.0)), Strain(1.5, 14.0, 1.25, 2.5, ())
    assert strain_between(before, after) == {
        **{"load_before": 0.5, "load_after": 1.5, "busy_core_s": 4.0, "stolen_core_s": 0.25, "throttled_s": 0.5},
        **{"clock_before_mhz": [1000.0, 2000.0], "clock_after_mhz": []},
    }
    assert strain_between(before, Strain(1.5, 14.0, 1.25, None, ()))["throttled_s"] is None
    now = Strain.now()
    assert now.busy_s > 0 and 0 <= now.stolen_s < now.busy_s + 1e9 and now.load >= 0


# ---------------------------------------------------------------- the run


def test_a_run_becomes_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/noduleserve", "bench", "results", "--out", "/home/someone/runs/may"])
    earlier = datetime.now(UTC).replace(microsecond=0)
    with Recording("results", {"turns": 3}) as recording:
        recording.table(TABLE)
        recording.plot(PLOT)
        recording.remark("A remark.")
        recording.parameter("rate", 2.0)
        with pytest.raises(ValueError, match="already"):
            recording.table(TABLE)
        with pytest.raises(ValueError, match="already"):
            recording.plot(PLOT)
        with pytest.raises(RuntimeError):
            recording.record
    record = recording.record
    assert record.command == "noduleserve bench results --out may"
    assert earlier <= datetime.fromisoformat(record.began) <= datetime.now(UTC)
    assert record.parameters == {"turns": 3, "rate": 2.0}
    assert (record.tables, record.plots, record.remarks[0]) == ((TABLE,), (PLOT,), "A remark.")
    assert record.machine["run"]["load_before"] >= 0 and record.machine["processor"]["cores_usable"] >= 1


def test_a_run_that_fails_leaves_no_record() -> None:
    recording = Recording("results", {})
    with pytest.raises(ZeroDivisionError), recording:
        recording.table(TABLE)
        raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        recording.record


@pytest.mark.parametrize(("load", "said"), [(0.0, False), (1e6, True)])
def test_other_work_on_the_machine_is_a_remark(monkeypatch: pytest.MonkeyPatch, load: float, said: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    with Recording("results", {}) as recording:
        pass
    assert any("other work" in remark for remark in recording.record.remarks) == said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["/a/bin/noduleserve", "bench", "serving", "releases/may"], "noduleserve bench serving may"),
        (["/a/noduleserve/cli.py", "bench", "--out=/b/c d/", "../x.csv"], "noduleserve bench '--out=c d' x.csv"),
        (["noduleserve", "--untrained", "ViT-B/32", "--untrained=ViT-L/14"], None),
        ([], "''"),
    ],
)
def test_a_command_with_its_paths_shortened(words: list[str], line: str | None) -> None:
    assert command_line(words) == (line or " ".join(words))


def test_a_release_is_told_from_others() -> None:
    release = Release.open(RELEASE)
    facts = release_facts(release)
    assert facts["id"] == release.id and facts["target"] == "embedded" and facts["precision"] and facts["folds"]


# ---------------------------------------------------------------- keeping it


def test_figures_are_shown_and_kept_where_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Recording("results", {}) as recording:
        recording.table(TABLE)
    show_and_keep(recording.record, None)
    shown = capsys.readouterr().out
    assert "## T\n\n| x |\n| --- |\n| 1 |" in shown and "processor" not in shown
    show_and_keep(recording.record, tmp_path / "out")
    again = capsys.readouterr()
    assert again.out == shown and "out" in again.err
    assert read_record(tmp_path / "out") == recording.record


def test_a_full_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    ran = []
    app = typer.Typer()

    @app.command()
    def measure(out: OutOption = None) -> None:
        ran.append(out)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "full")])
    assert isinstance(done.exception, BenchmarkError) and done.exception.code == "RECORD_FOLDER"
    for good in (["--out", str(tmp_path / "new")], []):
        assert CliRunner().invoke(app, good).exit_code == 0
    assert ran == [tmp_path / "new", None]
