"""Releases and running servers that the end-to-end tests share, one of each for the session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import SINGLE_PROMPTS, WORKLIST, Serving, command, export_by_command, write_rows

from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.volume import Volume
from noduleserve.demo.phantom import Phantom, make_phantom, write_dicom, write_worklist

# ---------------------------------------------------------------- real series


@pytest.fixture(scope="session")
def features(expected: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A features file with the prompts that the expected similarities are of: groups of 3, 3 and 2."""
    values = [{prompt: [prompt]} for prompt in expected.prompts]
    groups = {"margin": values[:3], "consistency": values[3:6], "pleural attachment": values[6:]}
    content = {"version": 1, "features": {name: {k: v for x in g for k, v in x.items()} for name, g in groups.items()}}
    path = tmp_path_factory.mktemp("features") / "features.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


@pytest.fixture(scope="session")
def published_release(published_checkpoint: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the expected numbers, calibration converted, exported by the command."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint = folder / "checkpoint"
    shutil.copytree(published_checkpoint, checkpoint)
    done = command("convert-calibration", checkpoint, "--yes")
    assert done.returncode == 0, done.stderr
    return export_by_command(checkpoint, folder / "release", "--features", features)


@pytest.fixture(scope="session")
def published(published_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of the published release."""
    with Serving(published_release, tmp_path_factory.mktemp("published-server")) as server:
        yield server


@pytest.fixture(scope="session")
def real_worklist(expected: Any, lidc_series: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve real nodules."""
    rows = [{name: row[name] for name in WORKLIST} for row in expected.nodules]
    for row in rows:
        row["image_path"] = str(lidc_series[row["image_path"]])
    return write_rows(tmp_path_factory.mktemp("worklist") / "worklist.csv", rows)


@pytest.fixture(scope="session")
def real_volumes(expected: Any, lidc_series: dict[str, Path]) -> list[Volume]:
    """The volume of each of the twelve real nodules."""
    opened = {name: open_volume(folder) for name, folder in lidc_series.items()}
    return [opened[row["image_path"]] for row in expected.nodules]


# ---------------------------------------------------------------- the phantom


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A synthetic chest with voxels that are not cubes, coarse enough to be quick."""
    return make_phantom(shape_xyz=(192, 144, 96), spacing_xyz=(1.8, 1.8, 2.5))


@pytest.fixture(scope="session")
def phantom_worklist(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a scanner delivers it, and the worklist of its nodules."""
    folder = tmp_path_factory.mktemp("phantom")
    write_dicom(phantom, folder / "dicom")
    write_worklist(phantom, folder / "dicom", folder / "worklist.csv")
    return folder / "worklist.csv"


@pytest.fixture(scope="session")
def phantom_volume(phantom_worklist: Path) -> Volume:
    """The phantom's series, opened."""
    return open_volume(phantom_worklist.parent / "dicom")


@pytest.fixture(scope="session")
def untrained_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three folds that needs no shared data."""
    pytest.importorskip("torch", reason="the checkpoint is written with torch")
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint

    folder = tmp_path_factory.mktemp("untrained")
    write_untrained_checkpoint(folder, seed=11, folds=3)
    return folder


@pytest.fixture(scope="session")
def untrained_release(untrained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release of it, with a notice."""
    out = tmp_path_factory.mktemp("untrained-release") / "release"
    options = ("--notice", "untrained, for tests", "--features", SINGLE_PROMPTS)
    return export_by_command(untrained_checkpoint, out, *options)


@pytest.fixture(scope="session")
def untrained(untrained_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of the untrained release."""
    with Serving(untrained_release, tmp_path_factory.mktemp("untrained-server")) as server:
        yield server
