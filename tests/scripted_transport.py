"""Servers without a network: they do what a test tells them to, so that the engine's decisions can be counted."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scripted_reader import AirReader
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.client.retry import Backoff
from noduleserve.client.transports.base import Transport
from noduleserve.errors import ServerError
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import Nodule

RELEASE, FOLDS, LABELS = "ns-scripted", 2, ("size.small", "size.large")
_LONG_S = 60.0


def lost(address: str = "here") -> ServerError:
    return ServerError("SERVER_LOST", f"The connection to {address} broke.")


async def at_once(_address: str, _request: pb.ModelInferRequest) -> None:
    """Answers without ado."""


@dataclass
class World:
    """Every server that there is.

    Attributes:
        down: addresses where nobody listens.
        slow: addresses where nothing is answered in time, test nodules included.
        releases: address -> release, where it is not RELEASE.
        act: what happens to a nodule's request before it is answered; it may wait or raise.
        asked: addresses in the order in which nodules were sent to them.
        ids: of all requests, those of test nodules included.
        probes: test nodules answered, by address.
        looks: whether it is ready, by address.
        in_flight, most_in_flight: by address.
        open: ways to servers that have not been closed.
        tries: for `act` to count in.
    """

    down: set[str] = field(default_factory=set)
    releases: dict[str, str] = field(default_factory=dict)
    act: Callable[[str, pb.ModelInferRequest], Awaitable[None]] = at_once
    asked: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    probes: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    most_in_flight: Counter[str] = field(default_factory=Counter)
    open: int = 0
    slow: set[str] = field(default_factory=set)
    tries: Counter[float] = field(default_factory=Counter)

    def transport(self, address: str) -> Transport:
        """A way to one of them; give it to an Engine as `make_transport`."""
        return _Way(address, self)


class _Way:
    """See Transport."""

    def __init__(self, address: str, world: World) -> None:
        self.address, self._world = address, world

    async def connect(self) -> None:
        self._world.open += 1

    async def close(self) -> None:
        self._world.open -= 1

    async def describe(self) -> ReleaseInfo:
        if self.address in self._world.down:
            raise ServerError("SERVER_UNREACHABLE", f"No server answers at {self.address}.")
        return ReleaseInfo("", FOLDS, True, LABELS)

    async def is_ready(self) -> bool:
        self._world.looks[self.address] += 1
        if self._world.looks[self.address] == 2:
            raise KeyError("what nobody foresaw")
        return self.address not in self._world.down

    async def statistics(self) -> Any:
        return pb.ModelStatisticsResponse()

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        world, here = self._world, self.address
        world.ids.append(request.id)
        if here in world.down:
            raise lost(here)
        try:
            async with asyncio.timeout(deadline):
                await self._done(request)
        except TimeoutError:
            raise ServerError("ANSWER_LATE", "The server did not answer.") from None
        if here in world.down:
            raise lost(here)
        return answer(request, world.releases.get(here, RELEASE))

    async def _done(self, request: pb.ModelInferRequest) -> None:
        world, here = self._world, self.address
        if here in world.slow:
            await asyncio.sleep(_LONG_S)
        if is_probe(request):
            world.probes[here] += 1
            return
        world.asked.append(here)
        world.in_flight[here] += 1
        world.most_in_flight[here] = max(world.most_in_flight[here], world.in_flight[here])
        try:
            await world.act(here, request)
        finally:
            world.in_flight[here] -= 1


def center_of(request: pb.ModelInferRequest) -> tuple[float, float, float]:
    """Of the nodule that is asked for."""
    x, y, z = np.frombuffer(request.raw_input_contents[4], np.float64).tolist()
    return x, y, z


def is_probe(request: pb.ModelInferRequest) -> bool:
    """Whether it is the engine's own test nodule."""
    shape = np.frombuffer(request.raw_input_contents[2], np.int32)
    return shape.tolist() == [3, 3, 3]


def answer(request: pb.ModelInferRequest, release: str = RELEASE) -> pb.ModelInferResponse:
    """MALIGNANCY is the hundredth part of the nodule's x."""
    response = pb.ModelInferResponse()
    response.CopyFrom(_answer(center_of(request)[0] % 101 / 100, release))
    response.id = request.id
    return response


@functools.lru_cache
def _answer(malignancy: float, release: str) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse()
    arrays = {
        "MALIGNANCY": [malignancy],
        "MALIGNANCY_RAW": [malignancy] * FOLDS,
        "MALIGNANCY_CALIBRATED": [malignancy] * FOLDS,
        "SEMANTIC": [0.5] * len(LABELS),
        "EMBEDDING": np.full((FOLDS, 256), 1 / 16),
        "VIEW_ATTENTION": np.full((FOLDS, 9), 1 / 9),
    }
    for name, values in arrays.items():
        array = np.asarray(values, "<f4")[None]
        response.outputs.add(name=name, datatype="FP32", shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    response.outputs.add(name="RELEASE", datatype="BYTES", shape=[1, 1])
    response.raw_output_contents.append(len(release).to_bytes(4, "little") + release.encode())
    return response


# ---------------------------------------------------------------- an engine on them

SHORT = Backoff(0.002, 0.02, 0.001)


def nodule(number: int, series: str = "a", **more: Any) -> Nodule:
    return Nodule(number, {}, "p", str(number), Path("/ct") / series, (float(number), 0.0, 0.0), **more)


def engine(world: World, servers: str = "a:1", reader: Callable[[], AirReader] = AirReader, **options: Any) -> Engine:
    settings: dict[str, Any] = {"backoff": SHORT, "server_wait": 5.0, "readers": 0} | options
    return Engine(EngineOptions((servers,), **settings), make_transport=world.transport, make_reader=reader)


def on(made: Engine, act: Callable[[Engine], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with made:
            return await act(made)

    return asyncio.run(asyncio.wait_for(run(), 30))


def scored(made: Engine, nodules: Iterable[Nodule], **more: Any) -> list[Outcome]:
    async def act(entered: Engine) -> list[Outcome]:
        return [outcome async for outcome in entered.outcomes(nodules, **more)]

    outcomes: list[Outcome] = on(made, act)
    return outcomes
