"""Triton's gRPC protocol in arrays: what a request and an answer are made of, for whoever speaks it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

ENSEMBLE = "nodule_score"
_NUMPY: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
}


def infer_request(
    model: str, request_id: str, inputs: dict[str, tuple[str, NDArray]], outputs: tuple[str, ...] = ()
) -> pb.ModelInferRequest:
    """A request to any model: inputs as name -> (Triton type, array with the batch first); no outputs means all."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, (datatype, array) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array, _NUMPY[datatype]).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def arrays_of(response: pb.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """The outputs of a response, strings as object arrays of str."""
    arrays: dict[str, NDArray[Any]] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            arrays[output.name] = np.array(_strings(raw), object).reshape(output.shape)
        else:
            arrays[output.name] = np.frombuffer(raw, _NUMPY[output.datatype]).reshape(output.shape)
    return arrays


def _strings(raw: bytes) -> list[str]:
    """Triton's BYTES: each string is preceded by its length, 4 bytes little endian."""
    strings, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        strings.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return strings
