"""Every rival, with its real server: the right score for each nodule, also when asked for several at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from serving import until

from noduleserve.benchmarks.rivals.bare_encoder import BareEncoder, EncoderInTriton, bare_encoder
from noduleserve.benchmarks.rivals.base import Case
from noduleserve.benchmarks.rivals.fastapi_rival import FastapiRival
from noduleserve.benchmarks.rivals.graph import fp32_graph
from noduleserve.benchmarks.rivals.http_server import HttpServer
from noduleserve.benchmarks.rivals.litserve_rival import LitserveRival
from noduleserve.benchmarks.rivals.missing import require
from noduleserve.benchmarks.rivals.ours import Ours
from noduleserve.benchmarks.rivals.started import WARM_UP_CALLS
from noduleserve.benchmarks.rivals.yardstick import TOLERANCE, Yardstick
from noduleserve.errors import NoduleserveError, ReleaseError, ServerError
from noduleserve.release import Release

pytest.importorskip("scipy")
APP = "noduleserve.benchmarks.rivals"


@pytest.fixture(scope="module")
def yardstick(weights: Any, cases: list[Case]) -> Yardstick:
    return Yardstick.of(weights.release, cases, weights.checkpoint)


def straightforward(weights: Any) -> Any:
    from noduleserve.benchmarks.rivals.straightforward import Straightforward

    return Straightforward(weights.checkpoint)


def of_package(package: str, make: Callable[[], Any]) -> Any:
    pytest.importorskip(package)
    return make()


RIVALS: dict[str, Callable[[Any], Any]] = {
    "noduleserve, stream": lambda weights: Ours(weights.release),
    "noduleserve, shared-memory": lambda weights: Ours(weights.release, "shared-memory"),
    "bare encoder": lambda weights: BareEncoder(weights.release),
    "bare encoder in Triton": lambda weights: EncoderInTriton(weights.release),
    "straightforward": straightforward,
    "fastapi": lambda weights: of_package("fastapi", lambda: FastapiRival(weights.release)),
    "fastapi+views": lambda weights: of_package("fastapi", lambda: FastapiRival(weights.release, "noduleserve")),
    "litserve+views": lambda weights: of_package("litserve", lambda: LitserveRival(weights.release, "noduleserve")),
}


@pytest.mark.parametrize("name", RIVALS)
def test_each_nodule_gets_its_own_right_score(name: str, weights: Any, cases: list[Case], yardstick: Yardstick) -> None:
    rival = RIVALS[name](weights)
    many = [*cases, cases[0], cases[0]]

    async def ask() -> tuple[list[Any], list[psutil.Process]]:
        async with rival:
            own = [psutil.Process(pid) for pid in rival.pids]
            return await asyncio.gather(*(rival.score(case, 60) for case in many)), [
                process for parent in own for process in (parent, *parent.children(recursive=True))
            ]

    answers, processes = asyncio.run(ask())
    assert name.startswith(rival.name) and rival.what
    for case, raw in zip(many, answers, strict=True):
        assert yardstick.counts(case.name, raw), yardstick.difference(case.name, raw)
        others = [other.name for other in cases if other.name != case.name]
        assert not any(yardstick.counts(other, raw) for other in others), "the nodules are too alike to tell apart"
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert bool(processes) == (name not in ("bare encoder", "straightforward"))


def test_ours_by_calls_and_what_triton_counted(weights: Any, cases: list[Case], yardstick: Yardstick) -> None:
    async def ask() -> dict[str, int]:
        async with Ours(weights.release, "unary") as ours:
            answers = await asyncio.gather(*(ours.score(case, 60) for case in cases))
            assert all(yardstick.counts(case.name, raw) for case, raw in zip(cases, answers, strict=True))
            async with asyncio.timeout(20):
                while True:  # it counts a moment after it answers
                    models = (await ours.statistics()).model_stats
                    counts = {model.name: model.inference_count for model in models}
                    if set(counts.values()) == {WARM_UP_CALLS + len(cases)}:
                        return counts
                    await asyncio.sleep(0.02)

    assert {"nodule_score", "nodule_encoder"} < asyncio.run(ask()).keys()


def test_a_server_ends_with_whoever_started_it(weights: Any) -> None:
    pytest.importorskip("fastapi")
    arguments = ["--graph", str(fp32_graph(weights.release)), "--views", "noduleserve"]
    code = (
        "import time; from noduleserve.benchmarks.rivals.http_server import HttpServer; "
        f"server = HttpServer('{APP}.fastapi_app', {arguments!r}); server.start(); "
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        server = psutil.Process(int(starter.stdout.readline()))
        assert server.is_running()
        os.kill(starter.pid, signal.SIGKILL)
    assert until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    server = HttpServer(f"{APP}.fastapi_app", ["--graph", str(tmp_path / "none.onnx"), "--views", "scipy"])
    with pytest.raises(ServerError, match=r"\[RIVAL_NOT_READY\].*fastapi_app ended.*none\.onnx"):
        server.start()
    assert server.pid is None


def test_what_is_missing_is_said() -> None:
    with pytest.raises(NoduleserveError, match=r"\[EXTRA_MISSING\].*no_such_package.*noduleserve\[bench\]"):
        require("numpy", "no_such_package")


def test_other_targets_and_precisions(tmp_path: Path) -> None:
    half = Release(tmp_path, {"target": "onnxruntime", "precision": "fp16"})
    assert isinstance(bare_encoder(half), EncoderInTriton)
    with pytest.raises(ReleaseError, match="GRAPH_NOT_FP32"):
        fp32_graph(half)
    whole = Release(tmp_path, {"target": "onnxruntime", "precision": "fp32"})
    assert fp32_graph(whole) == tmp_path / "model_repository/nodule_encoder/1/model.onnx"
    rounded = Release(tmp_path, {"target": "embedded", "precision": "int8"})
    assert fp32_graph(rounded).name == "encoder.onnx"


# ---------------------------------------------------------------- the yardstick


def test_the_yardstick_catches_a_wrong_score(yardstick: Yardstick, cases: list[Case]) -> None:
    name = cases[0].name
    right = yardstick.expected[name]
    assert yardstick.counts(name, right) and yardstick.difference(name, right) == 0
    wrong = right.copy()
    wrong[1] += 1.5 * TOLERANCE
    assert not yardstick.counts(name, wrong)
    assert yardstick.difference(name, wrong) == pytest.approx(1.5 * TOLERANCE)
    for none in (right[:1], np.full_like(right, np.nan), np.float64(0.5)):
        assert not yardstick.counts(name, none)


def test_the_yardstick_refuses_another_checkpoint(weights: Any, cases: list[Case], tmp_path: Path) -> None:
    from noduleserve.export.checkpoint.untrained import write_untrained_checkpoint

    write_untrained_checkpoint(tmp_path / "other", seed=12, folds=2)
    with pytest.raises(ReleaseError, match=r"\[WEIGHTS_OTHER\].*fold_0"):
        Yardstick.of(weights.release, cases, tmp_path / "other")


def test_without_a_checkpoint_the_graph_stands_in_and_says_how_far_it_is(
    weights: Any, cases: list[Case], yardstick: Yardstick
) -> None:
    stand_in = Yardstick.of(weights.release, cases)
    assert max(yardstick.difference(name, raw) for name, raw in stand_in.expected.items()) < 1e-5
    largest = max(
        value
        for link in weights.release.manifest["parity"]["links"]
        if link["name"] == "graph"
        for value in link["largest"]["probability"]
    )
    assert f"{largest:.1e} from PyTorch" in stand_in.what
