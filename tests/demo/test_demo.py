"""The demo: its release is whole and current, and the command runs without any of the heavy packages."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from noduleserve.demo.command import RELEASE
from noduleserve.demo.make_release import NOTICE
from noduleserve.release import REPOSITORY, Release

HEAVY = ("torch", "torchvision", "open_clip", "onnx", "scipy", "sklearn", "betacal", "joblib", "yaml", "highdicom")
COMMAND = """
import sys
for name in {heavy!r}:
    sys.modules[name] = None  # importing it now fails as if it were not installed
sys.argv = ["noduleserve", "demo", "--out", {out!r}]
from noduleserve.cli import main
main()
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    code = COMMAND.format(heavy=HEAVY, out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_the_table_and_the_results_agree(demo: tuple[Path, str]) -> None:
    out, printed = demo
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["nodule_id"] for row in rows] == ["N1", "N2", "N3", "N4", "N5"]
    assert {row["status"] for row in rows} == {"scored"}
    assert len({row["calibrated_ensemble"] for row in rows}) == 5  # it looks at the nodules
    for row in rows:
        line = next(line for line in printed.splitlines() if f" {row['nodule_id']} " in line)
        assert f"{float(row['calibrated_ensemble']):.3f}" in line
        assert row["kind"] in line


def test_every_output_says_that_the_weights_are_untrained(demo: tuple[Path, str]) -> None:
    out, printed = demo
    assert NOTICE in printed
    assert NOTICE in (out / "report.html").read_text()
    assert Release.open(RELEASE).manifest["notice"] == NOTICE


def test_the_release_in_the_repository_is_made_of_the_present_code(tmp_path: Path) -> None:
    """Where this fails: ./run demo-release."""
    repository = pytest.importorskip("noduleserve.export.repository", reason="needs the extra noduleserve[export]")
    manifest = Release.open(RELEASE).manifest
    facts = {key: manifest[key] for key in ("folds", "calibrated", "labels", "notice", "preprocessing")}
    repository.write_repository(tmp_path, facts, manifest["model"]["embedding"], manifest["target"])
    written = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(written) > 12
    stale = [p.as_posix() for p in written if (RELEASE / REPOSITORY / p).read_bytes() != (tmp_path / p).read_bytes()]
    assert stale == []
