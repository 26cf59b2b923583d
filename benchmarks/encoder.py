"""The image encoder of target `embedded` alone: every runtime and precision that this machine has, on one nodule.

All of them run the same weights: the graph in FP32, and the graph that the export rounds to INT8.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from numpy.typing import NDArray

from noduleserve.export.checkpoint import read_checkpoint
from noduleserve.export.checkpoint.untrained import Size, write_untrained_checkpoint
from noduleserve.export.encoder.embedded import ENGINES, FP32_GRAPH, INT8_GRAPH, write_embedded
from noduleserve.export.encoder.encoder_graph import build_encoder
from noduleserve.export.encoder.identity import WORDS, stamp
from noduleserve.export.proof.outputs import probability, synthetic_views
from noduleserve.release import Release
from noduleserve.served_engine import load_engine_module

from .measure import interleaved
from .record.record import Cell, Line, Plot, Table
from .served_engine import encoder_folder

BASELINE = ("fp32", "onnxruntime")
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
_EMBEDDING, _LOGITS = 0, 2  # places among the engine's outputs


@dataclass(frozen=True)
class Figures:
    """One way to run the encoder.

    Attributes:
        precision, runtime: as engine.json has them.
        seconds: of a nodule, one for each turn.
        ratios: to ONNX Runtime in FP32 in the same turn: how many times faster.
        embedding, probability: largest absolute difference to ONNX Runtime in FP32.
        size: bytes of the graph on disk.
    """

    precision: str
    runtime: str
    seconds: list[float]
    ratios: list[float]
    embedding: float
    probability: float
    size: int


def bench_encoder(
    graph: onnx.ModelProto, turns: int = 5, nodules: int = 3, tell: Callable[[str], None] = print
) -> tuple[list[Figures], list[str]]:
    """Measure every way that this machine has.

    Args:
        graph: the encoder in FP32, with ENCODER_ID.
        turns: how often each way is timed.
        nodules: over how many the differences are looked for.
        tell: is called with a line of progress.

    Returns:
        The figures, the baseline first; and a sentence for each way that is left out.
    """
    with tempfile.TemporaryDirectory() as name, resources.as_file(_models()) as models:
        folder, engine = Path(name), load_engine_module(models / "nodule_encoder" / "1")
        write_embedded(graph, folder, "int8", tell=tell)
        runs, absent = _load(engine, folder, tell)
        views = synthetic_views(nodules)
        tell(f"{turns} turns of {len(runs)} ways")
        times = interleaved({way: partial(run, views[:1]) for way, run in runs.items()}, turns)
        outputs = {way: [run(views[i : i + 1]) for i in range(nodules)] for way, run in runs.items()}
        return [_figures(way, times, outputs, _size(folder, way)) for way in runs], absent


def graph_of_release(release: Release) -> onnx.ModelProto:
    """The FP32 graph that every release of target `embedded` holds.

    Raises:
        ReleaseError: TARGET_OTHER.
    """
    return onnx.load(str(encoder_folder(release) / FP32_GRAPH))


def untrained_graph(size: Size, folds: int, tell: Callable[[str], None] = print) -> onnx.ModelProto:
    """A graph of seeded random weights."""
    with tempfile.TemporaryDirectory() as name:
        tell(f"drawing the weights of {folds} folds")
        write_untrained_checkpoint(Path(name), size=size, seed=0, folds=folds)
        checkpoint = read_checkpoint(Path(name), tell=tell)
    graph = build_encoder(checkpoint.folds, checkpoint.dimensions)
    stamp(graph, np.zeros(WORDS, np.int32))
    return graph


def encoder_table(figures: Sequence[Figures]) -> Table:
    """The figures for a record; differences are to ONNX Runtime in FP32."""
    columns = (
        *("runtime", "precision", "nodule_ms", "nodule_lowest_ms", "nodule_highest_ms"),
        *("ratio", "ratio_lowest", "ratio_highest", "embedding_differs", "probability_differs", "on_disk_mb"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            *(NAMES[f.runtime], f.precision.upper()),
            *(1e3 * of(f.seconds) for of in (statistics.median, min, max)),
            *(of(f.ratios) for of in (statistics.median, min, max)),
            *(f.embedding, f.probability, f.size / 1e6),
        )
        for f in figures
    ]
    return Table(
        name="encoder",
        title="A nodule's encoder; ratio: how many times faster than ONNX Runtime in FP32",
        columns=columns,
        rows=rows,
        keys=("runtime", "precision"),
        better={"ratio": "higher", "on_disk_mb": "lower"},
    )


def encoder_plot(figures: Sequence[Figures]) -> Plot:
    """How many times faster than ONNX Runtime in FP32, with the lowest and the highest of any turn."""
    names = [f"{NAMES[f.runtime]} {f.precision.upper()}" for f in figures]
    ratios = [[of(f.ratios) for f in figures] for of in (statistics.median, min, max)]
    line = Line("ratio", names, *ratios)
    label = "times ONNX Runtime in FP32 (lowest to highest of a turn)"
    return Plot("encoder", "A nodule's encoder", "", label, [line], kind="bars")


def _models() -> resources.abc.Traversable:
    return resources.files("noduleserve.model_repository")


def _load(
    engine: ModuleType, folder: Path, tell: Callable[[str], None]
) -> tuple[dict[tuple[str, str], Callable], list[str]]:
    """What can be run here, by precision and runtime, and why the rest cannot."""
    runs, absent = {}, []
    flags, threads = engine.cpu_flags(), engine.threads_wanted()
    for precision, runtime in sorted(engine.RUNTIMES, key=lambda way: (way != BASELINE, way[1], way[0] != "fp32")):
        graph = INT8_GRAPH if precision == "int8" else FP32_GRAPH
        way = engine.Way(precision, runtime, graph, tuple(ENGINES[precision]["cpu_needs_any"]))
        lacking = way.lacks(flags)
        if not lacking:
            tell(f"loading {NAMES[runtime]} {precision.upper()}")
            try:
                runs[precision, runtime] = way.load(folder, threads)
                continue
            except ModuleNotFoundError as error:
                lacking = f"the Python package {error.name} is not installed"
        absent.append(f"Left out: {NAMES[runtime]} {precision.upper()}, since {lacking}.")
    return runs, absent


def _figures(
    way: tuple[str, str],
    times: dict[tuple[str, str], list[float]],
    outputs: dict[tuple[str, str], list[list[NDArray]]],
    size: int,
) -> Figures:
    ratios = [full / mine for full, mine in zip(times[BASELINE], times[way], strict=True)]
    pairs = list(zip(outputs[way], outputs[BASELINE], strict=True))
    embedding = max(_difference(a[_EMBEDDING], b[_EMBEDDING]) for a, b in pairs)
    chance = max(_difference(probability(a[_LOGITS]), probability(b[_LOGITS])) for a, b in pairs)
    return Figures(*way, times[way], ratios, embedding, chance, size)


def _difference(a: NDArray, b: NDArray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())


def _size(folder: Path, way: tuple[str, str]) -> int:
    graph = INT8_GRAPH if way[0] == "int8" else FP32_GRAPH
    return sum(file.stat().st_size for file in folder.glob(f"{graph}*"))
