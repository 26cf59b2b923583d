"""The FP32 graph of a release, which others than Triton can run as well."""

from __future__ import annotations

from pathlib import Path

from noduleserve.errors import ReleaseError
from noduleserve.export.targets import Encoding
from noduleserve.release import Release


def fp32_graph(release: Release) -> Path:
    """The encoder's graph in FP32: VIEWS [N,9,50,50] -> LOGITS [N,F,2] and more, all folds in one graph.

    Raises:
        ReleaseError: GRAPH_NOT_FP32.
    """
    target, precision = release.manifest["target"], release.manifest["precision"]
    if target != "embedded" and precision != "fp32":
        raise ReleaseError(
            "GRAPH_NOT_FP32",
            f"The release ({target}, {precision}) holds its encoder in no other precision; an FP32 graph is needed.",
            "Export the checkpoint for target embedded as well, or leave out what runs ONNX Runtime by itself.",
        )
    return release.folder / Encoding(target, precision).graph_file


def providers() -> list[str]:
    """What ONNX Runtime is to run a graph on: the GPU where the installed package can, else the CPU."""
    import onnxruntime

    found = set(onnxruntime.get_available_providers())
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in found]
