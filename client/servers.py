"""The servers of a run: who is asked next, who is left alone for now, and when the run breaks off for lack of any.

Each server has a circuit.  It opens when the connection breaks, when the server says that it ends or is broken, and
after several late or busy answers in a row; from then on the server is asked nothing but, by one prober and with
growing pauses, for the score of a test nodule.  Such a score closes the circuit again.  While every circuit is open,
requests wait; when that has lasted `server_wait` seconds, every one of them fails with SERVER_GONE.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from types import TracebackType

from tenacity import AsyncRetrying, retry_if_result
from tritonclient.grpc import service_pb2 as pb

from noduleserve.errors import NoduleserveError, ServerError
from noduleserve.results.outcome import ReleaseInfo

from .addresses import DNS, resolve, split_addresses
from .options import EngineOptions
from .probe import probed
from .retry import is_transient
from .status import EngineStatus
from .transports.base import Transport, TransportMaker

_PATIENCE = 3  # late or busy answers in a row before a server is left alone
_PROBE_S = 60.0  # for the score of a test nodule while looking whether a server is back: it overtakes what waits
_AT_ONCE = frozenset({"SERVER_LOST", "SERVER_UNREACHABLE", "SERVER_STOPPING", "SERVER_BROKEN"})

_NEVER = frozenset({"SERVER_NOT_NODULESERVE", "SHARED_MEMORY_ELSEWHERE"})  # no waiting makes such a server usable


@dataclass(eq=False)
class _Server:
    """One server and its circuit.

    Attributes:
        transport: the way to it.
        name: the address as it was given; differs from the transport's where a name stands for several machines.
        up: whether the circuit is closed.
        load: requests in flight.
        turn: when it was last chosen, a count.
        stumbles: late or busy answers since the last good one.
        prober: looks whether it is back.
    """

    transport: Transport
    name: str
    up: bool = False
    load: int = 0
    turn: int = 0
    stumbles: int = 0
    prober: asyncio.Task[None] | None = field(default=None, repr=False)


class Servers:
    """An async context manager: entering it connects, and proves every server by the score of a test nodule.

    Attributes:
        info: what the servers serve, release id included; all serve the same.
    """

    info: ReleaseInfo

    def __init__(self, options: EngineOptions, make_transport: TransportMaker, status: EngineStatus) -> None:
        self._options, self._make_transport, self._status = options, make_transport, status
        self._servers: list[_Server] = []
        self._changed = asyncio.Event()
        self._failure: ServerError | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._turns, self._ids = itertools.count(1), itertools.count(1)

    async def __aenter__(self) -> Servers:
        """Connect.

        Raises:
            ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE, SERVER_NOT_SCORING where no server can be used;
                SERVER_NOT_NODULESERVE and SHARED_MEMORY_ELSEWHERE as well where it is so of one of several;
                SERVERS_DIFFER.
        """
        try:
            for name in split_addresses(self._options.servers):
                for address in await self._addresses(name):
                    await self._add(address, name)
            if not self._servers:
                raise ServerError("SERVER_UNREACHABLE", "The name of the server is not known.", "Check --server.")
            await self._greet()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the probers and let go of the connections; waiting requests must have ended."""
        if self._giving_up:
            self._giving_up.cancel()
        probers = [server.prober for server in self._servers if server.prober]
        for prober in probers:
            prober.cancel()
        await asyncio.gather(*probers, return_exceptions=True)
        await asyncio.gather(*(server.transport.close() for server in self._servers), return_exceptions=True)

    def next_id(self) -> str:
        """An id that no other request has: a late answer to an earlier try must find nobody."""
        return str(next(self._ids))

    async def ask(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Send a request to the least loaded of the servers that are there; waits while none has room, or none is.

        Raises:
            RequestRefused, ServerError: as `Transport.ask`; SERVER_GONE and RELEASE_CHANGED end the run.
        """
        server = await self._chosen()
        self._status.in_flight += 1
        try:
            request.id = self.next_id()
            response = await server.transport.ask(request, self._options.deadline)
            server.stumbles = 0
            return response
        except NoduleserveError as error:
            self._judge(server, error)
            raise
        finally:
            server.load -= 1
            self._status.in_flight -= 1
            self._wake()

    async def statistics(self) -> list[pb.ModelStatisticsResponse]:
        """Triton's counts and times of every server that gives them."""
        asked = [server.transport.statistics() for server in self._servers if server.up]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [statistics for statistics in found if not isinstance(statistics, BaseException)]

    # ------------------------------------------------------------ beginning

    async def _addresses(self, name: str) -> list[str]:
        """A stream stays with the machine it began with, so that a name becomes a server for each of its machines.

        Memory is shared with one machine as well.
        """
        if name.startswith(DNS) and self._options.transport != "unary":
            return await resolve(name)
        return [name]

    async def _add(self, address: str, name: str) -> _Server:
        server = _Server(self._make_transport(address), name)
        await server.transport.connect()
        self._servers.append(server)
        self._status.servers = len(self._servers)
        return server

    async def _greet(self) -> None:
        deadline = self._options.deadline
        asked = [probed(server.transport, self.next_id(), deadline) for server in self._servers]
        found = await asyncio.gather(*asked, return_exceptions=True)
        infos = [info for info in found if isinstance(info, ReleaseInfo)]
        errors = [error for error in found if isinstance(error, BaseException)]
        for error in errors:
            if not infos or not isinstance(error, ServerError) or error.code in _NEVER:
                raise error
        self._check_alike(infos)
        self.info = infos[0]
        for server, info in zip(self._servers, found, strict=True):
            if isinstance(info, ReleaseInfo):
                self._close_circuit(server)
            else:
                self._open_circuit(server)

    def _check_alike(self, infos: list[ReleaseInfo]) -> None:
        releases = sorted({info.release for info in infos})
        if len(releases) > 1:
            raise ServerError(
                "SERVERS_DIFFER",
                f"The servers serve different releases: {', '.join(releases)}.",
                "Serve one release on all of them, or name only those that do.",
            )

    # ------------------------------------------------------------ choosing

    async def _chosen(self) -> _Server:
        while True:
            if self._failure:
                raise self._failure
            free = [server for server in self._servers if server.up and server.load < self._options.in_flight]
            if free:
                server = min(free, key=lambda server: (server.load, server.turn))
                server.load += 1
                server.turn = next(self._turns)
                return server
            await self._changed.wait()

    def _wake(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------ circuits

    def _judge(self, server: _Server, error: NoduleserveError) -> None:
        """What an error of one request says about its server."""
        if not is_transient(error):
            server.stumbles = 0  # it has looked at the request and refused it
            return
        server.stumbles += 1
        if server.up and (error.code in _AT_ONCE or server.stumbles >= _PATIENCE):
            self._open_circuit(server)

    def _open_circuit(self, server: _Server) -> None:
        server.up = False
        if server.prober is None or server.prober.done():
            server.prober = asyncio.create_task(self._probe(server))
        if not self._count_up() and self._giving_up is None:
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self._options.server_wait, self._give_up)

    def _close_circuit(self, server: _Server) -> None:
        server.up, server.stumbles = True, 0
        self._count_up()
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None
        self._wake()

    def _count_up(self) -> int:
        self._status.servers_up = sum(server.up for server in self._servers)
        return self._status.servers_up

    def _give_up(self) -> None:
        self._fail(
            ServerError(
                "SERVER_GONE",
                f"No server has scored anything for {self._options.server_wait:g} s.",
                "Start a server of the same release and run again: what has its outcome is not scored twice.",
            )
        )

    def _fail(self, error: ServerError) -> None:
        self._failure = self._failure or error
        self._wake()

    # ------------------------------------------------------------ probing

    async def _probe(self, server: _Server) -> None:
        """Look until the server is back, or is no longer among the machines that its name stands for."""
        looking = AsyncRetrying(wait=self._options.backoff.wait, retry=retry_if_result(lambda there: not there))
        await asyncio.sleep(self._options.backoff.first)
        if await looking(self._is_back, server) == "there":
            self._close_circuit(server)

    async def _is_back(self, server: _Server) -> str:
        """ "there", "gone" for ever, or "": not yet."""
        deadline = min(self._options.deadline, _PROBE_S)
        try:
            if not await self._is_known(server):
                return "gone"
            if not await server.transport.is_ready():
                return ""
            info = await probed(server.transport, self.next_id(), deadline)
        except Exception:  # whatever it was, the server does not score; a prober that ends would never find it back
            return ""
        if info.release != self.info.release:
            self._fail(release_changed(info.release, self.info.release))
            return "gone"
        return "there"

    async def _is_known(self, server: _Server) -> bool:
        """Ask the name again which machines it stands for; new ones are added, one that left is let go."""
        if server.name == server.transport.address:
            return True
        addresses = await resolve(server.name)
        known = {other.transport.address for other in self._servers}
        for address in addresses:
            if address not in known:
                self._open_circuit(await self._add(address, server.name))
        if not addresses or server.transport.address in addresses:
            return True
        self._servers.remove(server)
        self._status.servers = len(self._servers)
        await server.transport.close()
        return False


def release_changed(now: str, first: str) -> ServerError:
    """What ends a run: a part of it must not be scored by another release than the rest."""
    return ServerError(
        "RELEASE_CHANGED",
        f"The answer is of release {now}; the run began with {first}.",
        "Start the run again, so that all of it is scored by one release.",
    )
