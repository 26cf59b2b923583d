"""Voxels through shared memory: every score is of its own voxels, whatever ends early; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from scripted_server import ACT, FOLDS, Successor, end_quickly, start_scripted
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from noduleserve.client import NoduleClient
from noduleserve.client.messages import score_request
from noduleserve.client.transports import regions
from noduleserve.client.transports.regions import FOLDER
from noduleserve.client.transports.shared_memory import SharedMemoryTransport
from noduleserve.errors import NoduleserveError, RequestRefused, ServerError
from noduleserve.preprocessing import Box, VolumeGeometry
from noduleserve.protocol import arrays_of

if not FOLDER.is_dir():
    pytest.skip("no POSIX shared memory", allow_module_level=True)
VOXEL = Box(start=np.zeros(3, np.int64), stop=np.ones(3, np.int64))
GEOMETRY = VolumeGeometry([101, 101, 11], np.eye(4))
DEADLINE = 20.0


def request(value: int, size: int = 10, tenths: float = 0.0, act: str = "voxels") -> pb.ModelInferRequest:
    """Ask for a MALIGNANCY of value / 10,000, which the server takes from the voxels."""
    voxels = np.full((2, 2, size), value, np.int16)
    return score_request(str(value), voxels, VOXEL, GEOMETRY, (0, tenths, ACT[act]), priority=0)


def value_of(answer: pb.ModelInferResponse) -> int:
    return round(float(arrays_of(answer)["MALIGNANCY"][0, 0]) * 10_000)


@asynccontextmanager
async def shared_with(address: str) -> AsyncIterator[SharedMemoryTransport]:
    transport = SharedMemoryTransport(address)
    await transport.connect()
    try:
        yield transport
    finally:
        await transport.close()


def known_to(address: str) -> list[str]:
    """Names of the regions that a server holds."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return sorted(stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()).regions)


def files() -> list[str]:
    return sorted(f.name for f in FOLDER.glob(f"{regions.PREFIX}-{regions._space()}-{os.getpid()}-*"))


def test_scores_are_those_of_their_own_voxels_and_regions_are_used_again(scripted: str) -> None:
    async def run() -> None:
        async with shared_with(scripted) as transport:
            assert (await transport.describe()).folds == FOLDS
            for beginning in (1, 1000, 2000):
                values = range(beginning, beginning + 8)
                answers = await asyncio.gather(
                    *(transport.ask(request(v, 1 + 1000 * (v % 9)), DEADLINE) for v in values)
                )
                assert [(answer.id, value_of(answer)) for answer in answers] == [(str(v), v) for v in values]
            assert len(known_to(scripted)) == len(files()) == 8

    asyncio.run(run())
    assert known_to(scripted) == files() == []


def test_a_box_larger_than_any_before(scripted: str) -> None:
    async def run() -> None:
        async with shared_with(scripted) as transport:
            for value, size in ((1, 10), (2, 600_000), (3, 1_300_000), (4, 10)):
                assert value_of(await transport.ask(request(value, size), DEADLINE)) == value
            assert len(known_to(scripted)) == len(files()) == 1  # the small ones made room

    asyncio.run(run())


def test_deadlines_and_cancellations_never_lend_a_region_that_may_still_be_read(scripted: str) -> None:
    """More requests than the server's four instances take: many wait there, unread, when they are given up."""

    async def run() -> None:
        async with shared_with(scripted) as transport:
            lent: list[str] = []
            lend = transport._pool.lend

            def noted(size: int) -> regions.Region:
                region = lend(size)
                lent.append(region.name)
                return region

            transport._pool.lend = noted  # type: ignore[method-assign]
            late = [asyncio.create_task(transport.ask(request(v, tenths=2), 0.15)) for v in range(1, 13)]
            gone = [asyncio.create_task(transport.ask(request(v, tenths=2), DEADLINE)) for v in range(101, 113)]
            await asyncio.sleep(0.1)
            early = set(lent)
            assert len(early) == len(late) + len(gone)
            for task in gone:
                task.cancel()
            ended = await asyncio.gather(*late, *gone, return_exceptions=True)
            codes = {error.code if isinstance(error, NoduleserveError) else type(error).__name__ for error in ended}
            assert codes == {"ANSWER_LATE", "CancelledError"}
            answers = await asyncio.gather(*(transport.ask(request(v, 1000), DEADLINE) for v in range(2001, 2033)))
            assert [value_of(answer) for answer in answers] == list(range(2001, 2033))
            assert not early & set(lent[len(early) :])

    asyncio.run(run())
    assert known_to(scripted) == files() == []


def test_refusals_come_through_and_unknown_errors_give_the_region_up(scripted: str) -> None:
    async def run() -> None:
        async with shared_with(scripted) as transport:
            for act, code in (("refuse with a code", "NOT_TODAY"), ("refuse without", "SERVER_REFUSED")):
                with pytest.raises(RequestRefused) as raised:
                    await transport.ask(request(1, act=act), DEADLINE)
                assert raised.value.code == code
            assert files() == []  # neither code is one of a model that has read the voxels
            assert value_of(await transport.ask(request(7), DEADLINE)) == 7

    asyncio.run(run())


def test_a_server_without_this_shared_memory_is_told_at_the_beginning(scripted: str) -> None:
    async def run() -> None:
        async with shared_with(scripted) as transport:
            region = transport._pool.lend(1)
            (FOLDER / region.name).unlink()  # on the server's machine there is no such name
            transport._pool.take_back(region)
            with pytest.raises(ServerError) as raised:
                await transport.describe()
            assert raised.value.code == "SHARED_MEMORY_ELSEWHERE"
            assert "--transport stream" in raised.value.mend

    asyncio.run(run())


@pytest.mark.skipif(not os.statvfs(FOLDER).f_blocks, reason="/dev/shm has no limit here")
def test_without_room_voxels_go_in_the_message(scripted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_GRAIN", 2**44)

    async def run() -> None:
        async with shared_with(scripted) as transport:
            assert value_of(await transport.ask(request(5), DEADLINE)) == 5
            assert files() == known_to(scripted) == []
            with pytest.raises(ServerError) as raised:
                await transport.describe()
            assert raised.value.code == "SHARED_MEMORY_FULL"

    asyncio.run(run())


def test_a_server_that_was_started_again_is_told_of_the_regions(tmp_path: Path) -> None:
    process = start_scripted(tmp_path / "first")
    port = process.endpoints.grpc

    async def run() -> None:
        async with shared_with(process.endpoints.address) as transport:
            assert value_of(await transport.ask(request(1), DEADLINE)) == 1
            (name,) = files()
            end_quickly(process)
            with Successor(tmp_path / "second", port) as successor:
                successor.start()
                while not await transport.is_ready():
                    await asyncio.sleep(0.05)
                assert known_to(process.endpoints.address) == []
                assert value_of(await transport.ask(request(2), DEADLINE)) == 2
                assert known_to(process.endpoints.address) == files() == [name]

    try:
        asyncio.run(asyncio.wait_for(run(), 60))
    finally:
        end_quickly(process)


def test_what_a_killed_client_left_goes_when_the_next_one_comes(scripted: str) -> None:
    script = (
        "import asyncio, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_shared_memory import DEADLINE, request, shared_with\n"
        "async def run():\n"
        "    async with shared_with(sys.argv[1]) as transport:\n"
        "        await transport.ask(request(1), DEADLINE)\n"
        "        print('scored', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(run())\n"
    )
    line = [sys.executable, "-c", script, scripted, str(Path(__file__).parent)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout and process.stdout.readline() == "scored\n"
        assert len(known_to(scripted)) == 1
        process.send_signal(signal.SIGKILL)

    async def run() -> None:
        async with shared_with(scripted) as transport:
            await transport.describe()
            assert known_to(scripted) == files() != []

    asyncio.run(run())
    assert known_to(scripted) == []


def test_the_client_takes_it_by_name(scripted: str) -> None:
    with NoduleClient(scripted, transport="shared-memory") as client:
        assert client.info.folds == FOLDS
        assert len(known_to(scripted)) == 1
    assert known_to(scripted) == []
