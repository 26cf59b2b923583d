"""The client of both HTTP rivals: one connection a call in flight, kept alive, as many as are wanted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import ServerError

from .base import Case
from .http_server import HttpServer
from .started import Started
from .wire import body_of


class HttpRival(Started):
    """See Rival; POST /predict with a body of `wire`, and an answer {"raw": [F]}."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server

    async def _start(self, ends: AsyncExitStack) -> None:
        await asyncio.to_thread(self._server.start)
        ends.push_async_callback(asyncio.to_thread, self._server.stop)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        ends.push_async_callback(self._session.close)

    @property
    def pids(self) -> list[int]:
        """See Rival."""
        return [self._server.pid] if self._server.pid else []

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            TimeoutError: no answer in time.
            aiohttp.ClientError: the connection failed.
            ServerError: RIVAL_REFUSED, a status other than 200.
        """
        async with asyncio.timeout(deadline):
            async with self._session.post(f"{self._server.url}/predict", data=body_of(case), headers=_BYTES) as answer:
                if answer.status != 200:
                    raise ServerError("RIVAL_REFUSED", f"The server answered with status {answer.status}.")
                return np.array((await answer.json())["raw"], np.float64)


_BYTES = {"Content-Type": "application/octet-stream"}
