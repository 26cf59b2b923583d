"""This system: Triton on a release, asked through the transports of its own client, a request a nodule."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.messages import score_of, score_request
from noduleserve.client.options import EngineOptions
from noduleserve.client.transports.base import Transport
from noduleserve.client.transports.shared_memory import SharedMemoryTransport
from noduleserve.client.transports.stream import StreamTransport
from noduleserve.client.transports.unary import UnaryTransport
from noduleserve.errors import ServerError
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.settings import ServerSettings

from .base import Case
from .cases import warm_up_case

Way = Literal["stream", "unary", "shared-memory"]
WARM_UP_CALLS, WARM_UP_S = 2, 300.0


class Ours:
    """See Rival; enter it in the main thread, which the kernel ties Triton's life to.

    Attributes:
        server: Triton's process, once it is entered.
    """

    server: TritonProcess

    def __init__(
        self, release: Release, transport: Way = "stream", settings: ServerSettings | None = None, name: str = ""
    ) -> None:
        """Prepare; entering starts Triton on free ports.

        Args:
            release: what to serve.
            transport: the way to the server.
            settings: of the server; None: as the release says.
            name: in tables; by default it says the transport.
        """
        self.name = name or f"noduleserve, {transport}"
        self.what = (
            f"Triton on the release ({release.manifest['target']}), a request a nodule: the box as int16 over gRPC, "
            f"{_SENTENCES[transport]}; client and server on one machine"
        )
        self._release, self._transport, self._settings = release, transport, settings
        self._numbers = itertools.count()

    async def __aenter__(self) -> Ours:
        any_ports = Endpoints(grpc=0, http=0, metrics=0)
        self.server = TritonProcess(self._release, any_ports, settings=self._settings)
        try:
            self.server.start()
            await asyncio.to_thread(self.server.wait_ready)
            self._way = transport_to(self.address, self._transport)
            await self._way.connect()
        except BaseException:
            await asyncio.to_thread(self.server.stop)
            raise
        try:
            self._info = replace(await self._way.describe(), release=self._release.id)
            for _ in range(WARM_UP_CALLS):
                await self.score(warm_up_case(), WARM_UP_S)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        try:
            await self._way.close()
        finally:
            await asyncio.to_thread(self.server.stop)

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return self.server.endpoints.address

    @property
    def pids(self) -> list[int]:
        """See Rival."""
        return [self.server.pid] if self.server.pid else []

    async def statistics(self) -> Any:
        """Triton's own counts and times so far, model by model (ModelStatisticsResponse).

        Triton counts a request a moment after it has answered it.
        """
        return await self._way.statistics()

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            ServerError: what `Transport.ask` and `score_of` raise; ANSWER_MALFORMED for another nodule's answer.
            RequestRefused: see `Transport.ask`.
        """
        number = str(next(self._numbers))
        request = score_request(number, case.voxels, case.box, case.geometry, case.center)
        answer = await self._way.ask(request, deadline)
        if answer.id != number:
            raise ServerError("ANSWER_MALFORMED", "The answer is another request's.")
        return score_of(answer, self._info).raw.astype(np.float64)


def transport_to(address: str, way: Way) -> Transport:
    """The client's own way to a server."""
    if way == "shared-memory":
        return SharedMemoryTransport(address)
    if way == "unary":
        return UnaryTransport(address)
    return StreamTransport(address, EngineOptions(servers=(address,)).streams)


_SENTENCES: dict[Way, str] = {
    "stream": "over as many streams as the client has by default",
    "unary": "a call each",
    "shared-memory": "the voxels in shared memory and the rest a call each",
}
