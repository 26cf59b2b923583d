"""The engine: nodules in, outcomes out, in the order in which they come.

It connects to its servers once; worklists may then follow one another, or go side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from types import TracebackType

from tritonclient.grpc import service_pb2 as pb

from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import Nodule

from .budget import ByteBudget
from .flow import Done, Flow, nothing_done
from .grouping import in_series
from .options import EngineOptions
from .readers.lanes import ProcessLane, make_lanes
from .readers.series_reader import SeriesReader
from .readers.work import Reader
from .scorer import Scorer
from .servers import Servers
from .status import EngineStatus
from .transports.base import Transport, TransportMaker
from .transports.named import transport_to


class Engine:
    """Scores nodules on one or several servers; an async context manager.

    Attributes:
        options: see EngineOptions.
        status: how it stands; changes all the time.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        make_transport: TransportMaker | None = None,
        make_reader: Callable[[], Reader] = SeriesReader,
    ) -> None:
        """Prepare; entering connects.

        Args:
            options: see EngineOptions.
            make_transport: makes the way to a server, by default what the options say.
            make_reader: makes what reads series; a name of a module, where readers are processes.
        """
        self.options, self.status = options, EngineStatus()
        self._make_reader = make_reader
        self._servers = Servers(options, make_transport or self._transport, self.status)
        self._budget = ByteBudget(options.read_ahead, self.status)

    async def __aenter__(self) -> Engine:
        """Connect.

        Raises:
            ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE, SERVER_NOT_SCORING, SERVERS_DIFFER;
                SHARED_MEMORY_ELSEWHERE and SHARED_MEMORY_FULL with transport "shared-memory".
        """
        await self._servers.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._servers.close()

    @property
    def info(self) -> ReleaseInfo:
        """What the servers serve, the release id included."""
        return self._servers.info

    async def outcomes(self, nodules: Iterable[Nodule], done: Done = nothing_done) -> AsyncGenerator[Outcome, None]:
        """Score nodules: exactly one outcome each, in the order in which they come.

        What goes wrong with a nodule, or with its series, is its outcome.  Of a sequence, the nodules of one series
        are read together; any other iterable is read as the outcomes are taken, and may be endless.

        Args:
            nodules: of a worklist, or made with `nodule_at`.
            done: what an earlier run made of a nodule, asked with its series' UID; such an outcome is handed on with
                `resumed` set, and nothing is read or sent.

        Raises:
            ServerError: SERVER_GONE, RELEASE_CHANGED.  The run has broken off: nodules without an outcome have failed
                in no way, and are for the next run.
            NoduleserveError: READERS_NOT_STARTED.
        """
        known = isinstance(nodules, Sequence)
        count = sum(1 for _ in in_series(nodules)) if known else None
        lanes = make_lanes(self.options.readers, count, self._make_reader)
        self.status.readers = f"{len(lanes)} {'processes' if isinstance(lanes[0], ProcessLane) else 'threads'}"
        flow = Flow(
            in_series(nodules),
            lanes,
            Scorer(self._servers, self.options, self.status),
            self._budget,
            self.options.in_flight * max(1, self.status.servers),
            self.status,
            done,
            blocking=not known,
        )
        try:
            async with contextlib.aclosing(flow.outcomes()) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            await asyncio.gather(*(lane.close() for lane in lanes))

    async def statistics(self) -> list[pb.ModelStatisticsResponse]:
        """Triton's own counts and times, one of each server that gives them."""
        return await self._servers.statistics()

    def _transport(self, address: str) -> Transport:
        return transport_to(address, self.options.transport, self.options.streams)
