"""Triton's configurations of nodule_encoder say what the graph says: names, types, shapes."""

from __future__ import annotations

from importlib import resources
from string import Template
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import helper
from small_model import SMALL, folds_of, plain_of
from tritonclient.grpc import model_config_pb2 as triton
from tritonclient.utils import np_to_triton_dtype

from noduleserve.engines.plan import profiles_for
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import encoder_id, stamp
from noduleserve.export.targets import MAX_BATCH

TARGETS = ("embedded", "onnxruntime", "tensorrt")


def configuration(target: str) -> Any:
    folder = resources.files("noduleserve.model_repository") / "nodule_encoder"
    text = Template((folder / f"config.pbtxt.{target}.template").read_text()).substitute(
        max_batch=MAX_BATCH, folds=2, embedding=SMALL.out
    )
    return text_format.Parse(text, triton.ModelConfig())


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    folds = [plain_of(fold) for fold in folds_of(2)]
    model = build_encoder(folds, Dimensions.of(folds[0], "a fold"), "fp16")
    stamp(model, encoder_id(model, tag="a test"))
    return model.graph


def of_graph(values: Any) -> dict[str, tuple[str, list[int]]]:
    """Name -> Triton's type, shape of one nodule."""
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        batch, *rest = tensor.shape.dim
        assert batch.dim_param == "N"
        kind = np_to_triton_dtype(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
        found[value.name] = (f"TYPE_{kind}", [d.dim_value for d in rest])
    return found


def of_configuration(values: Any) -> dict[str, tuple[str, list[int]]]:
    return {v.name: (triton.DataType.Name(v.data_type), list(v.dims)) for v in values}


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_and_outputs_are_those_of_the_graph(graph: onnx.GraphProto, target: str) -> None:
    config = configuration(target)
    assert of_configuration(config.input) == of_graph(graph.input)
    assert of_configuration(config.output) == of_graph(graph.output)
    assert len(config.output) == 4 and config.name == "nodule_encoder" and config.max_batch_size == MAX_BATCH


def test_tensorrt_uses_both_profiles_and_replays_both_tuned_sizes() -> None:
    config, profiles = configuration("tensorrt"), profiles_for(MAX_BATCH)
    assert config.platform == "tensorrt_plan"
    (group,) = config.instance_group
    assert group.kind == triton.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == [str(number) for number in range(len(profiles))]
    assert config.optimization.cuda.graphs
    assert [spec.batch_size for spec in config.optimization.cuda.graph_spec] == [p.tuned for p in profiles]
    assert list(config.dynamic_batching.preferred_batch_size) == [profiles[-1].tuned]
    assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 5000


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_nodule_and_a_full_batch_are_computed_before_the_first_request(target: str) -> None:
    config = configuration(target)
    assert [warm.batch_size for warm in config.model_warmup] == [1, MAX_BATCH]
    for warm in config.model_warmup:
        assert set(warm.inputs) == {"VIEWS"}
        views = warm.inputs["VIEWS"]
        assert views.zero_data and views.data_type == triton.TYPE_FP32 and list(views.dims) == [9, 50, 50]


def test_onnx_runtime_takes_the_gpu_if_there_is_one() -> None:
    config = configuration("onnxruntime")
    assert config.platform == "onnxruntime_onnx"
    assert [group.kind for group in config.instance_group] == [triton.ModelInstanceGroup.KIND_AUTO]
