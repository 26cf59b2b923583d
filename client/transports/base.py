"""What every way to a server offers. Whoever implements it needs no network to stand in for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tritonclient.grpc import service_pb2 as pb

from noduleserve.results.outcome import ReleaseInfo


class Transport(Protocol):
    """A way to one server.

    It puts no bound on what is in flight: whoever calls `ask` decides how many.

    Attributes:
        address: of the server, as it stands in sentences.
    """

    address: str

    async def connect(self) -> None:
        """Prepare; no server has to be there yet."""
        ...

    async def close(self) -> None:
        """Let go of everything; whoever still waits is told SERVER_LOST."""
        ...

    async def describe(self) -> ReleaseInfo:
        """What the server says of its release; `release` is still empty, since only answers carry it.

        Raises:
            ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE.
        """
        ...

    async def is_ready(self) -> bool:
        """Whether the server lives and says that nodule_score is ready. That it scores is proved by a request only."""
        ...

    async def statistics(self) -> Any:
        """Triton's own counts and times, model by model (ModelStatisticsResponse)."""
        ...

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        """Send one request and wait for its answer.

        Args:
            request: its id must differ from those of all that are in flight.
            deadline: seconds for the answer.

        Raises:
            RequestRefused: the server says what is wrong; SERVER_STOPPING, SERVER_BUSY, SERVER_BROKEN among others.
            ServerError: SERVER_LOST, ANSWER_LATE.
        """
        ...


TransportMaker = Callable[[str], Transport]  # address -> a way to it
