"""Other prompts over the same weights: a new release, in which nothing but the words has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import ALL_TOKENS, Size, folds_of, write_checkpoint

from noduleserve.errors import CheckpointError, ReleaseError
from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.reprompt import reprompt
from noduleserve.export.text.features import Features
from noduleserve.release import Release

SIZE = Size(layers=1, text_layers=1, tokens=ALL_TOKENS)
OTHER = Features(
    {"margin": {"smooth": ("a smooth margin",), "spiculated": ("spikes", "spicules"), "lobulated": ("x",)}}
)
ENCODER = "model_repository/nodule_encoder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("reprompt") / "checkpoint", folds_of(2, SIZE), SIZE)


@pytest.fixture(scope="module")
def release(folder: Path, small_features: Features, small_calibration: Any) -> Release:
    options = ExportOptions(notice="a notice", batch_sizes=(1, 2))
    return export_release(read_checkpoint(folder), small_calibration, small_features, folder.parent / "may", options)


def test_it_is_what_an_export_with_these_prompts_would_be(
    release: Release, folder: Path, small_calibration: Any, tmp_path: Path
) -> None:
    new = reprompt(release, folder, OTHER, tmp_path / "june")
    exported = export_release(
        read_checkpoint(folder),
        small_calibration,
        OTHER,
        tmp_path / "whole",
        ExportOptions(notice="a notice", batch_sizes=(1, 2)),
    )
    differing = {f for f, h in new.manifest["files"].items() if exported.manifest["files"].get(f) != h}
    bank = "model_repository/nodule_similarity/1/text_bank.npz"
    assert differing <= {bank} and set(new.manifest["files"]) == set(exported.manifest["files"])
    with np.load(new.folder / bank) as a, np.load(exported.folder / bank) as b:
        for key in ("embeddings", "scale", "groups"):
            np.testing.assert_allclose(a[key], b[key], atol=1e-6, rtol=0)
    for key in ("labels", "prompts", "calibration", "encoder_id", "notice", "folds", "checkpoint", "target"):
        assert new.manifest[key] == exported.manifest[key], key


def test_only_the_words_have_changed(release: Release, folder: Path, tmp_path: Path) -> None:
    new = reprompt(release, folder, OTHER, tmp_path / "june", notice="another")
    assert new.id != release.id and new.manifest["reprompted_from"] == release.id
    assert new.manifest["notice"] == "another"
    assert new.manifest["labels"] == ["margin.smooth", "margin.spiculated", "margin.lobulated"]
    assert new.manifest["parity"] == release.manifest["parity"]
    for path, sha256 in release.manifest["files"].items():
        if path.startswith(ENCODER) or "/preprocessing/" in path or path.endswith((".py", "calibration.json")):
            assert new.manifest["files"][path] == sha256, path
    assert (new.folder / ENCODER / "1" / "encoder.onnx").samefile(release.folder / ENCODER / "1" / "encoder.onnx")
    assert (new.repository / "nodule_score" / "1" / "RELEASE").read_text() == new.id
    Release.open(release.folder)  # the old one is untouched


def test_the_checkpoint_of_another_release(release: Release, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    arguments = other / "args.txt"
    arguments.write_text(arguments.read_text() + "\n")
    with pytest.raises(ReleaseError) as caught:
        reprompt(release, other, OTHER, tmp_path / "new" / "june")
    assert caught.value.code == "CHECKPOINT_NOT_OF_RELEASE" and "args.txt" in caught.value.what
    assert not (tmp_path / "new").exists()


def test_a_prompt_too_long_leaves_nothing(release: Release, folder: Path, tmp_path: Path) -> None:
    features = Features({"shape": {"a": ("word " * 80,), "b": ("x",)}})
    with pytest.raises(CheckpointError) as caught:
        reprompt(release, folder, features, tmp_path / "new" / "june")
    assert caught.value.code == "PROMPT_TOO_LONG"
    assert list(tmp_path.iterdir()) == []


def test_a_reprompted_release_can_be_reprompted(release: Release, folder: Path, tmp_path: Path) -> None:
    new = reprompt(release, folder, OTHER, tmp_path / "june")
    again = reprompt(new, folder, OTHER, tmp_path / "july")
    assert again.manifest["reprompted_from"] == new.id
    assert json.loads((again.folder / "parity.json").read_text()) == release.manifest["parity"]
