"""How much arithmetic an encoder's graph asks for, and how many bytes it moves, counted node by node from its shapes.

A multiply-add counts as two operations. Matrix products are nearly all of it; of everything else each element that a
node writes counts as one operation, which is too few for a softmax and too many for a reshape.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper, shape_inference

BATCH_INPUT = "VIEWS"
_LARGE = 4096  # bytes of an initializer beyond which it is no shape or axis, so that its values do not matter
_ONLY_VIEWS = {"Reshape", "Shape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Constant"}  # move no bytes
_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.INT64: 8}


class Product(NamedTuple):
    """One node that is a matrix product.

    Attributes:
        name: of the node.
        flop: 2 times the multiply-adds.
        weights: whether one side is a stored weight.
        operand_elements: numbers that it reads or writes and that are not stored weights.
    """

    name: str
    flop: int
    weights: bool
    operand_elements: int


@dataclass(frozen=True)
class Work:
    """What one batch of nodules costs.

    Attributes:
        nodules: in the batch.
        products: every matrix product.
        other_flop: elements that all other nodes write.
        weight_elements: stored numbers, each of which is read once a batch at least.
        edge_elements: numbers of the inputs and outputs.
    """

    nodules: int
    products: tuple[Product, ...]
    other_flop: int
    weight_elements: int
    edge_elements: int

    @property
    def product_flop(self) -> int:
        """Of all matrix products."""
        return sum(product.flop for product in self.products)

    @property
    def flop(self) -> int:
        """Of everything."""
        return self.product_flop + self.other_flop

    def least_bytes(self, size: int) -> int:
        """What must be moved even where everything between is kept in caches: weights, inputs, outputs.

        Args:
            size: bytes of a number.
        """
        return size * (self.weight_elements + self.edge_elements)

    def usual_bytes(self, size: int) -> int:
        """What is moved where each product reads its operands from memory and writes its result there, once.

        Everything that is no product is taken to be part of its neighbour.
        """
        return size * (self.weight_elements + sum(product.operand_elements for product in self.products))

    def by_part(self) -> dict[str, int]:
        """FLOP of the products by part of the encoder, in its order; the blocks of the towers together."""
        parts: dict[str, int] = defaultdict(int)
        for product in self.products:
            parts[part_of(product)] += product.flop
        return dict(parts)


def part_of(product: Product) -> str:
    """Which part of the encoder a product belongs to, in words."""
    first, _, rest = product.name.partition("/")
    if not first.startswith("block"):
        return "pixels and patches" if first in ("pixels", "patches") else "projection and pooling"
    if not rest.startswith("attention"):
        return "MLP"
    return "q, k, v and out" if product.weights else "attention of tokens"


def work_of(model: onnx.ModelProto, nodules: int = 1) -> Work:
    """Count a graph of the encoder in FP32 or 16 bits.

    Args:
        model: left as it is; weights may be missing from it, their shapes may not.
        nodules: of the batch.

    Raises:
        ValueError: where the shape of a product cannot be told.
    """
    shapes = shapes_of(model, nodules)
    stored = {tensor.name for tensor in model.graph.initializer}
    products, other = [], 0
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            products.append(_product(node, shapes, stored))
        elif node.op_type not in _ONLY_VIEWS:
            other += sum(math.prod(_known(name, shapes)) for name in node.output if name)
    edges = [value.name for value in [*model.graph.input, *model.graph.output] if value.name not in stored]
    return Work(
        nodules,
        tuple(products),
        other,
        sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        sum(math.prod(_known(name, shapes)) for name in edges),
    )


def shapes_of(model: onnx.ModelProto, nodules: int) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the graph, for a batch of so many nodules."""
    graph = model.graph
    large = [tensor for tensor in graph.initializer if _size(tensor) > _LARGE]
    inputs = [_fixed(value, nodules) for value in graph.input]
    inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in large]
    names = {tensor.name for tensor in large}
    light = helper.make_graph(
        graph.node,
        graph.name,
        inputs,
        [helper.make_empty_tensor_value_info(value.name) for value in graph.output],
        [tensor for tensor in graph.initializer if tensor.name not in names],
    )
    inferred = shape_inference.infer_shapes(
        helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version), data_prop=True
    ).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _product(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], stored: Iterable[str]) -> Product:
    a, out = (_known(name, shapes) for name in (node.input[0], node.output[0]))
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    inner = a[-2] if transposed else a[-1]
    weights = [name for name in node.input[:2] if name in stored]
    operands = math.prod(out) + sum(math.prod(_known(name, shapes)) for name in node.input[:2] if name not in weights)
    return Product(node.name or node.output[0], 2 * math.prod(out) * inner, bool(weights), operands)


def _known(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return shapes[name]
    except KeyError:
        raise ValueError(f"the shape of {name!r} cannot be told from the graph") from None


def _fixed(value: onnx.ValueInfoProto, nodules: int) -> onnx.ValueInfoProto:
    """An input with its free axis, the batch, set."""
    kind = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else nodules for dim in kind.shape.dim]
    return helper.make_tensor_value_info(value.name, kind.elem_type, sizes)


def _size(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * _BYTES.get(tensor.data_type, 8)
