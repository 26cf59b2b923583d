"""A release that costs next to nothing to run, for whole commands whose tests have nothing to do with skill."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three calibrated folds of tiny towers, seeded random weights."""
    pytest.importorskip("torch", reason="the release is exported with torch")
    from noduleserve.export.assemble import ExportOptions, export_release
    from noduleserve.export.checkpoint import read_checkpoint
    from noduleserve.export.checkpoint.calibration import read_calibration
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint
    from noduleserve.export.text.features import read_features

    folder = tmp_path_factory.mktemp("tiny")
    write_untrained_checkpoint(folder / "checkpoint", seed=2, folds=3)
    checkpoint = read_checkpoint(folder / "checkpoint")
    calibration = read_calibration(folder / "checkpoint", 3)
    assert calibration
    options = ExportOptions(notice="untrained, for tests", batch_sizes=(1, 2))
    export_release(checkpoint, calibration, read_features(), folder / "release", options)
    return folder / "release"
