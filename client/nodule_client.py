"""Scores for other programmes: one nodule, or many as a stream; with asyncio or without.

    with NoduleClient("127.0.0.1:8001") as client:
        outcome = client.score(nodule_at("ct/series", (-59.7, -15.7, -137.3)))

Every error on purpose is a `NoduleserveError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from noduleserve.ct.codes import SERIES_CODES
from noduleserve.errors import NoduleserveError, RequestRefused, SeriesError, ServerError, WorklistError
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import Nodule

from .codes import CLIENT_CODES
from .engine import Engine
from .options import EngineOptions, TransportName

_T = TypeVar("_T")


class ClientSettings(TypedDict, total=False):
    """What may be set of a client; see EngineOptions.  Without a word, someone waits for the score: deadline 60 s,
    server_wait 30 s, priority "interactive", and series are read in a thread of this process."""

    transport: TransportName
    streams: int
    in_flight: int
    deadline: float
    server_wait: float
    retries: int
    priority: Literal["interactive", "night"]
    readers: int | None
    read_ahead: int
    views: bool


class AsyncNoduleClient:
    """Scores nodules on a server, or on several; an async context manager.  Calls may go side by side."""

    def __init__(self, server: str, **settings: Unpack[ClientSettings]) -> None:
        """Prepare; entering connects.

        Args:
            server: host:port of gRPC, several with commas between them, or dns:///name:port.
            settings: see ClientSettings.
        """
        chosen = ClientSettings(deadline=60.0, server_wait=30.0, priority="interactive", readers=0) | settings
        self._engine = Engine(EngineOptions((server,), **chosen))

    async def __aenter__(self) -> AsyncNoduleClient:
        """Connect.

        Raises:
            ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE, SERVER_NOT_SCORING, SERVERS_DIFFER.
        """
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._engine.__aexit__(kind, error, at)

    @property
    def info(self) -> ReleaseInfo:
        """What the server serves: release id, folds, labels of the semantic features."""
        return self._engine.info

    async def score(self, nodule: Nodule, timeout: float | None = None) -> Outcome:
        """Score one nodule; the outcome has its `score`, and its `warnings`.

        Args:
            nodule: see `nodule_at`.
            timeout: seconds for everything, reading and all tries included; None: as many as deadline, retries and
                server_wait come to.

        Raises:
            SeriesError: the CT cannot be read right.
            RequestRefused: the server refuses the nodule, with its code.
            ServerError: ANSWER_LATE (which a timeout raises as well), SERVER_LOST, SERVER_GONE and others.
        """
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.stream([nodule])) as outcomes:
                outcome = await anext(outcomes)
        except TimeoutError:
            raise ServerError("ANSWER_LATE", f"There was no score within {timeout:g} s.") from None
        if outcome.score is None:
            raise error_of(outcome)
        return outcome

    def stream(self, nodules: Iterable[Nodule]) -> AsyncGenerator[Outcome, None]:
        """Score many nodules: exactly one outcome each, as they come; what is wrong with one is in its outcome.

        Args:
            nodules: a list, whose nodules are read series by series, or any iterable, however long.

        Raises:
            ServerError: SERVER_GONE, RELEASE_CHANGED; what came before is right.
        """
        return self._engine.outcomes(nodules)


class NoduleClient:
    """The same without asyncio: a context manager, whose event loop runs in a thread of its own."""

    def __init__(self, server: str, **settings: Unpack[ClientSettings]) -> None:
        """Prepare; see AsyncNoduleClient."""
        self._client = AsyncNoduleClient(server, **settings)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> NoduleClient:
        """Connect; see AsyncNoduleClient."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="noduleserve-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._run(self._client.__aexit__(kind, error, at))
        finally:
            self._end()

    @property
    def info(self) -> ReleaseInfo:
        """What the server serves: release id, folds, labels of the semantic features."""
        return self._client.info

    def score(self, nodule: Nodule, timeout: float | None = None) -> Outcome:
        """See AsyncNoduleClient.score."""
        return self._run(self._client.score(nodule, timeout))

    def stream(self, nodules: Iterable[Nodule]) -> Generator[Outcome, None, None]:
        """See AsyncNoduleClient.stream; closing the generator gives up the rest."""
        outcomes = self._client.stream(nodules)

        async def following() -> Outcome | None:
            return await anext(outcomes, None)

        async def closed() -> None:
            while True:
                try:
                    return await outcomes.aclose()
                except RuntimeError:  # after Ctrl-C, the step that was cancelled still runs for a moment
                    await asyncio.sleep(0.01)

        try:
            while (outcome := self._run(following())) is not None:
                yield outcome
        finally:
            self._run(closed())

    def _run(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Do it in the loop's thread, and wait for it."""
        if self._loop is None:
            what.close()
            raise RuntimeError("a NoduleClient is used in a with block")
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C comes to this thread only
            raise

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def error_of(outcome: Outcome) -> NoduleserveError:
    """The error that an outcome without a score stands for, as an exception of its kind."""
    what, _, mend = outcome.error.partition(" Mend: ")
    kind: type[NoduleserveError] = RequestRefused
    if outcome.error_code == "WORKLIST_ROW":
        kind = WorklistError
    elif outcome.error_code in SERIES_CODES or outcome.error_code == "READER_CRASHED":
        kind = SeriesError
    elif outcome.error_code in CLIENT_CODES and outcome.error_code != "SERVER_REFUSED":
        kind = ServerError
    return kind(outcome.error_code, what, mend)
