"""The synthetic chest, from DICOM on disk to its scores, against the plain computation on its voxels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import plain
from serving import SINGLE_PROMPTS, Serving, command, read_rows

from noduleserve.client.run import score_worklist
from noduleserve.demo.phantom import Phantom
from noduleserve.export.text.features import Features, read_features
from noduleserve.results.outcome import Score
from noduleserve.worklist.table import read_worklist


def plain_scores(phantom: Phantom, checkpoint: Path, features: Features) -> dict[str, Any]:
    """What scipy and torch compute for the phantom's nodules, straight from its voxels and the checkpoint's files."""
    folders = sorted(checkpoint.glob("fold_*"))
    files = [folder / "best_both.pt" for folder in folders]
    states = [torch.load(file, weights_only=True)["model"] for file in files]
    calibrations = [json.loads((folder / "calibration.json").read_text()) for folder in folders]
    prompts = [prompt for _, _, (prompt,) in features.values()]
    nodules = [(phantom.voxels, phantom.affine, nodule.center_lps) for nodule in phantom.nodules]
    return plain.score(nodules, states, prompts, calibrations)


def plain_semantic(similarity: Any, features: Features) -> Any:
    groups = [np.flatnonzero(np.array(features.groups) == group) for group in range(max(features.groups) + 1)]
    return np.concatenate(plain.semantic_probabilities(similarity, groups), axis=1)


@pytest.fixture(scope="module")
def wanted(phantom: Phantom, untrained_checkpoint: Path) -> dict[str, Any]:
    return plain_scores(phantom, untrained_checkpoint, read_features(SINGLE_PROMPTS))


@pytest.fixture(scope="module")
def scores(untrained: Serving, phantom_worklist: Path) -> list[Score]:
    run = score_worklist(read_worklist(phantom_worklist), untrained.address)
    assert run.info.notice == "untrained, for tests"
    found = [outcome.score for outcome in run.outcomes]
    assert all(found)
    return [score for score in found if score]


def test_probabilities(scores: list[Score], wanted: dict[str, Any]) -> None:
    for name, got in (("prob", [s.raw for s in scores]), ("calibrated", [s.calibrated for s in scores])):
        np.testing.assert_allclose(np.stack(got, axis=1), wanted[name], atol=1e-4, rtol=0)
    mean = wanted["calibrated"].mean(axis=0)
    np.testing.assert_allclose([s.malignancy for s in scores], mean, atol=1e-4, rtol=0)
    assert np.ptp(mean) > 0.05  # else a mix-up of nodules would not show


def test_embedding_attention_and_semantic_features(scores: list[Score], wanted: dict[str, Any]) -> None:
    for name, got in (
        ("embedding", [s.embedding for s in scores]),
        ("view_attention", [s.view_attention for s in scores]),
    ):
        np.testing.assert_allclose(np.stack(got, axis=1), wanted[name], atol=1e-5, rtol=0)
    semantic = plain_semantic(wanted["similarity"], read_features(SINGLE_PROMPTS))
    np.testing.assert_allclose([s.semantic for s in scores], semantic, atol=1e-5, rtol=0)


def test_the_command_writes_the_same_with_the_worklists_columns(
    untrained: Serving, phantom_worklist: Path, phantom: Phantom, wanted: dict[str, Any], tmp_path: Path
) -> None:
    results, report = tmp_path / "results.csv", tmp_path / "report.html"
    done = command("score", phantom_worklist, "--server", untrained.address, "--out", results, "--report", report)
    assert done.returncode == 0, done.stderr
    assert "untrained, for tests" in done.stdout
    assert "untrained, for tests" in report.read_text()
    rows = read_rows(results)
    assert [row["kind"] for row in rows] == [nodule.kind for nodule in phantom.nodules]
    got = [float(row["calibrated_ensemble"]) for row in rows]
    np.testing.assert_allclose(got, wanted["calibrated"].mean(axis=0), atol=1e-4, rtol=0)
