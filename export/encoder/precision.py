"""The region of the encoder's graph that is computed in 16 bits: what enters it, what it rounds, what leaves it.

A strongly typed graph says the type of every tensor itself, so a TensorRT engine or any other runtime that honours it
computes in 16 bits exactly where the graph does. An emulating graph computes the same on hardware that has no such
arithmetic: in float32, with every result of the region rounded to 16 bits, as a matrix unit that sums in float32 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from noduleserve.errors import CheckpointError

from .graph import GraphWriter

Name = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Precision:
    """A floating-point type of 16 bits.

    Attributes:
        name: as options and manifests have it.
        tensor_type: of ONNX.
    """

    name: str
    tensor_type: int

    def rounded(self, name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The nearest values of this type, as float32.

        Raises:
            CheckpointError: WEIGHT_OVERFLOWS, where a value has none.
        """
        if self.tensor_type == TensorProto.FLOAT16:
            with np.errstate(over="ignore"):
                nearest = array.astype(np.float16).astype(np.float32)
        else:
            bits = _bfloat16_bits(array).reshape(-1).astype(np.uint32) << 16
            nearest = bits.view(np.float32).reshape(array.shape)
        if not np.isfinite(nearest).all():
            raise CheckpointError(
                "WEIGHT_OVERFLOWS",
                f"{name} holds {np.abs(array).max():.4g}, which {self.name} cannot.",
                "Export with --precision bf16, which has the range of fp32, or fp32.",
            )
        return nearest

    def tensor(self, name: str, array: NDArray[np.float32]) -> onnx.TensorProto:
        """A weight stored in this type; the array holds values of it."""
        if self.tensor_type == TensorProto.FLOAT16:
            return numpy_helper.from_array(array.astype(np.float16), name)
        bits = _bfloat16_bits(array).astype("<u2")
        return helper.make_tensor(name, self.tensor_type, array.shape, bits.tobytes(), raw=True)


def _bfloat16_bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of float32, rounded to nearest, ties to even."""
    bits = np.asarray(array, np.float32, order="C").reshape(-1).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).reshape(array.shape)


PRECISIONS = {
    "fp16": Precision("fp16", TensorProto.FLOAT16),
    "bf16": Precision("bf16", TensorProto.BFLOAT16),
}


class Region(Protocol):
    """How the operators of the towers are written."""

    def enter(self, name: str, x: str) -> str:
        """A float32 tensor -> a tensor of the region."""

    def leave(self, name: str, x: str) -> str:
        """A tensor of the region -> a float32 tensor."""

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        """A weight of the region."""

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """An operator that computes within the region; one that only moves numbers need not be written here."""


def region(graph: GraphWriter, precision: Name, *, emulate: bool) -> Region:
    """How to write the towers in a precision."""
    if precision == "fp32":
        return _Everywhere(graph)
    low = PRECISIONS[precision]
    return _Emulated(graph, low) if emulate else _Typed(graph, low)


def linear(to: Region, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    """x @ weight^T + bias within a region; shapes as GraphWriter.linear has them."""
    product = to.node("MatMul", f"{name}/product", [x, to.weight(f"{name}.weight", np.swapaxes(weight, -1, -2))])
    bias = bias[:, None, :] if bias.ndim == 2 else bias
    return to.node("Add", name, [product, to.weight(f"{name}.bias", bias)])


class _Everywhere:
    """The region is float32, as everything around it: nothing enters or leaves."""

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph

    def enter(self, name: str, x: str) -> str:
        return x

    def leave(self, name: str, x: str) -> str:
        return x

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        return self._graph.weight(name, array)

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self._graph.node(kind, name, inputs, **attributes)


class _Typed(_Everywhere):
    """The region is of a type of 16 bits."""

    def __init__(self, graph: GraphWriter, low: Precision) -> None:
        super().__init__(graph)
        self._low = low

    def enter(self, name: str, x: str) -> str:
        return self._graph.node("Cast", f"{name}/{self._low.name}", [x], to=self._low.tensor_type)

    def leave(self, name: str, x: str) -> str:
        return self._graph.node("Cast", f"{name}/fp32", [x], to=TensorProto.FLOAT)

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        return self._graph.tensor(self._low.tensor(f"{name}.{self._low.name}", self._low.rounded(name, array)))


class _Emulated(_Everywhere):
    """The region is float32 that is rounded to 16 bits after every operator."""

    def __init__(self, graph: GraphWriter, low: Precision) -> None:
        super().__init__(graph)
        self._low = low

    def enter(self, name: str, x: str) -> str:
        low = self._graph.node("Cast", f"{name}/{self._low.name}", [x], to=self._low.tensor_type)
        return self._graph.node("Cast", f"{name}/rounded", [low], to=TensorProto.FLOAT)

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        return self._graph.weight(f"{name}.{self._low.name}", self._low.rounded(name, array))

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.enter(name, self._graph.node(kind, name, inputs, **attributes))
