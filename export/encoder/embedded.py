"""The encoder of target `embedded`, as files: its graphs, and engine.json, which says how to run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from noduleserve.export.targets import Precision

from .int8 import quantised
from .save import save_model

FP32_GRAPH, INT8_GRAPH = "encoder.onnx", "encoder.int8.onnx"
ENGINE = "engine.json"
_FALLBACK = {"precision": "fp32", "runtime": "onnxruntime", "graph": FP32_GRAPH}
# What model_repository/nodule_encoder/1/engine.py reads. BF16 needs any one of the CPU features named; INT8 needs none,
# since its sums are exact on every CPU.
ENGINES: dict[str, dict[str, Any]] = {
    "fp32": _FALLBACK | {"cpu_needs_any": []},
    "bf16": {
        "precision": "bf16",
        "runtime": "openvino",
        "graph": FP32_GRAPH,
        "cpu_needs_any": ["avx512_bf16", "amx_bf16"],
        "fallback": _FALLBACK,
    },
    "int8": {
        "precision": "int8",
        "runtime": "onnxruntime",
        "graph": INT8_GRAPH,
        "cpu_needs_any": [],
        "fallback": _FALLBACK,
    },
}


def write_embedded(
    graph: onnx.ModelProto, folder: Path, precision: Precision, *, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Write the graphs and engine.json.

    Args:
        graph: the encoder in FP32, with its output ENCODER_ID; left as it is.
        folder: nodule_encoder/1 of a release; must exist. The FP32 graph is always written, as encoder.onnx: a machine
            that lacks what the precision needs runs it instead.
        precision: of the towers' products: fp32, bf16 or int8. BF16 is a way to run the FP32 graph and adds no file.
        tell: is called with a line of progress before a long step.

    Raises:
        CheckpointError: NOTHING_TO_QUANTISE.
    """
    save_model(graph, folder / FP32_GRAPH)
    if precision == "int8":
        tell("rounding the image towers to 8-bit integers")
        save_model(quantised(graph), folder / INT8_GRAPH)
    (folder / ENGINE).write_text(json.dumps(ENGINES[precision], indent=1) + "\n")
