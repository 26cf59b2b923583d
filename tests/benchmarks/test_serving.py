"""The benchmark of the whole way, with the real Triton: it measures a server and the encoder that this server runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from noduleserve.benchmarks.encoder import graph_of_release
from noduleserve.benchmarks.serving.whole_way import LATENCY_ROOM_S, bench_serving
from noduleserve.demo.command import RELEASE, make_worklist
from noduleserve.errors import ReleaseError
from noduleserve.release import Release
from noduleserve.worklist.table import read_worklist


def test_throughput_and_latency_of_the_demo(tmp_path: Path) -> None:
    lines: list[str] = []
    nodules = read_worklist(make_worklist(tmp_path))
    throughput, latency = bench_serving(Release.open(RELEASE), nodules, count=3, turns=2, tell=lines.append)
    for found, name, goal in ((throughput, "throughput", 0.95), (latency, "latency", 1.0)):
        assert found.name.startswith(name)
        assert (found.ours, found.baseline, found.goal) == ("served", "bare encoder", goal)
        assert 0 < found.spread[0] <= found.spread[1]
    assert throughput.ours_s > throughput.baseline_s
    assert latency.baseline_s > LATENCY_ROOM_S
    assert [line.split(",")[0] for line in lines] == ["turn 1", "turn 2"] * 2


def test_another_target_is_refused(tmp_path: Path) -> None:
    release = Release(tmp_path, {"target": "tensorrt"})
    for measure in (graph_of_release, lambda release: bench_serving(release, [])):
        with pytest.raises(ReleaseError, match=r"\[TARGET_OTHER\].*tensorrt"):
            measure(release)
