"""Runs the encoder on this machine's CPU, in the precision that engine.json asks for or in the one it falls back to.

Triton runs it through model.py; the parity proof and the benchmarks load this very file from a release.
"""

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTPUTS = ("EMBEDDING", "VIEW_ATTENTION", "LOGITS", "ENCODER_ID")
THREADS = "NODULESERVE_ENCODER_THREADS"

Run = Callable[[NDArray[np.float32]], list[NDArray]]  # views [1,9,50,50] -> OUTPUTS, in their order


class EngineError(ValueError):
    """The encoder cannot be run as the release says; `code` is stable."""

    def __init__(self, code: str, what: str, mend: str) -> None:
        self.code, self.what, self.mend = code, what, mend
        super().__init__(f"[{code}] {what} Mend: {mend}")


@dataclass(frozen=True)
class Way:
    """A way to run the encoder.

    Attributes:
        precision, runtime: one of the pairs of RUNTIMES.
        graph: file name in the model's folder.
        cpu_needs_any: CPU features, as Linux names them, of which it needs one; none if empty.
    """

    precision: str
    runtime: str
    graph: str
    cpu_needs_any: tuple[str, ...] = ()

    def lacks(self, flags: frozenset[str]) -> str:
        """What a CPU with these flags lacks, as a sentence without a full stop, or ""."""
        if not self.cpu_needs_any or flags & set(self.cpu_needs_any):
            return ""
        return f"this CPU has not {' or '.join(self.cpu_needs_any)}"

    def load(self, folder: Path, threads: int) -> Run:
        """The graph, ready to run; ModuleNotFoundError where its runtime is not installed."""
        return RUNTIMES[self.precision, self.runtime](folder / self.graph, threads)


class Engine:
    """The encoder, ready to run.

    Attributes:
        way: how it runs.
        lacking: why it does not run as the release prefers, or "".
    """

    def __init__(self, way: Way, run: Run, lacking: str = "") -> None:
        self.way, self.lacking, self._run = way, lacking, run

    def __call__(self, views: NDArray[np.float32]) -> tuple[NDArray, ...]:
        """Encode N nodules, one at a time.

        No nodule's digits depend on its neighbours that way, and a batch is no faster on a CPU: the activations of
        several nodules outgrow its caches.

        Args:
            views: float32 [N,9,50,50], 0..1.

        Returns:
            EMBEDDING [N,F,out], VIEW_ATTENTION [N,F,9], LOGITS [N,F,2] in float32, ENCODER_ID [N,4] in int32.
        """
        parts = [self._run(views[i : i + 1]) for i in range(len(views))]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def open_engine(folder: Path, threads: int | None = None, log: Callable[[str], None] | None = None) -> Engine:
    """Load the encoder.

    Args:
        folder: that of this file in a release: engine.json and the graphs.
        threads: of the runtime; default: NODULESERVE_ENCODER_THREADS, else the cores that this process may use.
        log: is called with one line if this machine lacks what the precision needs; default: Python's logging.

    Raises:
        EngineError: ENGINE_DAMAGED, ENGINE_UNKNOWN, THREADS_INVALID.
    """
    preferred, fallback = read_ways(folder)
    threads = threads or threads_wanted()
    lacking = preferred.lacks(cpu_flags())
    if not lacking:
        try:
            return Engine(preferred, preferred.load(folder, threads))
        except ModuleNotFoundError as error:
            if fallback is None:
                raise
            lacking = f"the Python package {error.name} is not installed"
    assert fallback is not None, "only FP32 is without one, and it needs nothing"
    (log or logging.getLogger("noduleserve").warning)(
        f"The encoder runs in {fallback.precision} instead of {preferred.precision}: {lacking}."
    )
    return Engine(fallback, fallback.load(folder, threads), lacking)


def read_ways(folder: Path) -> tuple[Way, Way | None]:
    """The way that engine.json prefers and the one that it falls back to, None where nothing can be lacking.

    Raises:
        EngineError: ENGINE_DAMAGED, ENGINE_UNKNOWN.
    """
    file, mend = folder / "engine.json", "Export the release anew, or serve another one."
    try:
        content = json.loads(file.read_text())
        ways = [_way(part) for part in (content, content.get("fallback")) if part is not None]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError("ENGINE_DAMAGED", f"{file} does not say how to run: {error!r}.", mend) from None
    for way in ways:
        if (way.precision, way.runtime) not in RUNTIMES:
            raise EngineError(
                "ENGINE_UNKNOWN", f"There is no way to run precision {way.precision!r} on {way.runtime!r}.", mend
            )
    if ways[-1].cpu_needs_any or (len(ways) == 1 and ways[0].precision != "fp32"):
        raise EngineError("ENGINE_DAMAGED", f"{file} names nothing that every CPU can run.", mend)
    return ways[0], ways[1] if len(ways) > 1 else None


def _way(content: dict[str, Any]) -> Way:
    needs = content.get("cpu_needs_any", [])
    texts = [content["precision"], content["runtime"], content["graph"], *needs]
    if not isinstance(needs, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("a name is not a text")
    return Way(*texts[:3], cpu_needs_any=tuple(needs))


def cpu_flags(cpuinfo: str | None = None) -> frozenset[str]:
    """What the CPU can do, by Linux's names, from /proc/cpuinfo or from a text like it."""
    if cpuinfo is None:
        file = Path("/proc/cpuinfo")
        cpuinfo = file.read_text() if file.exists() else ""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, Arm
            return frozenset(flags.split())
    return frozenset()


def threads_wanted() -> int:
    """NODULESERVE_ENCODER_THREADS, or the cores that this process may use.

    Raises:
        EngineError: THREADS_INVALID.
    """
    text = os.environ.get(THREADS) or str(len(os.sched_getaffinity(0)))
    if not text.isdecimal() or int(text) < 1:
        raise EngineError("THREADS_INVALID", f"{THREADS} is {text!r}.", "Set it to a number of threads, or not at all.")
    return int(text)


def _on_onnxruntime(graph: Path, threads: int) -> Run:
    """A graph as it is, FP32 or INT8."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it keeps a device id and reports to Microsoft
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting for work, its threads spin, and by default go on for a while after a run, when others want the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return lambda views: session.run(list(OUTPUTS), {"VIEWS": views})


def _on_openvino(graph: Path, threads: int, precision: str) -> Run:
    """An FP32 graph, its products in FP32 or BF16."""
    # Importing openvino reports to Google Analytics and writes to the home folder, unless this package is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    model = core.read_model(str(graph))
    model.reshape({"VIEWS": [1, 9, 50, 50]})
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # threads pinned to cores would wait for whoever else runs there
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(views: NDArray[np.float32]) -> list[NDArray]:
        results = request.infer({"VIEWS": views})
        return [results[name] for name in OUTPUTS]

    return run


# How each precision is run on each runtime: (graph, threads) -> Run.
RUNTIMES: dict[tuple[str, str], Callable[[Path, int], Run]] = {
    ("fp32", "onnxruntime"): _on_onnxruntime,
    ("int8", "onnxruntime"): _on_onnxruntime,
    ("fp32", "openvino"): lambda graph, threads: _on_openvino(graph, threads, "f32"),
    ("bf16", "openvino"): lambda graph, threads: _on_openvino(graph, threads, "bf16"),
}
