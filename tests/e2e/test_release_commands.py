"""`noduleserve inspect` and `verify` on a real release, whole and spoiled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from serving import command

from noduleserve.errors import ReleaseError
from noduleserve.manifest import check_schema, schema
from noduleserve.release import REPOSITORY, Release, seal


def spoiled(release: Path, out: Path, spoil: Callable[[Path], None]) -> Release:
    """A release that somebody changed and sealed again: its hashes are right, its numbers are not."""
    shutil.copytree(release, out)
    spoil(out)
    made = ("files", "evidence", "release_id", "seal", "format")
    manifest = {key: value for key, value in Release.open(release).manifest.items() if key not in made}
    return seal(out, manifest)


def test_verify_serves_the_release_and_runs_its_proof(untrained_release: Path) -> None:
    done = command("verify", untrained_release)
    assert done.returncode == 0, done.stderr
    assert Release.open(untrained_release).id in done.stdout
    for quantity in ("embedding", "view_attention", "logits", "probability", "slots"):
        assert f"  {quantity}: " in done.stdout


def test_verify_finds_an_encoder_that_computes_something_else(untrained_release: Path, tmp_path: Path) -> None:
    def nudge(folder: Path) -> None:
        graph = folder / REPOSITORY / "nodule_encoder" / "1" / "encoder.onnx"
        model = onnx.load(graph)
        (bias,) = [weight for weight in model.graph.initializer if weight.name == "classifier.bias"]
        moved = numpy_helper.to_array(bias) + np.float32([[[0, 0.01]]])
        bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), "classifier.bias"))
        onnx.save(model, graph)

    release = spoiled(untrained_release, tmp_path / "spoiled", nudge)
    done = command("verify", release.folder)
    assert done.returncode == 1
    assert "[PARITY_MISSED]" in done.stderr and "probability" in done.stderr
    assert command("verify", release.folder, "--hashes-only").returncode == 0


def test_verify_finds_a_changed_byte(untrained_release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(untrained_release, copy)
    (copy / "report.html").write_text("all is well")
    done = command("verify", copy, "--hashes-only")
    assert done.returncode == 1 and "[RELEASE_EDITED]" in done.stderr and "report.html" in done.stderr


def test_inspect(untrained_release: Path) -> None:
    done = command("inspect", untrained_release)
    assert done.returncode == 0, done.stderr
    manifest = Release.open(untrained_release).manifest
    for word in (manifest["release_id"], manifest["notice"], "embedded, fp32", "slots", "beta calibration", "merge"):
        assert word in done.stdout, word
    assert all(feature in done.stdout for feature in manifest["prompts"])
    assert json.loads(command("inspect", untrained_release, "--json").stdout) == manifest


def test_the_schema_is_one_and_the_manifest_is_as_it_says(untrained_release: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    check_schema(Release.open(untrained_release).manifest)


SPOILS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$.target": lambda m: m.update(target="tpu"),
    "$.labels[0]": lambda m: m["labels"].__setitem__(0, "no dot"),
    "$.calibration[0].a": lambda m: m["calibration"][0].update(a="0.6"),
    "$.parity.links[0].largest": lambda m: m["parity"]["links"][0]["largest"].pop("probability"),
    "$.files": lambda m: m["files"].update({"model.py": "12"}),
    "$": lambda m: m.update(approved=True),
}


@pytest.mark.parametrize("place", SPOILS)
def test_a_manifest_that_is_not_as_the_schema_says(untrained_release: Path, place: str) -> None:
    manifest = Release.open(untrained_release).manifest
    SPOILS[place](manifest)
    with pytest.raises(ReleaseError) as caught:
        check_schema(manifest)
    assert caught.value.code == "MANIFEST_INVALID" and f"at {place}" in caught.value.what
