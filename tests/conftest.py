"""Fixtures that several rooms of the suite share: real CT series, expected numbers, a checkpoint."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest

# The same cases every time, so that a failure is the change's; NODULESERVE_EXPLORE=1 looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
if not os.environ.get("NODULESERVE_EXPLORE"):
    hypothesis.settings.load_profile("same")

REPOSITORY = Path(__file__).resolve().parents[1]


class Expected(NamedTuple):
    """What the published code computed for the nodules of the two series, in the order of `nodules`."""

    nodules: list[dict[str, str]]  # rows of the worklist, with the published script's results
    preprocessing: dict[str, np.ndarray[Any, Any]]  # views and planes of the cubes
    model: dict[str, np.ndarray[Any, Any]]  # what the towers and heads give
    prompts: list[str]

    @property
    def centers_lps(self) -> list[tuple[float, float, float]]:
        """Nodule centres (x, y, z) in LPS mm."""
        return [(float(row["coordX"]), float(row["coordY"]), float(row["coordZ"])) for row in self.nodules]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real CT data and expected numbers, which is not part of the repository."""
    folder = Path(os.environ.get("NODULESERVE_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "reference" / "expected").is_dir():
        pytest.skip(f"no shared data at {folder} (set NODULESERVE_SHARED to its place)")
    return folder


@pytest.fixture(scope="session")
def lidc_series(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The unpacked real CT series: name (as `image_path` of the worklist has it) -> folder."""
    archives = sorted((shared / "lidc").glob("*.tar.xz"))
    if not archives:
        pytest.skip(f"no CT series in {shared / 'lidc'}")
    root = tmp_path_factory.mktemp("lidc")
    for archive in archives:
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
    return {folder.name: folder for folder in sorted(root.iterdir())}


@pytest.fixture(scope="session")
def expected(shared: Path) -> Expected:
    """The expected numbers, read once."""
    folder = shared / "reference" / "expected"
    with (folder / "nodules.csv").open(newline="") as file:
        nodules = list(csv.DictReader(file))
    with np.load(folder / "preprocessing.npz") as views, np.load(folder / "model.npz") as model:
        prompts = json.loads((folder / "prompts.json").read_text())["prompts"]
        return Expected(nodules, dict(views), dict(model), prompts)


@pytest.fixture(scope="session")
def published_checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, with calibrations, from which the expected numbers come."""
    for package in ("torch", "betacal", "joblib"):
        pytest.importorskip(package, reason=f"the checkpoint is written with {package}")
    folder = tmp_path_factory.mktemp("checkpoint") / "published"
    script = shared / "reference" / "make_checkpoint.py"
    subprocess.run([sys.executable, script, folder, "--calibration"], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Text that the suite prints at its end, whichever process ran the test."""
    return lambda text: record_property("note", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the notes of tests that passed."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "note":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(text)
