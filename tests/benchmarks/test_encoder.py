"""The encoder's benchmark runs what this machine has, says what it lacks, and measures differences that are there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import noduleserve.model_repository
from noduleserve.benchmarks.encoder import bench_encoder, encoder_plot, encoder_table, untrained_graph
from noduleserve.served_engine import load_engine_module

MODEL = Path(noduleserve.model_repository.__file__ or "").parent / "nodule_encoder" / "1"


def test_every_way_is_measured_or_left_out_with_a_reason() -> None:
    lines: list[str] = []
    figures, absent = bench_encoder(untrained_graph("tiny", 2, lines.append), turns=2, nodules=2, tell=lines.append)
    by_way = {(f.precision, f.runtime): f for f in figures}
    ways = load_engine_module(MODEL).RUNTIMES
    assert len(by_way) + len(absent) == len(ways)
    full, small = by_way["fp32", "onnxruntime"], by_way["int8", "onnxruntime"]
    assert figures[0] == full
    assert (full.ratios, full.embedding, full.probability) == ([1, 1], 0, 0)
    assert 1e-5 < small.embedding < 0.05
    assert 0 < small.size < full.size
    if importlib.util.find_spec("openvino"):
        assert 0 < by_way["fp32", "openvino"].embedding < 1e-5
    else:
        assert "Left out: OpenVINO FP32, since the Python package openvino is not installed." in absent
    table = encoder_table(figures)
    assert table.rows[0][:2] == ("ONNX Runtime", "FP32")
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["nodule_lowest_ms"] == 1e3 * min(full.seconds) <= first["nodule_ms"] <= first["nodule_highest_ms"]
    assert (first["ratio"], first["embedding_differs"], first["on_disk_mb"]) == (1, 0, full.size / 1e6)
    (line,) = encoder_plot(figures).lines
    assert len(line.x) == len(line.low) == len(line.high) == len(figures)
    assert any("turns" in line for line in lines)


def test_the_served_engine_leaves_no_file_behind() -> None:
    before = sorted(MODEL.rglob("*"))
    assert load_engine_module(MODEL) is load_engine_module(MODEL)
    assert sorted(MODEL.rglob("*")) == before
