"""INT8 and FP8 by NVIDIA ModelOpt, which lives in an environment of its own; without it there is a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from small_model import SMALL, folds_of, plain_of, random_views
from tensorrt_links import link_tensorrt

from noduleserve.engines.plan import build_plan, profiles_for
from noduleserve.errors import EngineError
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import encoder_id, stamp
from noduleserve.export.encoder.modelopt import ENVIRONMENT, quantize
from noduleserve.export.encoder.save import save_model

with_modelopt = pytest.mark.skipif(ENVIRONMENT not in os.environ, reason=f"{ENVIRONMENT} is not set")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folds = [plain_of(fold) for fold in folds_of(2)]
    model = build_encoder(folds, Dimensions.of(folds[0], "a fold"))
    stamp(model, encoder_id(model, tag="a test"))
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    save_model(model, path)
    return path


def refusal(graph: Path, out: Path, python: Path | None) -> str:
    with pytest.raises(EngineError) as raised:
        quantize(graph, random_views(1), out, "int8", python)
    assert raised.value.code == "MODELOPT_NOT_FOUND"
    assert "nvidia-modelopt[onnx]" in raised.value.mend and ENVIRONMENT in raised.value.mend
    assert not out.exists()
    return raised.value.what


def test_without_modelopt_there_is_a_sentence(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert f"{ENVIRONMENT} is not set" in refusal(graph, tmp_path / "out.onnx", None)
    assert "No module named 'modelopt'" in refusal(graph, tmp_path / "out.onnx", Path(sys.executable))
    assert "No such file" in refusal(graph, tmp_path / "out.onnx", tmp_path / "python")
    monkeypatch.setenv(ENVIRONMENT, sys.executable)
    assert "No module named 'modelopt'" in refusal(graph, tmp_path / "out.onnx", None)


@with_modelopt
@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_the_towers_multiply_in_eight_bits(graph: Path, tmp_path: Path, mode: Any) -> None:
    out = tmp_path / "encoder.onnx"
    quantize(graph, random_views(8), out, mode)
    onnx.checker.check_model(str(out))
    model = onnx.load(out).graph
    made_by = {output: node for node in model.node for output in node.output}
    weights = {tensor.name: tensor for tensor in model.initializer}
    kinds = {n.name: [made_by[i].op_type for i in n.input if i in made_by] for n in model.node if n.op_type == "MatMul"}
    low = {name for name, kind in kinds.items() if kind == ["DequantizeLinear", "DequantizeLinear"]}
    assert len(low) == SMALL.layers * 6 and {name.rsplit("/", 1)[-1] for name in low} == {"product"}
    zeros = [weights[n.input[2]].data_type for n in model.node if n.op_type == "DequantizeLinear"]
    assert set(zeros) == {{"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}[mode]}
    # A weight of one for all folds has a scale for each output, a stack of several one scale.
    shapes = {
        (len(weights[n.input[0]].dims), len(weights[n.input[1]].dims))
        for n in model.node
        if n.op_type == "QuantizeLinear" and n.input[0] in weights
    }
    assert shapes == {(2, 1), (3, 0)}


@with_modelopt
def test_tensorrt_builds_it(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(link_tensorrt(tmp_path / "tensorrt"))
    for mode in ("int8", "fp8"):
        quantize(graph, random_views(8), tmp_path / "encoder.onnx", mode)
        plan = build_plan(tmp_path / "encoder.onnx", profiles=profiles_for(8), log=tmp_path / "log")
        assert "QUANTIZE" in {layer["kind"] for layer in plan.network["layers"]}


@with_modelopt
@pytest.mark.parametrize(("mode", "least"), [("int8", 0.999), ("fp8", 0.99)])
def test_it_stays_near_fp32(graph: Path, tmp_path: Path, mode: str, least: float) -> None:
    out = tmp_path / "encoder.onnx"
    quantize(graph, random_views(8), out, mode)
    views = random_views(3, seed=9)
    exact, low = (onnxruntime.InferenceSession(str(p)).run(["EMBEDDING"], {"VIEWS": views})[0] for p in (graph, out))
    cosine = (exact * low).sum(axis=-1)
    assert cosine.min() > least and np.abs(exact - low).max() > 1e-3
