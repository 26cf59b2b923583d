"""Bidirectional gRPC streams to one server: many nodules in flight, answers matched by id.

Nothing here relies on an order.  Triton 2.51 sends a stream's answers in the order of its requests, so that a slow
nodule holds up those behind it; hence several streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from noduleserve.client.messages import refusal_of

from .channel import GrpcChannel, first_line

_FAREWELL_S = 0.5


class StreamTransport(GrpcChannel):
    """See Transport.  A request takes the stream that has the fewest answers to come.

    When the connection breaks, every `ask` that waits fails with SERVER_LOST, and the next one opens its stream again.
    """

    def __init__(self, address: str, streams: int = 1) -> None:
        super().__init__(address)
        self._streams = [_Stream(self) for _ in range(streams)]

    async def close(self) -> None:
        """See Transport."""
        await asyncio.gather(*(stream.close() for stream in self._streams))
        await super().close()

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        """See Transport."""
        if any(request.id in stream.waiting for stream in self._streams):
            raise ValueError(f"two requests in flight have the id {request.id!r}")
        return await min(self._streams, key=lambda stream: len(stream.owed)).ask(request, deadline)

    def open(self, outgoing: asyncio.Queue[pb.ModelInferRequest | None]) -> AsyncIterator[Any]:
        """A new stream of answers to what is put into the queue; None ends it."""
        return self._stub.ModelStreamInfer(_requests(outgoing))


class _Stream:
    """One stream, opened when it is first needed and again after it broke."""

    def __init__(self, channel: StreamTransport) -> None:
        self.waiting: dict[str, asyncio.Future[pb.ModelInferResponse]] = {}
        self.owed: set[str] = set()  # answers to come, those included that nobody waits for any more
        self._channel = channel
        self._outgoing: asyncio.Queue[pb.ModelInferRequest | None] = asyncio.Queue()
        self._receiver: asyncio.Task[None] | None = None

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        if self._receiver is None or self._receiver.done():
            self._outgoing = asyncio.Queue()
            self._receiver = asyncio.create_task(self._receive(self._outgoing))
        answer: asyncio.Future[pb.ModelInferResponse] = asyncio.get_running_loop().create_future()
        self.waiting[request.id] = answer
        self.owed.add(request.id)
        self._outgoing.put_nowait(request)
        try:
            async with asyncio.timeout(deadline):
                return await answer
        except TimeoutError:
            raise self._channel.late(deadline) from None
        finally:
            self.waiting.pop(request.id, None)

    async def close(self) -> None:
        """End the stream in good order where nobody waits: Triton 2.51 believes a model in use whose stream broke."""
        if self._receiver is None:
            return
        if not self.owed and not self._receiver.done():
            self._outgoing.put_nowait(None)
            await asyncio.wait([self._receiver], timeout=_FAREWELL_S)
        self._receiver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiver
        self._tell_all("the stream was closed")

    async def _receive(self, outgoing: asyncio.Queue[pb.ModelInferRequest | None]) -> None:
        """Hand out answers until the connection ends, then let everyone who still waits know."""
        why = "the server closed the stream"
        try:
            async for answer in self._channel.open(outgoing):
                self._hand_out(answer)
        except grpc.aio.AioRpcError as error:
            why = first_line(error.details()) or error.code().name
        finally:
            outgoing.put_nowait(None)  # gRPC leaves a broken call's requests waiting, and complains of them at the end
        self._tell_all(why)

    def _tell_all(self, why: str) -> None:
        self.owed.clear()
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_exception(self._channel.lost(why))

    def _hand_out(self, answer: Any) -> None:
        self.owed.discard(answer.infer_response.id)
        waiting = self.waiting.get(answer.infer_response.id)
        if waiting is None or waiting.done():
            return  # it came after its deadline, and whoever asked has been told so
        if answer.error_message:
            waiting.set_exception(refusal_of(answer.error_message))
        else:
            waiting.set_result(answer.infer_response)


async def _requests(outgoing: asyncio.Queue[pb.ModelInferRequest | None]) -> AsyncIterator[pb.ModelInferRequest]:
    while (request := await outgoing.get()) is not None:
        yield request
