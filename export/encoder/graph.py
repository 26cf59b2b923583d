"""A small writer of ONNX graphs: named nodes, and every weight stored once however often it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9  # what TensorRT 10 and 11 and ONNX Runtime 1.18 and later read, bfloat16 included


class GraphWriter:
    """Collects nodes and weights; every method that adds a node returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._name_of_content: dict[bytes, str] = {}

    def weight(self, name: str, array: NDArray) -> str:
        """Store an array, or find the one of the same content that is stored already."""
        array = np.asarray(array, order="C")
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # the array itself, not a copy of it
        return self._once(digest.digest(), name, lambda: numpy_helper.from_array(array, name))

    def tensor(self, tensor: onnx.TensorProto) -> str:
        """Store a weight of any type, such as those that numpy has not, or find the one of the same content."""
        digest = hashlib.sha256(f"{tensor.data_type}{tuple(tensor.dims)}".encode())
        digest.update(tensor.raw_data)
        return self._once(digest.digest(), tensor.name, lambda: tensor)

    def _once(self, key: bytes, name: str, make: Callable[[], onnx.TensorProto]) -> str:
        if key not in self._name_of_content:
            assert name not in self._weights, f"two weights are called {name}"
            self._weights[name] = make()
            self._name_of_content[key] = name
        return self._name_of_content[key]

    def ints(self, *values: int) -> str:
        """A constant list of integers, such as a shape."""
        return self.weight("ints_" + "_".join(str(v).replace("-", "minus") for v in values), np.array(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """A constant scalar, float32."""
        return self.weight(name, np.array(value, np.float32))

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator with one output, which gets the node's name."""
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def reshape(self, name: str, x: str, *shape: int) -> str:
        """Reshape; one of the sizes may be -1."""
        return self.node("Reshape", name, [x, self.ints(*shape)])

    def linear(self, name: str, x: str, weight: NDArray, bias: NDArray) -> str:
        """x @ weight^T + bias, as torch.nn.Linear stores it; with a leading fold axis, fold by fold.

        Args:
            name: of the result.
            x: [F or 1, rows, in].
            weight: [out, in] shared by the folds, or [F, out, in].
            bias: [out] or [F, out].
        """
        turned = np.swapaxes(weight, -1, -2)
        product = self.node("MatMul", f"{name}/product", [x, self.weight(f"{name}.weight", turned)])
        if bias.ndim == 2:
            bias = bias[:, None, :]
        return self.node("Add", name, [product, self.weight(f"{name}.bias", bias)])

    def layer_norm(self, name: str, x: str, weight: NDArray, bias: NDArray) -> str:
        """Layer norm over the last axis, epsilon 1e-5; weight and bias [width] shared, or [F, width]."""
        if weight.ndim == 1 and bias.ndim == 1:
            inputs = [x, self.weight(f"{name}.weight", weight), self.weight(f"{name}.bias", bias)]
            return self.node("LayerNormalization", name, inputs, axis=-1, epsilon=1e-5)
        width = weight.shape[-1]
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        plain = self.layer_norm(f"{name}/plain", x, ones, zeros)
        scaled = self.node(
            "Mul", f"{name}/scaled", [plain, self.weight(f"{name}.weight", weight.reshape(-1, 1, width))]
        )
        return self.node("Add", name, [scaled, self.weight(f"{name}.bias", bias.reshape(-1, 1, width))])

    def model(
        self, inputs: dict[str, Sequence[str | int]], outputs: dict[str, Sequence[str | int]], doc: str
    ) -> onnx.ModelProto:
        """The finished model."""

        def values(table: dict[str, Sequence[str | int]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in table.items()]

        graph = helper.make_graph(
            self._nodes, "nodule_encoder", values(inputs), values(outputs), list(self._weights.values())
        )
        opset = [helper.make_operatorsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="noduleserve", doc_string=doc
        )
