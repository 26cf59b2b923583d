"""fp16 and bf16: where the graph is of 16 bits, and that its emulation on the CPU computes what the graph says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator
from small_model import SMALL, State, folds_of, plain_encode, plain_of, random_views

from noduleserve.errors import CheckpointError
from noduleserve.export.checkpoint.layout import Dimensions
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import encoder_id, stamp
from noduleserve.export.encoder.precision import PRECISIONS
from noduleserve.export.proof.outputs import probability

Array = np.ndarray[Any, Any]
OUTPUTS = ["EMBEDDING", "VIEW_ATTENTION", "LOGITS"]
LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def folds() -> list[State]:
    return [plain_of(fold) for fold in folds_of(2)]


def graph_of(folds: list[State], precision: Any = "fp32", *, emulate: bool = False) -> onnx.ModelProto:
    model = build_encoder(folds, Dimensions.of(folds[0], "a fold"), precision, emulate=emulate)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, views: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(OUTPUTS, {"VIEWS": views})


def rms(one: Array, other: Array) -> float:
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.parametrize("precision", LOW)
def test_the_emulation_computes_what_the_typed_graph_says(folds: list[State], precision: str) -> None:
    """The typed graph is run by ONNX's own reference, operator by operator in the types that it names."""
    views = random_views(2)
    typed = ReferenceEvaluator(graph_of(folds, precision)).run(OUTPUTS, {"VIEWS": views})
    emulated, exact = run(graph_of(folds, precision, emulate=True), views), run(graph_of(folds), views)
    for name, one, other, fp32 in zip(OUTPUTS, typed, emulated, exact, strict=True):
        assert one.dtype == other.dtype == np.float32
        # They round alike, but not every sum is added in the same order: nearer to each other than to FP32.
        assert rms(one, other) < rms(other, fp32), name
    assert rms(typed[0], emulated[0]) < 0.5 * rms(emulated[0], exact[0])


def test_onnx_runtime_computes_typed_fp16_and_emulated_fp16_alike(folds: list[State]) -> None:
    """On the CPU it computes some of the typed graph's operators in FP32: alike, not the same."""
    views = random_views(3)
    typed, emulated = run(graph_of(folds, "fp16"), views), run(graph_of(folds, "fp16", emulate=True), views)
    for one, other in zip(typed, emulated, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-2)
    np.testing.assert_allclose(probability(typed[2]), probability(emulated[2]), rtol=0, atol=3e-3)


@pytest.mark.parametrize(("precision", "least", "most"), [("fp16", 1e-4, 2e-3), ("bf16", 1e-3, 2e-2)])
def test_emulation_differs_from_fp32_as_much_as_its_bits_say(
    folds: list[State], precision: str, least: float, most: float
) -> None:
    """Too little would mean that a runtime has optimised the rounding away, too much that something else is wrong."""
    views = random_views(3)
    emulated, expected = run(graph_of(folds, precision, emulate=True), views), plain_encode(folds, views)
    assert least < np.abs(emulated[0] - expected[0]).max() < most
    assert np.abs(probability(emulated[2]) - probability(expected[2])).max() < 5 * most


def test_an_emulated_fp32_graph_is_the_fp32_graph(folds: list[State]) -> None:
    plain, emulated = graph_of(folds), graph_of(folds, emulate=True)
    assert plain.SerializeToString(deterministic=True) == emulated.SerializeToString(deterministic=True)
    assert "Cast" not in {node.op_type for node in plain.graph.node}


# ---------------------------------------------------------------- types


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("precision", LOW)
def test_the_towers_are_low_and_what_adds_up_is_fp32(folds: list[State], precision: str) -> None:
    model, low = graph_of(folds, precision), LOW[precision]
    types = types_of(model)
    kinds: dict[str, set[int]] = {}
    for node in model.graph.node:
        kinds.setdefault(node.op_type, set()).add(types[node.output[0]])
    for kind in ("LayerNormalization", "Softmax", "ReduceL2", "ReduceSum", "Tanh", "Div"):
        assert kinds[kind] == {TensorProto.FLOAT}, kind
    assert kinds["Sigmoid"] == {low}
    products = {node.name for node in model.graph.node if node.op_type == "MatMul" and types[node.output[0]] == low}
    assert products == {"patches/embedded"} | {
        f"block{n}/{part}"
        for n in range(SMALL.layers)
        for part in (
            *(f"attention/{p}_flat/product" for p in "qkv"),
            "attention/scores", "attention/mixed", "attention/out/product", "mlp_in/product", "mlp_out/product",
        )
    }  # fmt: skip
    # The residual stream, and everything from the last layer norm on.
    assert {types[f"block{n}"] for n in range(SMALL.layers)} == {TensorProto.FLOAT}
    assert {types[name] for name in ("ln_post", "clip_embedding", "views_embedding", "pooled", *OUTPUTS)} == {
        TensorProto.FLOAT
    }
    assert types["VIEWS"] == TensorProto.FLOAT


@pytest.mark.parametrize("precision", LOW)
def test_weights_of_the_towers_take_half_the_room(folds: list[State], precision: str) -> None:
    whole, half = graph_of(folds), graph_of(folds, precision)
    large = {t.name: t for t in half.graph.initializer if len(t.raw_data) > 8192}
    assert {t.data_type for name, t in large.items() if name.startswith("block")} == {LOW[precision]}
    assert half.ByteSize() < 0.6 * whole.ByteSize()


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("emulate", [False, True])
def test_only_the_batch_is_free(folds: list[State], precision: str, emulate: bool) -> None:
    model = graph_of(folds, precision, emulate=emulate)
    stamp(model, encoder_id(model, tag="a test"))
    onnx.checker.check_model(model, full_check=True)
    found = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*model.graph.input, *model.graph.output)
    }
    assert found == {
        "VIEWS": (TensorProto.FLOAT, ["N", 9, 50, 50]),
        "EMBEDDING": (TensorProto.FLOAT, ["N", 2, SMALL.out]),
        "VIEW_ATTENTION": (TensorProto.FLOAT, ["N", 2, 9]),
        "LOGITS": (TensorProto.FLOAT, ["N", 2, 2]),
        "ENCODER_ID": (TensorProto.INT32, ["N", 4]),
    }


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize("precision", LOW)
def test_rounding_is_that_of_torch(precision: str) -> None:
    random = np.random.default_rng(8)
    values = (random.standard_normal((40, 50)) * 10.0 ** random.integers(-9, 4, (40, 50))).astype(np.float32)
    ties = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 0, -0.0], np.float32)
    low = PRECISIONS[precision]
    for array in (values, ties, np.array(1.702, np.float32), np.swapaxes(values, 0, 1)):
        expected = torch.from_numpy(np.ascontiguousarray(array)).to(TORCH[precision])
        np.testing.assert_array_equal(low.rounded("x", array), expected.float().numpy())
        tensor = low.tensor("x", low.rounded("x", array))
        assert list(tensor.dims) == list(array.shape)
        stored = numpy_helper.to_array(tensor).astype(np.float32)
        np.testing.assert_array_equal(stored, expected.float().numpy())


@pytest.mark.parametrize("emulate", [False, True])
def test_a_weight_beyond_fp16_is_refused(folds: list[State], emulate: bool) -> None:
    key = "vision_model.transformer.resblocks.1.mlp.c_fc.weight"
    large = folds[0][key].copy()
    large[3, 5] = 70000
    beyond = [fold | {key: large} for fold in folds]
    with pytest.raises(CheckpointError, match=r"WEIGHT_OVERFLOWS.*block1/mlp_in\.weight holds 7e\+04.*bf16"):
        graph_of(beyond, "fp16", emulate=emulate)
    graph_of(beyond, "bf16", emulate=emulate)
    large[3, 5] = 65504  # the largest of fp16
    graph_of(beyond, "fp16", emulate=emulate)


def test_a_weight_that_bf16_would_round_to_infinity_is_refused(folds: list[State]) -> None:
    key = "vision_model.transformer.resblocks.0.mlp.c_fc.bias"
    with pytest.raises(CheckpointError, match="WEIGHT_OVERFLOWS"):
        graph_of([fold | {key: np.full_like(fold[key], 3.4e38)} for fold in folds], "bf16")


def test_a_graph_is_the_same_bytes_again_in_every_precision(folds: list[State], tmp_path: Path) -> None:
    for precision in LOW:
        one, other = (graph_of(folds, precision).SerializeToString(deterministic=True) for _ in range(2))
        assert one == other
