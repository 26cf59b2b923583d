"""Real Tritons that die, come back, break and differ, under both transports."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scripted_server import ACT, RELEASE, Successor, end_quickly, start_scripted

from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.client.retry import Backoff
from noduleserve.errors import ServerError
from noduleserve.results.outcome import Outcome
from noduleserve.server.process import TritonProcess
from noduleserve.worklist.table import Nodule

both = pytest.mark.parametrize("transport", ["stream", "unary"])


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume whose voxels are at whole LPS millimetres 0..100, 0..100, 0..10."""
    path = tmp_path_factory.mktemp("ct") / "ct.nii"
    voxels = np.full((101, 101, 11), -800, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TritonProcess]]:
    """Starts scripted servers, and ends them."""
    running: list[TritonProcess] = []

    def begin(**how: Any) -> TritonProcess:
        running.append(start_scripted(tmp_path / f"server-{len(running)}", **how))
        return running[-1]

    yield begin
    for process in running:
        end_quickly(process)


def nodules(count: int, ct: Path, tenths: float = 0.2, act: str = "score") -> list[Nodule]:
    return [Nodule(n, {}, "p", str(n), ct, (float(n % 101), tenths, float(ACT[act]))) for n in range(count)]


def options(*servers: str, transport: Any = "stream", **more: Any) -> EngineOptions:
    return EngineOptions(servers, transport=transport, backoff=Backoff(0.05, 0.5, 0.05), **more)


def scored(
    chosen: EngineOptions, work: list[Nodule], after: int = 0, act: Callable[[], Any] = lambda: None
) -> list[Outcome]:
    """The outcomes; `act` is done when so many of them have come."""

    async def run() -> list[Outcome]:
        outcomes = []
        async with Engine(chosen) as engine:
            async for outcome in engine.outcomes(work):
                outcomes.append(outcome)
                if len(outcomes) == after:
                    act()
        return outcomes

    return asyncio.run(asyncio.wait_for(run(), 60))


def right(outcomes: list[Outcome], count: int) -> bool:
    """Whether each nodule has its own score, once."""
    scores = {o.nodule.number: o.score.malignancy for o in outcomes if o.score}
    return len(outcomes) == count and scores == pytest.approx({n: n % 101 / 100 for n in range(count)})


def kill(process: TritonProcess) -> None:
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)


@both
def test_a_server_that_is_killed_and_started_again_in_the_middle(
    start: Callable[..., TritonProcess], ct: Path, tmp_path: Path, transport: str
) -> None:
    first = start()
    with Successor(tmp_path / "successor", first.endpoints.grpc) as successor:

        def again() -> None:
            kill(first)
            successor.start()

        outcomes = scored(options(first.endpoints.address, transport=transport), nodules(120, ct), 20, again)
    assert right(outcomes, 120)


@both
def test_one_of_two_servers_is_killed(start: Callable[..., TritonProcess], ct: Path, transport: str) -> None:
    first, second = start(), start()
    servers = f"{first.endpoints.address},{second.endpoints.address}"
    outcomes = scored(options(servers, transport=transport), nodules(120, ct), 20, lambda: kill(first))
    assert right(outcomes, 120)


def test_a_server_that_stays_away_ends_the_run_without_a_failed_nodule(
    start: Callable[..., TritonProcess], ct: Path
) -> None:
    server, came = start(), list[Outcome]()

    async def run() -> None:
        chosen = options(server.endpoints.address, server_wait=0.5)
        async with Engine(chosen) as engine:
            async for outcome in engine.outcomes(nodules(120, ct)):
                came.append(outcome)
                if len(came) == 20:
                    kill(server)

    with pytest.raises(ServerError, match="SERVER_GONE"):
        asyncio.run(asyncio.wait_for(run(), 60))
    assert 20 <= len(came) < 60
    assert {outcome.status for outcome in came} == {"scored"}


def test_a_server_that_is_told_to_end_hands_over(start: Callable[..., TritonProcess], ct: Path) -> None:
    """What it refuses on its way out is scored by the other."""
    first, second = start(), start()

    def end() -> None:
        assert first.pid
        os.kill(first.pid, signal.SIGTERM)

    servers = f"{first.endpoints.address},{second.endpoints.address}"
    assert right(scored(options(servers), nodules(120, ct), 20, end), 120)


def test_a_model_that_crashes_is_noticed_though_its_server_stays_ready(
    start: Callable[..., TritonProcess], ct: Path
) -> None:
    """Triton 2.51 refuses everything from then on; the other server takes what is left."""
    broken, whole = start(instances=1), start()
    (crash,) = nodules(1, ct, act="crash")

    async def run() -> list[Outcome]:
        async with Engine(options(broken.endpoints.address, retries=0)) as engine:
            (outcome,) = [o async for o in engine.outcomes([crash])]
            assert outcome.error_code == "SERVER_BROKEN"
            assert engine.status.servers_up == 0
        servers = f"{broken.endpoints.address},{whole.endpoints.address}"
        async with Engine(options(servers)) as engine:
            assert engine.status.servers_up == 1
            return [o async for o in engine.outcomes(nodules(30, ct))]

    assert right(asyncio.run(asyncio.wait_for(run(), 60)), 30)
    with pytest.raises(ServerError, match=r"SERVER_NOT_SCORING.*SERVER_BROKEN"):
        scored(options(broken.endpoints.address), [])


def test_servers_of_two_releases_are_refused(start: Callable[..., TritonProcess], scripted: str, ct: Path) -> None:
    other = start(release="ns-other")
    with pytest.raises(ServerError, match=f"SERVERS_DIFFER.*ns-other, {RELEASE}"):
        scored(options(scripted, other.endpoints.address), nodules(3, ct))


@both
def test_a_name_of_the_network(scripted: str, ct: Path, transport: str) -> None:
    port = scripted.rpartition(":")[2]
    outcomes = scored(options(f"dns:///localhost:{port}", transport=transport), nodules(20, ct))
    assert right(outcomes, 20)
