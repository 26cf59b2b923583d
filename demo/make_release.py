"""Writes demo/release: the checkpoint in demo/model, exported like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.calibration import read_calibration
from noduleserve.export.text.features import read_features
from noduleserve.release import Release

MODEL = Path(__file__).parent / "model"  # of the checkout: a wheel has the release alone
RELEASE = Path(__file__).parent / "release"
NOTICE = "demonstration model, not for diagnosis"


def make_release(out: Path = RELEASE) -> Release:
    """Write the demo's release in place of the one that is there."""
    model = read_checkpoint(MODEL)
    calibration = read_calibration(MODEL, len(model.folds))
    shutil.rmtree(out, ignore_errors=True)
    return export_release(model, calibration, read_features(), out, ExportOptions(notice=NOTICE))


if __name__ == "__main__":
    print(f"release {make_release().id} in {RELEASE}")
