"""What is in a network and in the plan made of it, as dictionaries and as text.

Without a GPU TensorRT builds a plan but does not load it again. So a build always describes the network, whose types a
strongly typed engine keeps, and on a GPU asks the engine too, which tells what became of the layers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

from noduleserve.errors import EngineError

from .machine import import_tensorrt
from .messages import logger_of


def describe_network(network: Any) -> dict[str, Any]:
    """What a network is, before TensorRT fuses its layers.

    Returns:
        tensors: name -> mode, type, shape with -1 where free; layers: list of name, kind, the types of its results and
        the ONNX node that it comes from.
    """
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    tensors = {
        tensor.name: {"mode": mode, "type": _word(tensor.dtype), "shape": list(tensor.shape)}
        for mode, group in (("input", inputs), ("output", outputs))
        for tensor in group
    }
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return {
        "tensors": tensors,
        "layers": [
            {
                "name": layer.name,
                "kind": _word(layer.type),
                "types": sorted({_word(layer.get_output(i).dtype) for i in range(layer.num_outputs)}),
                "origin": layer.metadata,
            }
            for layer in layers
        ],
    }


def inspect_plan(content: bytes | memoryview, tell: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """What is in a plan; needs the GPU that it is for.

    Args:
        content: the plan's bytes.
        tell: is called with TensorRT's messages.

    Returns:
        tensors: name -> mode, type, shape with -1 where free, whether it is a shape tensor, and for inputs the
        smallest, tuned and largest shape of each profile; layers: what the engine inspector says of each.

    Raises:
        EngineError: TENSORRT_NOT_FOUND, ENGINE_NOT_LOADED with TensorRT's own words.
    """
    trt = import_tensorrt()
    logger = logger_of(trt, tell)
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # a version-compatible plan brings its own runtime
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(
            "ENGINE_NOT_LOADED",
            f"TensorRT {trt.__version__} does not load the plan: {logger.last_errors()}.",
            "Build it again on this machine: `noduleserve build-engine RELEASE --force`.",
        )
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return {
        "tensors": {name: _tensor(trt, engine, name) for name in names},
        "layers": json.loads(information)["Layers"],
    }


def text_of(network: dict[str, Any], engine: dict[str, Any] | None) -> str:
    """An inspection for people: inputs and outputs, then how many layers there are of each kind and type."""
    lines = []
    for name, tensor in network["tensors"].items():
        lines.append(f"{tensor['mode']:6} {name:14} {tensor['type']:5} {tensor['shape']}")
    kinds = Counter((layer["kind"], ", ".join(layer["types"])) for layer in network["layers"])
    lines.append(f"network: {len(network['layers'])} layers")
    lines += [f"  {count:5} {kind:16} -> {types}" for (kind, types), count in kinds.most_common()]
    if engine:
        lines.append(f"engine: {len(engine['layers'])} layers")
        of = Counter(layer.get("LayerType", "?") if isinstance(layer, dict) else "?" for layer in engine["layers"])
        lines += [f"  {count:5} {kind}" for kind, count in of.most_common()]
    return "\n".join(lines)


def _tensor(trt: ModuleType, engine: Any, name: str) -> dict[str, Any]:
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    told: dict[str, Any] = {
        "mode": "input" if is_input else "output",
        "type": _word(engine.get_tensor_dtype(name)),
        "shape": list(engine.get_tensor_shape(name)),
        "is_shape_tensor": bool(engine.is_shape_inference_io(name)),
    }
    if is_input:
        count = engine.num_optimization_profiles
        told["profiles"] = [[list(s) for s in engine.get_tensor_profile_shape(name, i)] for i in range(count)]
    return told


def _word(value: Any) -> str:
    """DataType.HALF -> HALF."""
    return str(value).rpartition(".")[2]
