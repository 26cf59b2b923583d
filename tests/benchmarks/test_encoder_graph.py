"""The fold axis against a graph for each fold, on a small tower: both ways agree, and what is shared is stored once."""

from __future__ import annotations

from noduleserve.benchmarks.encoder_graph import bench_encoder_graph


def test_both_ways_agree_and_are_timed() -> None:
    ratio, sizes = bench_encoder_graph(turns=1, width=64, layers=1)
    assert ratio.ours_s > 0 and ratio.baseline_s > 0
    assert "5 folds, image tower 64 x 1" in ratio.name
    assert sizes["fold axis"] < 0.8 * sizes["fold by fold"]
