"""What this machine can do at best: matrix products in FP32 and in 8-bit integers, and bytes a second from memory.

The products have the shapes of an encoder's layers, run in ONNX Runtime, with weights that stand for themselves and
are packed once, as an encoder's are. So this is a roof that the encoder's own runtime reaches, not the data sheet's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROWS = 450  # tokens of a nodule: nine views of 7 x 7 patches and the class token
LAYERS = ((768, 768), (768, 3072), (3072, 768))  # inputs, outputs: attention, MLP in, MLP out of ViT-B/32
_PASSES = 4  # of a run, so that one takes longer than a turn of the scheduler
_TRIAD_ELEMENTS = 16 * 2**20  # 64 MB an array: three do not fit any cache but the largest
_NODES = {"fp32": "MatMul", "int8": "MatMulIntegerToFloat"}


class PeakWay(NamedTuple):
    """One rate to be measured.

    Attributes:
        amount: operations or bytes of a run.
        run: one run.
    """

    amount: float
    run: Callable[[], object]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def peak_ways(rows: int = ROWS, elements: int = _TRIAD_ELEMENTS) -> dict[tuple[str, int], PeakWay]:
    """Products in FP32 and INT8 and the triad, on one thread and on as many as there are cores, ready to be timed.

    Args:
        rows: of the left side of each product.
        elements: of each array of the triad.

    Returns:
        By kind ("fp32", "int8", "triad") and threads.
    """
    operations = _PASSES * sum(2.0 * rows * k * n for k, n in LAYERS)
    ways: dict[tuple[str, int], PeakWay] = {}
    for threads in sorted({1, cores()}):
        for precision in _NODES:
            ways[precision, threads] = PeakWay(operations, products(precision, rows, threads))
        ways["triad", threads] = PeakWay(5 * 4.0 * elements, triad(elements, threads))
    return ways


def products(precision: str, rows: int, threads: int) -> Callable[[], object]:
    """A way that multiplies one after another by the weights of LAYERS, as the encoder's graph of that precision does.

    Args:
        precision: "fp32", or "int8": uint8 rows by int8 columns, summed in int32, scaled to float32.
        rows: of the left side.
        threads: of ONNX Runtime.
    """
    random = np.random.default_rng(0)
    runs = []
    for inputs, outputs in LAYERS:
        session = _session(precision, rows, inputs, outputs, threads, random)
        x: NDArray = random.standard_normal((rows, inputs), np.float32)
        if precision == "int8":
            x = random.integers(1, 128, (rows, inputs)).astype(np.uint8)
        runs.append(partial(session.run, None, {"x": x}))
    return lambda: [run() for _ in range(_PASSES) for run in runs]


def triad(elements: int, threads: int) -> Callable[[], object]:
    """A way that computes a = b + 2 c over float32 arrays in two passes: five arrays' bytes, twice those written."""
    b, c = np.ones(elements, np.float32), np.ones(elements, np.float32)
    a = np.zeros(elements, np.float32)
    pieces = [slice(i * elements // threads, (i + 1) * elements // threads) for i in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def part(piece: slice) -> None:
        np.multiply(c[piece], np.float32(2), out=a[piece])
        np.add(a[piece], b[piece], out=a[piece])

    return lambda: list(pool.map(part, pieces))


def _session(
    precision: str, rows: int, inputs: int, outputs: int, threads: int, random: np.random.Generator
) -> ort.InferenceSession:
    """One product, [rows, inputs] by a stored [inputs, outputs], as float32 [rows, outputs]."""
    if precision == "int8":
        weights = [
            numpy_helper.from_array(random.integers(-127, 128, (inputs, outputs)).astype(np.int8), "w"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.full(outputs, 0.01, np.float32), "step"),
            numpy_helper.from_array(np.array(64, np.uint8), "zero"),
        ]
        node = helper.make_node(
            _NODES[precision], ["x", "w", "one", "step", "zero"], ["y"], name="y", domain="com.microsoft"
        )
    else:
        weights = [numpy_helper.from_array(random.standard_normal((inputs, outputs), np.float32), "w")]
        node = helper.make_node(_NODES[precision], ["x", "w"], ["y"], name="y")
    kind = TensorProto.UINT8 if precision == "int8" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", kind, [rows, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])],
        weights,
    )
    opsets = [helper.make_operatorsetid("", 17), helper.make_operatorsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Or threads of the product before would still spin for work, on the cores of this one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
