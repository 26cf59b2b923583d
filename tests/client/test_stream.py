"""Streams and single calls over gRPC: answers find whoever asked; a broken connection is told and mended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import ACT, FOLDS, LABELS, RELEASE, end_quickly, start_scripted
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.messages import score_of, score_request
from noduleserve.client.transports.base import Transport
from noduleserve.client.transports.stream import StreamTransport
from noduleserve.client.transports.unary import UnaryTransport
from noduleserve.errors import NoduleserveError, RequestRefused, ServerError
from noduleserve.preprocessing import Box, VolumeGeometry
from noduleserve.protocol import arrays_of
from noduleserve.server.process import TritonProcess

VOXEL = Box(start=np.zeros(3, np.int64), stop=np.ones(3, np.int64))
GEOMETRY = VolumeGeometry([101, 101, 11], np.eye(4))


def request(number: int, tenths: float = 0.0, act: str = "score", voxels: int = 1) -> pb.ModelInferRequest:
    """Ask for a MALIGNANCY of number / 100."""
    box = np.zeros((1, 1, voxels), np.int16)
    return score_request(str(number), box, VOXEL, GEOMETRY, (number % 101, tenths, ACT[act]))


def malignancy(answer: pb.ModelInferResponse) -> float:
    return float(arrays_of(answer)["MALIGNANCY"][0, 0])


class Way:
    """A way to a server with one deadline for all."""

    def __init__(self, transport: Transport, deadline: float) -> None:
        self._transport, self._deadline = transport, deadline
        self.describe, self.statistics, self.is_ready = (
            transport.describe,
            transport.statistics,
            transport.is_ready,
        )

    async def ask(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        return await self._transport.ask(request, self._deadline)


def on_stream(
    address: str, act: Callable[[Way], Awaitable[Any]], deadline: float = 20.0, kind: str = "stream", streams: int = 1
) -> Any:
    async def run() -> Any:
        transport = UnaryTransport(address) if kind == "unary" else StreamTransport(address, streams)
        await transport.connect()
        try:
            return await act(Way(transport, deadline))
        finally:
            await transport.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


both = pytest.mark.parametrize("kind", ["stream", "unary"])


def test_describe(scripted: str) -> None:
    info = on_stream(scripted, lambda stream: stream.describe())
    assert (info.release, info.folds, info.calibrated) == ("", FOLDS, True)
    assert (info.labels, info.notice) == (LABELS, "scripted")


@both
def test_ready(scripted: str, kind: str) -> None:
    assert on_stream(scripted, lambda way: way.is_ready(), kind=kind)


def test_statistics(scripted: str) -> None:
    statistics = on_stream(scripted, lambda stream: stream.statistics())
    assert [model.name for model in statistics.model_stats] == ["nodule_score"]


def test_an_answer_is_a_score(scripted: str) -> None:
    async def act(stream: Way) -> Any:
        info = await stream.describe()
        answer = await stream.ask(request(42))
        with pytest.raises(ServerError, match="RELEASE_CHANGED"):
            score_of(answer, info)  # the release is not known yet
        return answer

    answer = on_stream(scripted, act)
    assert answer.id == "42"
    assert malignancy(answer) == pytest.approx(0.42)
    assert arrays_of(answer)["RELEASE"].item() == RELEASE


@both
def test_slow_and_quick_answers_find_their_askers(scripted: str, kind: str) -> None:
    """They are computed side by side; Triton hands them out in the order in which a stream has asked."""

    async def act(stream: Way) -> list[float]:
        asked = (request(1, tenths=8), request(2, tenths=1), request(3, tenths=6), request(4))
        return [malignancy(answer) for answer in await asyncio.gather(*map(stream.ask, asked))]

    began = time.monotonic()
    assert on_stream(scripted, act, kind=kind) == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert time.monotonic() - began < 1.4


def test_on_a_stream_of_its_own_a_quick_answer_overtakes_a_slow_one(scripted: str) -> None:
    """Triton holds answers back behind those that their stream has asked for earlier."""

    async def act(stream: Way) -> list[str]:
        came: list[str] = []

        async def ask(number: int, tenths: float) -> None:
            came.append((await stream.ask(request(number, tenths=tenths))).id)

        await asyncio.gather(ask(1, 8), ask(2, 1))
        return came

    assert on_stream(scripted, act, streams=1) == ["1", "2"]
    assert on_stream(scripted, act, streams=2) == ["2", "1"]


@both
def test_hundreds_at_once_each_get_their_own(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> list[float]:
        answers = await asyncio.gather(*(stream.ask(request(n, (n * 7 % 5) / 50)) for n in range(300)))
        return [malignancy(answer) for answer in answers]

    np.testing.assert_allclose(on_stream(scripted, act, kind=kind), [n % 101 / 100 for n in range(300)], atol=1e-6)


@both
def test_a_box_larger_than_grpcs_usual_limit(scripted: str, kind: str) -> None:
    answer = on_stream(scripted, lambda stream: stream.ask(request(5, voxels=8_000_000)), kind=kind)  # 16 MB
    assert malignancy(answer) == pytest.approx(0.05)


@both
def test_a_refusal_is_for_its_own_asker(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> Any:
        asked = [request(1), request(2, act="refuse with a code"), request(3, act="refuse without"), request(4)]
        return await asyncio.gather(*map(stream.ask, asked), return_exceptions=True)

    first, coded, plain, last = on_stream(scripted, act, kind=kind)
    assert (malignancy(first), malignancy(last)) == (pytest.approx(0.01), pytest.approx(0.04))
    assert isinstance(coded, RequestRefused)
    assert (coded.code, coded.what, coded.mend) == ("NOT_TODAY", "The model will not.", "Come back.")
    assert isinstance(plain, RequestRefused)
    assert plain.code == "SERVER_REFUSED"
    assert "out of order" in plain.what


@both
def test_a_request_that_triton_itself_refuses(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> Any:
        bad = request(1)
        del bad.inputs[4], bad.raw_input_contents[4]
        with pytest.raises(RequestRefused, match=r"SERVER_REFUSED.*NODULE_CENTER"):
            await stream.ask(bad)
        return await stream.ask(request(2))  # the stream has survived

    assert malignancy(on_stream(scripted, act, kind=kind)) == pytest.approx(0.02)


@both
def test_a_late_answer_is_nobody_elses(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> float:
        began = time.monotonic()
        with pytest.raises(ServerError) as raised:
            await stream.ask(request(1, tenths=10))
        assert raised.value.code == "ANSWER_LATE"
        assert 0.4 < time.monotonic() - began < 0.9
        await asyncio.sleep(0.2)
        return malignancy(await stream.ask(request(2)))  # the late answer comes first, and finds nobody

    assert on_stream(scripted, act, kind=kind, deadline=0.5) == pytest.approx(0.02)


def test_two_in_flight_with_one_id_are_a_mistake(scripted: str) -> None:
    async def act(stream: Way) -> float:
        first = asyncio.create_task(stream.ask(request(1, tenths=5)))
        await asyncio.sleep(0.1)
        with pytest.raises(ValueError, match="'1'"):
            await stream.ask(request(1))
        return malignancy(await first)

    assert on_stream(scripted, act) == pytest.approx(0.01)


@both
def test_one_who_gives_up_leaves_the_others_alone(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> float:
        impatient = asyncio.create_task(stream.ask(request(1, tenths=5)))
        patient = asyncio.create_task(stream.ask(request(2, tenths=5)))
        await asyncio.sleep(0.1)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return malignancy(await patient)

    assert on_stream(scripted, act, kind=kind) == pytest.approx(0.02)


@both
def test_leaving_with_askers_waiting_does_not_hang(scripted: str, kind: str) -> None:
    async def act(stream: Way) -> None:
        asker = asyncio.create_task(stream.ask(request(1, tenths=50)))
        await asyncio.sleep(0.2)
        asker.cancel()

    began = time.monotonic()
    on_stream(scripted, act, kind=kind)
    assert time.monotonic() - began < 3


# ---------------------------------------------------------------- no server, lost servers


@both
def test_nobody_listens(tmp_path: Path, kind: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        async def act(stream: Way) -> None:
            with pytest.raises(ServerError, match=f"SERVER_UNREACHABLE.*{address}"):
                await stream.describe()
            with pytest.raises(ServerError, match="SERVER_LOST"):
                await stream.ask(request(1))

        began = time.monotonic()
        on_stream(address, act, kind=kind)
        assert time.monotonic() - began < 5


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(ServerError, match="SERVER_UNREACHABLE"):
        on_stream("no-such-host.invalid:8001", lambda stream: stream.describe())


@pytest.fixture
def own(tmp_path: Path) -> Iterator[TritonProcess]:
    """A scripted server that a test may kill."""
    process = start_scripted(tmp_path / "own")
    yield process
    end_quickly(process)


@both
def test_a_killed_server_is_told_to_all_who_wait_and_its_successor_serves(
    own: TritonProcess, tmp_path: Path, kind: str
) -> None:
    address, port = own.endpoints.address, own.endpoints.grpc
    successors: list[TritonProcess] = []

    async def act(stream: Way) -> list[Any]:
        assert malignancy(await stream.ask(request(9))) == pytest.approx(0.09)
        askers = [asyncio.create_task(stream.ask(request(n, tenths=100))) for n in range(8)]
        await asyncio.sleep(0.5)
        assert own.pid
        os.kill(own.pid, signal.SIGKILL)
        began = time.monotonic()
        lost = await asyncio.gather(*askers, return_exceptions=True)
        assert time.monotonic() - began < 8  # an answer would have taken ten
        with pytest.raises(ServerError, match="SERVER_LOST"):  # nobody is there yet
            await stream.ask(request(10))
        successors.append(start_scripted(tmp_path / "successor", "ns-successor", port))
        answer = await _until_answered(stream)
        return [*lost, answer]

    try:
        *lost, answer = on_stream(address, act, kind=kind)
    finally:
        for process in successors:
            end_quickly(process)
    assert {type(error) for error in lost} == {ServerError}
    assert {error.code for error in lost} == {"SERVER_LOST"}
    assert arrays_of(answer)["RELEASE"].item() == "ns-successor"


async def _until_answered(stream: Way) -> pb.ModelInferResponse:
    """A channel that has failed tries to connect again after a second or so."""
    for _ in range(30):
        try:
            return await stream.ask(request(11))
        except NoduleserveError as error:
            assert error.code == "SERVER_LOST"
            await asyncio.sleep(0.5)
    raise AssertionError("never answered")
