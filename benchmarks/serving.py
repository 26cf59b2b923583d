"""The whole way, DICOM on disk to results, against the bare encoder on the same cores and the same nodules.

The bare encoder is the release's own graph on ONNX Runtime in this process, fed with views that are ready in memory:
the upper bound of what any server could do.  Server and encoder are never busy at the same time.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noduleserve.client.results import Outcome
from noduleserve.client.run import Options, score_worklist
from noduleserve.client.worklist import Nodule
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

from .measure import Ratio, seconds

LATENCY_ROOM_S = 0.05


def bench_serving(
    release: Release, nodules: Sequence[Nodule], count: int = 40, turns: int = 3, tell: Callable[[str], None] = print
) -> list[Ratio]:
    """Measure throughput of `count` nodules and the latency of single ones.

    Args:
        release: of target `embedded`.
        nodules: scored again and again until there are `count`.
        count: nodules of one turn.
        turns: how often each way is timed.
        tell: is called with a line of progress.
    """
    many = [replace(nodules[i % len(nodules)], number=i) for i in range(count)]
    with TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0)) as server:
        address = server.endpoints.address
        views = _views(score_worklist(nodules, address, options=Options(views=True)).outcomes)
        session = _session(release)
        each = [views[i % len(views) : i % len(views) + 1] for i in range(count)]
        return [
            _throughput(session, each, many, address, turns, tell),
            _latency(session, each[:10], many[:10], address, turns, tell),
        ]


def _throughput(
    session: onnxruntime.InferenceSession,
    each: list[NDArray[np.float32]],
    many: list[Nodule],
    address: str,
    turns: int,
    tell: Callable[[str], None],
) -> Ratio:
    pairs = []
    for turn in range(turns):
        bare = sum(_encode_seconds(session, views) for views in each)
        whole = score_worklist(many, address)
        _require_all_scored(whole.outcomes)
        pairs.append((whole.seconds, bare))
        tell(f"turn {turn + 1}: bare encoder {bare:.2f} s, whole way {whole.seconds:.2f} s for {len(many)} nodules")
    return _ratio("throughput, DICOM on disk to results", pairs, goal=0.95)


def _latency(
    session: onnxruntime.InferenceSession,
    each: list[NDArray[np.float32]],
    many: list[Nodule],
    address: str,
    turns: int,
    tell: Callable[[str], None],
) -> Ratio:
    """One nodule in flight: request sent until answer, against 1.1 times the encoder alone + 50 ms."""
    pairs = []
    for turn in range(turns):
        bare = statistics.median(_encode_seconds(session, views) for views in each)
        outcomes = score_worklist(many, address, options=Options(in_flight=1)).outcomes
        _require_all_scored(outcomes)
        served = statistics.median(outcome.seconds["server"] for outcome in outcomes)
        pairs.append((served, 1.1 * bare + LATENCY_ROOM_S))
        tell(f"turn {turn + 1}: bare encoder {bare * 1e3:.1f} ms, request to answer {served * 1e3:.1f} ms")
    return _ratio("latency of a nodule alone, within 1.1 x encoder + 50 ms", pairs, goal=1.0)


def _ratio(name: str, pairs: list[tuple[float, float]], goal: float) -> Ratio:
    ratios = [bare / ours for ours, bare in pairs]
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Ratio(name, "served", "bare encoder", ours, bare, (min(ratios), max(ratios)), goal)


def _session(release: Release) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    # A session that spins between two runs would take the server's cores while it is the server's turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    graph: Path = release.repository / "nodule_encoder" / "1" / "encoder.onnx"
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _encode_seconds(session: onnxruntime.InferenceSession, views: NDArray[np.float32]) -> float:
    return seconds(lambda: session.run(["EMBEDDING", "VIEW_ATTENTION", "LOGITS"], {"VIEWS": views}))


def _views(outcomes: Sequence[Outcome]) -> NDArray[np.float32]:
    _require_all_scored(outcomes)
    return np.stack([outcome.views for outcome in outcomes if outcome.views is not None])


def _require_all_scored(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.score is None]
    if failed:
        raise AssertionError(f"{len(failed)} nodules were not scored ({failed[0].error_code}); no timing counts")
