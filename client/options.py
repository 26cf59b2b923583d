"""How an engine goes about its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .retry import Backoff

TransportName = Literal["stream", "unary", "shared-memory"]

# On two cores a full-size encoder takes seconds a nodule, and a nodule waits for all those in flight before it.
DEADLINE_S = 300.0
IN_FLIGHT = 8
SERVER_WAIT_S = 600.0
RETRIES = 5
READ_AHEAD_BYTES = 512 * 2**20

PRIORITIES: dict[str, int] = {"interactive": 1, "night": 2}


@dataclass(frozen=True)
class EngineOptions:
    """How an engine goes about its work.

    Attributes:
        servers: addresses of gRPC, "host:port" or "dns:///name:port" (every address that the name has); one string may
            hold several, separated by commas.
        transport: "stream" (bidirectional streams), "unary" (a call a nodule) or "shared-memory" (a call a nodule, its
            voxels in memory shared with a server on this machine).
        streams: how many streams to each server. Triton answers a stream in the order of its requests, so that a slow
            nodule holds up those behind it on its own stream only.
        in_flight: nodules sent to a server and not answered, at most, for each server.
        deadline: seconds for one answer.
        server_wait: seconds that no server may be reachable before the run breaks off (SERVER_GONE).
        retries: how often a nodule is asked for again after a transient failure.
        backoff: pauses before that.
        priority: "interactive" overtakes what waits with "night", on a server that is set to it (ServerSettings).
        readers: processes that read series; 0: a thread of this process; None: processes for a long worklist only.
        read_ahead: bytes of voxels that are read or sent and not answered, at most; one box may be larger.
        views: compute the nine views of each scored nodule as well, for a report.
    """

    servers: tuple[str, ...]
    transport: TransportName = "stream"
    streams: int = 2
    in_flight: int = IN_FLIGHT
    deadline: float = DEADLINE_S
    server_wait: float = SERVER_WAIT_S
    retries: int = RETRIES
    backoff: Backoff = field(default_factory=Backoff)
    priority: Literal["interactive", "night"] = "night"
    readers: int | None = None
    read_ahead: int = READ_AHEAD_BYTES
    views: bool = False

    def __post_init__(self) -> None:
        if self.transport not in ("stream", "unary", "shared-memory"):
            raise ValueError(f"there is no transport {self.transport!r}: stream, unary or shared-memory")
        if self.priority not in PRIORITIES:
            raise ValueError(f"there is no priority {self.priority!r}: {' or '.join(PRIORITIES)}")
        if min(self.streams, self.in_flight, self.read_ahead) < 1 or self.retries < 0 or (self.readers or 0) < 0:
            raise ValueError("streams, in_flight and read_ahead are at least 1, retries and readers at least 0")
        if not (self.deadline > 0 and self.server_wait >= 0):  # also refuses NaN
            raise ValueError("deadline is more than 0 seconds, server_wait at least 0")
