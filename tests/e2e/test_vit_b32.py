"""The real model size, five folds of ViT-B/32, from checkpoint to scores against the plain computation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import SINGLE_PROMPTS, Serving, command, read_rows, session_of, write_rows

from noduleserve.ct.open_volume import open_volume
from noduleserve.demo.phantom import Phantom
from noduleserve.preprocessing import Box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Room for the checkpoint (3 GB) and the release (0.7 GB), which go when the tests are done."""
    path = tmp_path_factory.mktemp("vit-b-32")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    pytest.importorskip("torch", reason="the checkpoint is written with torch")
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint

    write_untrained_checkpoint(folder / "checkpoint", size="ViT-B/32", seed=32)
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def worklist(request: pytest.FixtureRequest) -> Path:
    """The twelve real nodules, or the phantom's five where the real ones are not there."""
    try:
        return request.getfixturevalue("real_worklist")
    except pytest.skip.Exception:
        return request.getfixturevalue("phantom_worklist")


def plain_prob(worklist: Path, checkpoint: Path, phantom: Phantom) -> np.ndarray[Any, Any]:
    """Fold probabilities [folds, nodules] as scipy and torch compute them, one fold in memory at a time."""
    import torch
    from reference import plain

    volumes: dict[str, tuple[Any, Any]] = {"dicom": (phantom.voxels, phantom.affine)}
    cubes = []
    for row in read_rows(worklist):
        path = row["image_path"] if Path(row["image_path"]).name != "dicom" else "dicom"
        if path not in volumes:
            series = open_volume(Path(path))
            whole = Box(start=np.zeros(3, np.int64), stop=series.geometry.shape)
            volumes[path] = (series.read_box(whole), series.geometry.affine)
        center = [float(row[name]) for name in ("coordX", "coordY", "coordZ")]
        cubes.append(plain.cube_of(*volumes[path], center))
    views = [plain.views_of(cube) for cube in cubes]
    folds = []
    for fold in range(5):
        state = torch.load(checkpoint / f"fold_{fold}" / "best_both.pt", weights_only=True, mmap=True)["model"]
        folds.append(plain.score_views(views, [state])["prob"][0])
    return np.stack(folds)


def memory_mb(session: int) -> dict[str, int]:
    """Peak resident memory of Triton and its stubs."""
    peaks = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getsid(int(status.parent.name)) == session:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                peaks[f"{lines['Name'].strip()} {status.parent.name}"] = int(lines["VmHWM"].split()[0]) // 1024
        except OSError:
            continue
    return peaks


EXPORT = """
import resource, sys
from pathlib import Path
from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.text.features import read_features
checkpoint, features, out = map(Path, sys.argv[1:])
# The slots of every size would take minutes at this model's size; smaller models have them all.
export_release(read_checkpoint(checkpoint), None, read_features(features), out, ExportOptions(batch_sizes=(1, 2)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def export_in_a_process(checkpoint: Path, out: Path) -> tuple[Path, int]:
    """The release, and the export's peak resident memory in kB, files that are mapped into it included."""
    line = [sys.executable, "-c", EXPORT, checkpoint, SINGLE_PROMPTS, out]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return out, int(done.stdout)


def _tell(step: str, began: float) -> None:
    """Figures for who runs it with -s."""
    print(f"{step}: {time.monotonic() - began:.1f} s")


def test_five_folds_of_the_real_size(folder: Path, checkpoint: Path, worklist: Path, phantom: Phantom) -> None:
    began = time.monotonic()
    release, peak_kb = export_in_a_process(checkpoint, folder / "release")
    _tell("export", began)
    print("  its peak memory", peak_kb // 1024, "MB")
    assert peak_kb < 8_000_000
    results = folder / "results.csv"
    rows = [row | {"image_path": str(worklist.parent / row["image_path"])} for row in read_rows(worklist)]
    worklist = write_rows(folder / "worklist.csv", rows[::4])
    began = time.monotonic()
    with Serving(release, folder / "server") as server:
        _tell("start of the server", began)
        began = time.monotonic()
        done = command("score", worklist, "--server", server.address, "--out", results, timeout=600)
        _tell("score", began)
        assert done.returncode == 0, done.stderr
        assert session_of(server.triton)
        print("  the server's peak memory in MB", memory_mb(server.triton))
    rows = read_rows(results)
    got = np.array([[float(row[f"raw_{k}"]) for row in rows] for k in range(5)])
    wanted = plain_prob(worklist, checkpoint, phantom)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)
    assert np.ptp(wanted, axis=1).max() > 0.05  # else a mix-up of nodules would not show
