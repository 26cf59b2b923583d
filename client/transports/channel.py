"""A gRPC channel to one server, and the questions that it answers without computing anything."""

from __future__ import annotations

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from noduleserve.client.messages import refusal_of, release_info
from noduleserve.errors import NoduleserveError, ServerError
from noduleserve.protocol import ENSEMBLE
from noduleserve.results.outcome import ReleaseInfo

_QUESTION_S = 15.0  # for what a server knows without computing anything
_READY_S = 5.0
_UNLIMITED = -1  # a box of a thin-sliced volume is larger than gRPC's default of 4 MB
OPTIONS = (
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Who decides when to look for a lost server again is the prober; gRPC's own two minutes would keep it waiting.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without it, channels to one address share a connection, and with it its state after a failure.
    ("grpc.use_local_subchannel_pool", 1),
    # Of the addresses of one name, each call takes the next.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


class GrpcChannel:
    """The part of a Transport that all of them have."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def connect(self) -> None:
        """See Transport."""
        self._channel = grpc.aio.insecure_channel(self.address, options=OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def close(self) -> None:
        """See Transport."""
        await self._channel.close()

    async def describe(self) -> ReleaseInfo:
        """See Transport."""
        request = pb.ModelConfigRequest(name=ENSEMBLE)
        try:
            return release_info(await self._stub.ModelConfig(request, timeout=_QUESTION_S, wait_for_ready=False))
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ServerError(
                    "SERVER_UNREACHABLE",
                    f"No server answers at {self.address} ({first_line(error.details())}).",
                    "Start one with `noduleserve serve RELEASE`, or check --server and its gRPC port.",
                ) from None
            raise ServerError(
                "SERVER_NOT_NODULESERVE",
                f"The server at {self.address} does not serve {ENSEMBLE} ({first_line(error.details())}).",
                "Check --server, and serve a release with `noduleserve serve`.",
            ) from None

    async def is_ready(self) -> bool:
        """See Transport."""
        try:
            live = await self._stub.ServerLive(pb.ServerLiveRequest(), timeout=_READY_S)
            ready = await self._stub.ModelReady(pb.ModelReadyRequest(name=ENSEMBLE), timeout=_READY_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(live.live and ready.ready)

    async def statistics(self) -> pb.ModelStatisticsResponse:
        """See Transport."""
        return await self._stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=_QUESTION_S)

    def failure(self, error: grpc.aio.AioRpcError, deadline: float) -> NoduleserveError:
        """What a failed call means for its nodule."""
        status, text = error.code(), error.details() or ""
        if status == grpc.StatusCode.DEADLINE_EXCEEDED:
            return self.late(deadline)
        refusal = refusal_of(text)
        if status == grpc.StatusCode.RESOURCE_EXHAUSTED or refusal.code == "SERVER_BUSY":
            return ServerError("SERVER_BUSY", f"{self.address} takes no more requests for now ({first_line(text)}).")
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return refusal if refusal.code in ("SERVER_STOPPING", "SERVER_BROKEN") else self.lost(first_line(text))
        return refusal

    def late(self, deadline: float) -> ServerError:
        """No answer within the deadline."""
        return ServerError(
            "ANSWER_LATE",
            f"The server did not answer within {deadline:g} s.",
            "Lower --in-flight, raise --deadline, or see what holds the server up.",
        )

    def lost(self, why: str) -> ServerError:
        """The connection is gone."""
        return ServerError(
            "SERVER_LOST",
            f"The connection to {self.address} broke while this nodule was being scored ({why}).",
            "See whether the server still runs, and score this nodule again.",
        )


def first_line(text: str | None) -> str:
    """Of what a server or gRPC says, as much as a sentence can hold."""
    return (text or "").strip().splitlines()[0][:300] if (text or "").strip() else ""
