"""The encoder's id, which its graph hands on with every embedding.

A release's nodule_similarity knows the id of its encoder and refuses every other.  It is an output of the graph itself,
since neither a TensorRT plan nor an ONNX graph could read a file beside it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OUTPUT = "ENCODER_ID"
WORDS = 4  # of 32 bits


def encoder_id(model: onnx.ModelProto, *, tag: str) -> NDArray[np.int32]:
    """128 bits of the SHA-256 of a graph, weights included, and of how it is run, int32 [4].

    Args:
        model: the FP32 graph.
        tag: target and precision, which make another encoder of the same graph.
    """
    digest = hashlib.sha256(tag.encode())
    for part in (*model.graph.node, *model.graph.input, *model.graph.output):
        digest.update(hashlib.sha256(part.SerializeToString(deterministic=True)).digest())
    for weight in model.graph.initializer:  # one at a time: the whole graph would be in memory twice
        digest.update(hashlib.sha256(weight.SerializeToString(deterministic=True)).digest())
    return np.frombuffer(digest.digest()[: 4 * WORDS], "<i4").astype(np.int32)


def stamp(model: onnx.ModelProto, identity: NDArray[np.int32]) -> None:
    """Give a graph the output ENCODER_ID [N,4], int32, the same for every nodule; the graph is changed in place."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(identity.reshape(1, WORDS), "encoder_id"))
    graph.initializer.append(numpy_helper.from_array(np.array([WORDS], np.int64), "encoder_id_words"))
    graph.node.extend(
        [
            helper.make_node("Shape", ["VIEWS"], ["encoder_id/nodules"], name="encoder_id/nodules", start=0, end=1),
            helper.make_node(
                "Concat", ["encoder_id/nodules", "encoder_id_words"], ["encoder_id/shape"], "encoder_id/shape", axis=0
            ),
            helper.make_node("Expand", ["encoder_id", "encoder_id/shape"], [OUTPUT], name=OUTPUT),
        ]
    )
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.INT32, ["N", WORDS]))
