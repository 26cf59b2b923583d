"""Every target in every precision that can be written here: what lies in the release, and what its proof says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from noduleserve.errors import ParityError, ReleaseError
from noduleserve.export.assemble import ExportOptions, export_release
from noduleserve.export.checkpoint import Checkpoint
from noduleserve.export.proof import parity
from noduleserve.export.targets import PRECISIONS, QUANTISED, Encoding
from noduleserve.export.text.features import Features
from noduleserve.release import Release

WRITTEN = [(t, p) for t, offered in PRECISIONS.items() for p in offered if not (t == "tensorrt" and p in QUANTISED)]
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def releases(
    small_checkpoint: Checkpoint, small_features: Features, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Release]:
    folder = tmp_path_factory.mktemp("targets")
    made = {}
    for target, precision in WRITTEN:
        options = ExportOptions(Encoding(target, precision), batch_sizes=(1, 3))  # type: ignore[arg-type]
        out = folder / f"{target}-{precision}"
        made[target, precision] = export_release(small_checkpoint, None, small_features, out, options)
    return made


def graph_of(release: Release) -> onnx.ModelProto:
    encoding = Encoding(release.manifest["target"], release.manifest["precision"])
    return onnx.load(release.folder / encoding.graph_file)


@pytest.mark.parametrize(("target", "precision"), WRITTEN)
def test_the_release(releases: dict[tuple[str, str], Release], target: str, precision: str) -> None:
    release = releases[target, precision]
    manifest = release.manifest
    assert (manifest["target"], manifest["precision"]) == (target, precision)
    configuration = (release.repository / "nodule_encoder" / "config.pbtxt").read_text()
    platforms = {"embedded": "python", "onnxruntime": "onnxruntime", "tensorrt": "tensorrt_plan"}
    assert f'"{platforms[target]}' in configuration
    graph = graph_of(release)
    onnx.checker.check_model(graph)
    kinds = {weight.data_type for weight in graph.graph.initializer if len(weight.dims) > 1}
    assert (TYPES.get(precision) in kinds) == (target != "embedded" and precision in TYPES)
    assert all(o.type.tensor_type.elem_type == TensorProto.FLOAT for o in graph.graph.output if o.name != "ENCODER_ID")
    (stamp,) = [weight for weight in graph.graph.initializer if weight.name == "encoder_id"]
    assert onnx.numpy_helper.to_array(stamp).ravel().tolist() == manifest["encoder_id"]
    known = release.repository / "nodule_similarity" / "1" / "encoder_id.json"
    assert json.loads(known.read_text()) == manifest["encoder_id"]


@pytest.mark.parametrize(("target", "precision"), WRITTEN)
def test_the_proof(releases: dict[tuple[str, str], Release], target: str, precision: str) -> None:
    figures: dict[str, Any] = releases[target, precision].manifest["parity"]
    names = [link["name"] for link in figures["links"]]
    assert names == ["merge", "graph"] + ([] if precision == "fp32" else ["precision"])
    assert figures["ok"] is True and figures["slots"]["batch_sizes"] == [1, 3]
    for link in figures["links"]:
        assert all(len(values) == 2 for values in (link["largest"] | link["mean"]).values())  # of both folds
    if precision == "fp32":
        assert figures["decisions"] is None
    else:
        # A precision that differs by nothing was not the one that ran.
        assert max(figures["links"][-1]["largest"]["embedding"]) > 1e-5
        assert figures["decisions"]["nodules"] == 4
    assert any("GPU" in line for line in figures["not_run"]) == (target != "embedded")


def test_every_encoder_has_an_id_of_its_own(releases: dict[tuple[str, str], Release]) -> None:
    assert len({tuple(release.manifest["encoder_id"]) for release in releases.values()}) == len(WRITTEN)
    assert len({release.id for release in releases.values()}) == len(WRITTEN)


def test_all_share_text_bank_and_references(releases: dict[tuple[str, str], Release]) -> None:
    first, *others = releases.values()
    bank = "model_repository/nodule_similarity/1/text_bank.npz"
    for other in others:
        assert other.manifest["files"][bank] == first.manifest["files"][bank]
        with np.load(first.folder / "proof.npz") as a, np.load(other.folder / "proof.npz") as b:
            assert a.files == b.files
            for name in a.files:
                np.testing.assert_allclose(a[name], b[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("target", "precision"), [("embedded", "fp16"), ("onnxruntime", "int8"), ("tpu", "fp32")])
def test_a_precision_that_is_not_offered(target: Any, precision: Any) -> None:
    with pytest.raises(ReleaseError) as caught:
        Encoding(target, precision)
    assert caught.value.code == "PRECISION_NOT_OFFERED" and "embedded: fp32, bf16, int8" in caught.value.mend


def test_a_parity_failure_is_written_only_on_request_and_marked(
    small_checkpoint: Checkpoint, small_features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.TOLERANCE, "int8", dict.fromkeys(parity.QUANTITIES, 1e-6))
    options = ExportOptions(Encoding("embedded", "int8"), batch_sizes=(1,))
    with pytest.raises(ParityError) as caught:
        export_release(small_checkpoint, None, small_features, tmp_path / "new" / "may", options)
    assert caught.value.code == "PARITY_MISSED" and "precision embedding" in caught.value.what
    assert not (tmp_path / "new").exists()
    options = dataclasses.replace(options, allow_parity_failure=True)
    release = export_release(small_checkpoint, None, small_features, tmp_path / "may", options)
    assert release.manifest["parity_failed"] is True and release.manifest["parity"]["ok"] is False
    assert "misses its tolerances" in (release.folder / "report.html").read_text()
