"""The demo: its release is whole and current, and the command runs without any of the heavy packages."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from noduleserve.demo.command import RELEASE
from noduleserve.demo.make_release import MODEL, NOTICE
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
    assert len({row["ensemble"] for row in rows}) == 5  # it looks at the nodules
    for row in rows:
        line = next(line for line in printed.splitlines() if f" {row['nodule_id']} " in line)
        assert f"{float(row['ensemble']):.3f}" in line
        assert row["kind"] in line


def test_the_model_tells_the_phantoms_kinds_apart(demo: tuple[Path, str]) -> None:
    out, _ = demo
    with (out / "results.csv").open(newline="") as file:
        of = {row["kind"]: row for row in csv.DictReader(file)}

    def chance(kind: str, label: str) -> float:
        return float(of[kind][f"semantic.{label}"])

    assert chance("ground_glass", "consistency.pure ground glass") > 0.6 > chance("ground_glass", "consistency.solid")
    for kind in ("solid", "spiculated", "juxtapleural"):
        assert chance(kind, "consistency.solid") > 0.6
    assert chance("spiculated", "margins.spiculated") > chance("spiculated", "margins.smooth")
    assert chance("solid", "margins.smooth") > chance("solid", "margins.spiculated")
    assert max(of, key=lambda kind: float(of[kind]["ensemble"])) == "spiculated"


def test_every_output_says_what_the_model_is_not_for(demo: tuple[Path, str]) -> None:
    out, printed = demo
    assert NOTICE in printed
    assert NOTICE in (out / "report.html").read_text()
    assert Release.open(RELEASE).manifest["notice"] == NOTICE


def test_the_release_is_of_the_checkpoint_beside_it() -> None:
    """Where this fails: ./run demo-release."""
    hashes = Release.open(RELEASE).manifest["checkpoint"]["files"]
    assert {Path(name).name for name in hashes} >= {"model.json", "base.safetensors", "adapter_model.safetensors"}
    for name, expected in hashes.items():
        assert hashlib.sha256((MODEL / name).read_bytes()).hexdigest() == expected, name


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
