"""Writes demo/release: seeded random weights in the published layout, exported like any checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.calibration import read_calibration
from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint
from noduleserve.export.text.features import read_features
from noduleserve.release import Release

RELEASE = Path(__file__).parent / "release"
NOTICE = "untrained demo weights"
SEED = 2  # of a few tried, the one whose scores differ most between nodules


def make_release(out: Path = RELEASE) -> Release:
    """Write the demo's release in place of the one that is there."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder)
        write_untrained_checkpoint(checkpoint, size="tiny", seed=SEED)
        model = read_checkpoint(checkpoint)
        calibration = read_calibration(checkpoint, len(model.folds))
        shutil.rmtree(out, ignore_errors=True)
        return export_release(model, calibration, read_features(), out, ExportOptions(notice=NOTICE))


if __name__ == "__main__":
    print(f"release {make_release().id} in {RELEASE}")
