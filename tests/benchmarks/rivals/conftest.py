"""A tiny release with its checkpoint, and the nodules of a coarse phantom as cases."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from noduleserve.benchmarks.rivals.base import Case
from noduleserve.benchmarks.rivals.cases import cases_of
from noduleserve.demo.phantom import make_phantom, write_dicom, write_worklist
from noduleserve.release import Release
from noduleserve.worklist.table import read_worklist


class Weights(NamedTuple):
    """The same weights twice."""

    checkpoint: Path
    release: Release


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Two folds, no calibration."""
    pytest.importorskip("torch", reason="the release is exported with torch")
    from noduleserve.export.assemble import export_release
    from noduleserve.export.checkpoint import read_checkpoint
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint
    from noduleserve.export.text.features import read_features

    folder = tmp_path_factory.mktemp("weights")
    write_untrained_checkpoint(folder / "checkpoint", seed=11, folds=2)
    checkpoint = read_checkpoint(folder / "checkpoint", lora_state="merged")
    return Weights(folder / "checkpoint", export_release(checkpoint, None, read_features(), folder / "release"))


@pytest.fixture(scope="session")
def worklist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's five nodules, in a CT of few voxels."""
    folder = tmp_path_factory.mktemp("phantom")
    phantom = make_phantom(shape_xyz=(96, 72, 60), spacing_xyz=(3.6, 3.6, 4.0))
    write_dicom(phantom, folder / "ct")
    write_worklist(phantom, folder / "ct", folder / "worklist.csv")
    return folder / "worklist.csv"


@pytest.fixture(scope="session")
def cases(worklist: Path) -> list[Case]:
    """Two of them."""
    return cases_of(read_worklist(worklist), most=2)
