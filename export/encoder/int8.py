"""The encoder's graph with the matrix products of its image towers in 8-bit integers, for ONNX Runtime on a CPU.

A weight is rounded for each output channel to -127..127, ahead of time; an activation for each row (a token of one view
of one fold) to 7 bits, 1..127 around 64, when the row is known. The products' sums are exact integers on every CPU:
instructions without VNNI add two products in 16 bits, and 2 * 127 * 127 still fits there, where activations of 8 bits
would be cut off. Everything else, the heads included, stays in float32.

A row's scale is its own, so neither another view nor another fold nor another nodule changes a nodule's digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from noduleserve.errors import CheckpointError

WEIGHT_LIMIT = 127
ACTIVATION_LIMIT, ACTIVATION_ZERO = 63, 64  # uint8 1..127
TOWER = "block"  # the names of a tower's nodes begin with it
_FUSED = "com.microsoft"  # domain of ONNX Runtime's own operators


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Round the towers' weights, and their inputs at run time.

    Args:
        model: the graph in FP32, which is left as it is; its other outputs, such as ENCODER_ID, stay bit for bit.

    Returns:
        A graph of the same inputs and outputs.

    Raises:
        CheckpointError: NOTHING_TO_QUANTISE, where no product of a tower is found.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    writer = _Writer()
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.name.startswith(TOWER) and node.input[1] in weights:
            writer.product(node, weights[node.input[1]])
        else:
            writer.nodes.append(node)
    if not writer.stored:
        raise CheckpointError(
            "NOTHING_TO_QUANTISE",
            f"The graph has no matrix product of an image tower (names beginning with {TOWER}).",
            "Give the encoder's graph in FP32, as the export writes it.",
        )
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(
        writer.nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *writer.stored.values()]
    )
    return helper.make_model(
        graph,
        opset_imports=[*model.opset_import, helper.make_operatorsetid(_FUSED, 1)],
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        doc_string=model.doc_string,
    )


def rounded_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The nearest multiples of each output channel's step.

    Args:
        weight: [in, out], or [F, in, out] of F folds.

    Returns:
        Multiples of the same shape, -127..127, and the steps, [out] or [F, 1, out].
    """
    step = np.maximum(np.abs(weight).max(axis=-2, keepdims=True), np.float32(1e-30)) / np.float32(WEIGHT_LIMIT)
    return np.rint(weight / step).astype(np.int8), step if weight.ndim == 3 else step[0]


class _Writer:
    """Collects the nodes and the weights of the new graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, TensorProto] = {}
        self._rounded: set[str] = set()

    def product(self, node: onnx.NodeProto, weight: TensorProto) -> None:
        """x @ weight, its integers summed exactly, then scaled back by the channel's step and the row's."""
        x, name = node.input[0], weight.name
        if f"{name}/int8" not in self.stored:
            multiples, steps = rounded_weight(numpy_helper.to_array(weight))
            self._store(f"{name}/int8", multiples)
            self._store(f"{name}/step", steps)
        self._round_rows(x)
        integers = [f"{x}/int8", f"{name}/int8", self._one(), f"{name}/step", self._zero()]
        self._node("MatMulIntegerToFloat", f"{node.output[0]}/of_row", integers, domain=_FUSED)
        self._node("Mul", node.output[0], [f"{node.output[0]}/of_row", f"{x}/step"])

    def _round_rows(self, x: str) -> None:
        """x [F or 1, rows, width] -> its rows' steps [F or 1, rows, 1] and multiples; once for q, k and v together."""
        if x in self._rounded:
            return
        self._rounded.add(x)
        axis = self._store("int8/last_axis", np.array([-1], np.int64))
        for side, kind, limit in (("high", "ReduceMax", ACTIVATION_LIMIT), ("low", "ReduceMin", -ACTIVATION_LIMIT)):
            share = self._store(f"int8/{side}_share", np.array(1 / limit, np.float32))
            self._node(kind, f"{x}/{side}", [x, axis], keepdims=1)
            self._node("Mul", f"{x}/{side}_step", [f"{x}/{side}", share])
        tiny = self._store("int8/tiny", np.array(1e-30, np.float32))
        self._node("Max", f"{x}/step", [f"{x}/high_step", f"{x}/low_step", tiny])
        self._node("Div", f"{x}/steps", [x, f"{x}/step"])
        self._node("QuantizeLinear", f"{x}/int8", [f"{x}/steps", self._one(), self._zero()])

    def _one(self) -> str:
        return self._store("int8/one", np.array(1, np.float32))

    def _zero(self) -> str:
        return self._store("int8/zero", np.array(ACTIVATION_ZERO, np.uint8))

    def _store(self, name: str, array: NDArray) -> str:
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def _node(self, kind: str, output: str, inputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
