"""INT8 and FP8 for TensorRT: NVIDIA ModelOpt writes explicit Q/DQ nodes, so that the graph itself says its precision.

ModelOpt pins versions of onnx and onnxruntime that are not those of noduleserve. So it lives in an environment of its
own, whose Python NODULESERVE_MODELOPT_PYTHON names:

    python -m venv modelopt && modelopt/bin/pip install 'nvidia-modelopt[onnx]'
    export NODULESERVE_MODELOPT_PYTHON=$PWD/modelopt/bin/python
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from noduleserve.errors import EngineError

from . import modelopt_run
from .save import save_model

ENVIRONMENT = "NODULESERVE_MODELOPT_PYTHON"


def quantize(graph: Path, views: NDArray[np.float32], out: Path, mode: str, python: Path | None = None) -> None:
    """Write a graph whose towers multiply in INT8 or FP8.

    Args:
        graph: in FP32.
        views: [N, 9, 50, 50] of nodules to calibrate with: the largest activation of each product sets its scale.
        out: of the quantised graph.
        mode: of the products, int8 or fp8.
        python: of an environment with ModelOpt; by default what NODULESERVE_MODELOPT_PYTHON names.

    Raises:
        EngineError: MODELOPT_NOT_FOUND; MODELOPT_FAILED, with its own words.
    """
    interpreter = _interpreter(python)
    with tempfile.TemporaryDirectory() as scratch:
        calibration = Path(scratch) / "views.npy"
        np.save(calibration, views)
        script = Path(modelopt_run.__file__)
        line = [interpreter, "-I", script, graph, calibration, out, mode]
        done = subprocess.run([*map(str, line)], capture_output=True, text=True, cwd=scratch, check=False)
    if done.returncode or not out.is_file():
        words = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])[:1000]
        raise EngineError(
            "MODELOPT_FAILED",
            f"ModelOpt did not quantise the graph (status {done.returncode}): {words}",
            "Export in fp16 or bf16, or try another version of nvidia-modelopt.",
        )
    quantised = onnx.load(out)
    _require_same_interface(graph, quantised.graph)
    one_scale_a_stack(quantised.graph)
    out.with_name(f"{out.name}.data").unlink(missing_ok=True)
    save_model(quantised, out)


def one_scale_a_stack(graph: onnx.GraphProto) -> None:
    """Give each weight that is stacked over the folds, [F, in, out], one scale; the graph is changed in place.

    ModelOpt takes the second axis for the outputs, as it is of [in, out]. Of a stack that axis is summed over, and no
    integer product can have a scale for each of its terms.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantisers = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in weights]
    stacks = [n for n in quantisers if len(weights[n.input[0]].dims) == 3 and len(weights[n.input[1]].dims) == 1]
    scales = {node.input[1] for node in stacks}
    for node in stacks:
        scale, zero = weights[node.input[1]], weights[node.input[2]]
        largest = numpy_helper.to_array(scale).max()  # that of the largest weight
        scale.CopyFrom(numpy_helper.from_array(np.asarray(largest), scale.name))
        zero.CopyFrom(helper.make_tensor(zero.name, zero.data_type, [], b"\0", raw=True))
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] in scales:
            rest = [a for a in node.attribute if a.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(rest)


def _interpreter(python: Path | None) -> Path:
    named = python or os.environ.get(ENVIRONMENT)
    mend = (
        "Make an environment for it (python -m venv modelopt && modelopt/bin/pip install 'nvidia-modelopt[onnx]') and "
        f"set {ENVIRONMENT} to its bin/python."
    )
    if not named:
        raise EngineError("MODELOPT_NOT_FOUND", f"INT8 and FP8 need NVIDIA ModelOpt; {ENVIRONMENT} is not set.", mend)
    line = [str(named), "-I", "-c", "import modelopt.onnx.quantization"]
    try:
        asked = subprocess.run(line, capture_output=True, text=True, check=False)
        reason = asked.stderr.strip().splitlines()[-1:] if asked.returncode else []
    except OSError as error:
        reason = [str(error)]
    if reason:
        raise EngineError("MODELOPT_NOT_FOUND", f"{named} cannot import ModelOpt: {reason[0]}.", mend)
    return Path(named)


def _require_same_interface(graph: Path, after: onnx.GraphProto) -> None:
    """The quantised graph must be asked and must answer as the FP32 one, and be quantised at all."""
    before = onnx.load(graph, load_external_data=False).graph
    quantised = sum(node.op_type == "QuantizeLinear" for node in after.node)
    same = list(before.input) == list(after.input) and list(before.output) == list(after.output)
    if not same or not quantised:
        how = "has other inputs or outputs" if not same else "holds no quantised product"
        raise EngineError("MODELOPT_FAILED", f"The graph that ModelOpt wrote {how}.", "Report it with its version.")
