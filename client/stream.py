"""One bidirectional gRPC stream to a server: many nodules in flight, answers matched by id.

Nothing here relies on an order.  Triton 2.51 sends a stream's answers in the order of its requests, so that a slow
nodule holds up those behind it; with one encoder that serves a queue, this costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from noduleserve.errors import NoduleserveError, ServerError
from noduleserve.protocol import ENSEMBLE

from .messages import refusal_of, release_info
from noduleserve.results.outcome import ReleaseInfo

# On two cores a full-size encoder takes seconds a nodule, and a nodule waits for all those in flight before it.
DEADLINE_S = 300.0
_QUESTION_S = 15.0  # for what a server knows without computing anything
_UNLIMITED = -1  # a box of a thin-sliced volume is larger than gRPC's default of 4 MB
_OPTIONS = [
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class ScoreStream:
    """Sends requests and hands each caller its own answer.

    Entering it connects; `ask` sends one request and waits for its answer, and any number of `ask`s may wait at once.
    The stream puts no bound on them: whoever calls `ask` decides how many.  When the connection breaks, every `ask`
    that waits fails with SERVER_LOST, and the next one opens the stream again.

    Each answer must come within `deadline` seconds of its request.
    """

    def __init__(self, address: str, deadline: float = DEADLINE_S) -> None:
        self.address = address
        self.deadline = deadline
        self._waiting: dict[str, asyncio.Future[pb.ModelInferResponse]] = {}
        self._outgoing: asyncio.Queue[pb.ModelInferRequest] = asyncio.Queue()
        self._receiver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ScoreStream:
        self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._receiver:
            self._receiver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._receiver
        await self._channel.close()

    async def describe(self) -> ReleaseInfo:
        """What the server says of its release; `release` is still empty, since only answers carry it.

        Raises:
            ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE.
        """
        request = pb.ModelConfigRequest(name=ENSEMBLE)
        try:
            return release_info(await self._stub.ModelConfig(request, timeout=_QUESTION_S, wait_for_ready=False))
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ServerError(
                    "SERVER_UNREACHABLE",
                    f"No server answers at {self.address} ({_first_line(error.details())}).",
                    "Start one with `noduleserve serve RELEASE`, or check --server and its gRPC port.",
                ) from None
            raise ServerError(
                "SERVER_NOT_NODULESERVE",
                f"The server at {self.address} does not serve {ENSEMBLE} ({_first_line(error.details())}).",
                "Check --server, and serve a release with `noduleserve serve`.",
            ) from None

    async def statistics(self) -> pb.ModelStatisticsResponse:
        """Triton's own counts and times, model by model."""
        return await self._stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=_QUESTION_S)

    async def ask(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Send one request and wait for its answer.

        Raises:
            RequestRefused: the server says what is wrong with this request.
            ServerError: SERVER_LOST, ANSWER_LATE.
        """
        if request.id in self._waiting:
            raise ValueError(f"two requests in flight have the id {request.id!r}")
        if self._receiver is None or self._receiver.done():
            self._outgoing = asyncio.Queue()
            self._receiver = asyncio.create_task(self._receive(self._outgoing))
        answer: asyncio.Future[pb.ModelInferResponse] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        self._outgoing.put_nowait(request)
        try:
            async with asyncio.timeout(self.deadline):
                return await answer
        except TimeoutError:
            raise ServerError(
                "ANSWER_LATE",
                f"The server did not answer within {self.deadline:g} s.",
                "Lower --in-flight, raise --deadline, or see what holds the server up.",
            ) from None
        finally:
            self._waiting.pop(request.id, None)

    async def _receive(self, outgoing: asyncio.Queue[pb.ModelInferRequest]) -> None:
        """Hand out answers until the connection ends, then let everyone who still waits know."""
        reason: NoduleserveError = self._lost("the server closed the stream")
        try:
            async for answer in self._stub.ModelStreamInfer(_requests(outgoing)):
                self._hand_out(answer)
        except grpc.aio.AioRpcError as error:
            reason = self._lost(_first_line(error.details()) or error.code().name)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(reason)

    def _hand_out(self, answer: Any) -> None:
        waiting = self._waiting.get(answer.infer_response.id)
        if waiting is None or waiting.done():
            return  # it came after its deadline, and whoever asked has been told so
        if answer.error_message:
            waiting.set_exception(refusal_of(answer.error_message))
        else:
            waiting.set_result(answer.infer_response)

    def _lost(self, why: str) -> ServerError:
        return ServerError(
            "SERVER_LOST",
            f"The connection to {self.address} broke while this nodule was being scored ({why}).",
            "See whether the server still runs, and score this nodule again.",
        )


async def _requests(outgoing: asyncio.Queue[pb.ModelInferRequest]) -> AsyncIterator[pb.ModelInferRequest]:
    while True:
        yield await outgoing.get()


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0][:300] if (text or "").strip() else ""
