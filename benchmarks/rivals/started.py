"""The life of a way to score nodules: started, warmed up, ended in the reverse order, whatever breaks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.options import EngineOptions, TransportName
from noduleserve.client.transports.base import Transport
from noduleserve.client.transports.named import transport_to
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.settings import ServerSettings

from .base import Case
from .cases import warm_up_case

WARM_UP_CALLS, WARM_UP_S = 2, 300.0
T = TypeVar("T")


class Started(ABC):
    """See Rival; whoever derives from it says how to start, and puts on the stack how to end.

    Attributes:
        warm_up_calls: made before it counts as started.
    """

    name, what = "", ""
    warm_up_calls = WARM_UP_CALLS

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as ends:
            await self._start(ends)
            for _ in range(self.warm_up_calls):
                await self.score(warm_up_case(), WARM_UP_S)
            self._ends = ends.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._ends.aclose()

    @property
    def pids(self) -> list[int]:
        """See Rival; by default it has no server."""
        return []

    @abstractmethod
    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival."""

    @abstractmethod
    async def _start(self, ends: AsyncExitStack) -> None:
        """Start it, and put on the stack what ends it."""


class InOneThread(Started):
    """A way that computes in this process, one nodule at a time."""

    async def _start(self, ends: AsyncExitStack) -> None:
        self._thread = ThreadPoolExecutor(1, self.name)
        ends.push_async_callback(asyncio.to_thread, self._thread.shutdown, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(work))


class InTriton(Started):
    """A way that asks a Triton of its own; enter it in the main thread, which the kernel ties Triton's life to.

    Attributes:
        server: Triton's process, once it is entered.
    """

    server: TritonProcess

    def __init__(self, release: Release, transport: TransportName, settings: ServerSettings | None = None) -> None:
        self._release, self._transport, self._settings = release, transport, settings

    async def _start(self, ends: AsyncExitStack) -> None:
        self.server = TritonProcess(self._release, Endpoints(grpc=0, http=0, metrics=0), settings=self._settings)
        ends.push_async_callback(asyncio.to_thread, self.server.stop)
        self.server.start()
        await asyncio.to_thread(self.server.wait_ready)
        self._way: Transport = transport_to(self.address, self._transport, EngineOptions.streams)
        await self._way.connect()
        ends.push_async_callback(self._way.close)

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return self.server.endpoints.address

    @property
    def pids(self) -> list[int]:
        """See Rival."""
        return [self.server.pid] if self.server.pid else []
