"""Writing an ONNX graph: one file where that is possible, else its weights in a second file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

LARGEST_FILE = 2**31 - 2**20  # bytes: protobuf reads no message of 2 GiB, and the graph itself needs some room
_EXTERNAL_FROM = 1024  # bytes: smaller weights stay in the graph, where shapes must be found when it is loaded
_ALIGNED_TO = 4096  # bytes: so that a runtime can map the file into memory


def save_model(model: onnx.ModelProto, path: Path, largest_file: int = LARGEST_FILE) -> list[Path]:
    """Write a graph; the same graph gives the same bytes.

    Args:
        model: is left as it is. Its weights must hold raw data.
        path: of the graph; weights that are apart lie in `<name>.data` beside it, under that relative name.
        largest_file: bytes from which on the weights lie apart.

    Returns:
        The files written.
    """
    # ByteSize of the whole model fails beyond 2 GiB, that of its parts does not.
    graph = model.graph
    total = sum(part.ByteSize() for part in (*graph.node, *graph.initializer, *graph.input, *graph.output))
    if total < largest_file:
        _write_one_file(model, path)
        return [path]
    weights = path.with_name(f"{path.name}.data")
    shell = _without_weights(model)
    with weights.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.ByteSize() < _EXTERNAL_FROM:
                shell.graph.initializer.append(tensor)
                continue
            file.write(bytes(-file.tell() % _ALIGNED_TO))
            shell.graph.initializer.append(_pointer(tensor, weights.name, file.tell()))
            file.write(tensor.raw_data)
    path.write_bytes(shell.SerializeToString(deterministic=True))
    return [path, weights]


def _write_one_file(model: onnx.ModelProto, path: Path) -> None:
    """As protobuf would, but weight by weight: it would hold the whole file in memory beside the model."""
    shell = _without_weights(model)
    graph = shell.graph.SerializeToString(deterministic=True)
    shell.ClearField("graph")
    heads = [_head(onnx.GraphProto, "initializer", tensor.ByteSize()) for tensor in model.graph.initializer]
    size = len(graph) + sum(len(h) + t.ByteSize() for h, t in zip(heads, model.graph.initializer, strict=True))
    with path.open("wb") as file:
        file.write(shell.SerializeToString(deterministic=True))
        file.write(_head(onnx.ModelProto, "graph", size))
        file.write(graph)
        for head, tensor in zip(heads, model.graph.initializer, strict=True):
            file.write(head)
            file.write(tensor.SerializeToString(deterministic=True))


def _head(message: Any, field: str, size: int) -> bytes:
    """What stands before a message within a message: its field's number, and its size."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    coded = bytearray([number << 3 | 2])
    while size > 0x7F:
        coded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*coded, size])


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of all but the weights, which may be larger than the memory can hold twice."""
    shell = onnx.ModelProto()
    for whole, part, left_out in ((model, shell, "graph"), (model.graph, shell.graph, "initializer")):
        for field, value in whole.ListFields():
            if field.name == left_out:
                continue
            if isinstance(value, (int, str, bytes)):
                setattr(part, field.name, value)
            elif hasattr(value, "CopyFrom"):
                getattr(part, field.name).CopyFrom(value)
            else:
                getattr(part, field.name).extend(value)
    return shell


def _pointer(tensor: onnx.TensorProto, file: str, offset: int) -> onnx.TensorProto:
    """A weight whose content lies in a file."""
    pointer = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", file), ("offset", offset), ("length", len(tensor.raw_data))):
        pointer.external_data.add(key=key, value=str(value))
    return pointer
