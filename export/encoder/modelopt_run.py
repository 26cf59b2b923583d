"""Runs inside the environment of NVIDIA ModelOpt, which has no noduleserve: ONNX graph in, graph with Q/DQ nodes out.

python modelopt_run.py GRAPH.onnx VIEWS.npy OUT.onnx int8|fp8
"""

from __future__ import annotations

import sys

# The towers' matrix products with weights, which are nearly all the work. What they add up to stays as it is: products
# of activations with activations, layer norms, softmax, and everything behind the towers.
QUANTISED = [
    r"^block\d+/attention/[qkv]_flat/product$",
    r"^block\d+/attention/out/product$",
    r"^block\d+/mlp_(in|out)/product$",
]


def main(graph: str, views: str, out: str, mode: str) -> None:
    """Quantise a graph; `views` holds float32 [N, 9, 50, 50] for calibration."""
    import numpy as np
    from modelopt.onnx.quantization import quantize

    quantize(
        graph,
        quantize_mode=mode,
        calibration_data={"VIEWS": np.load(views)},
        calibration_method="max",  # the largest value that calibration sees: the same on every machine
        calibration_eps=["cpu"],
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=QUANTISED,
        disable_mha_qdq=True,
        high_precision_dtype="fp32",
        output_path=out,
        log_level="WARNING",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
