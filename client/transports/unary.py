"""One call a nodule (ModelInfer). The deadline travels with it, so that a server may drop what nobody waits for."""

from __future__ import annotations

import asyncio

import grpc
from tritonclient.grpc import service_pb2 as pb

from .channel import GrpcChannel


class UnaryTransport(GrpcChannel):
    """See Transport."""

    async def ask(self, request: pb.ModelInferRequest, deadline: float) -> pb.ModelInferResponse:
        """See Transport."""
        try:
            async with asyncio.timeout(deadline + 1):  # gRPC's own comes first, unless the network swallows everything
                return await self._stub.ModelInfer(request, timeout=deadline)
        except TimeoutError:
            raise self.late(deadline) from None
        except grpc.aio.AioRpcError as error:
            raise self.failure(error, deadline) from None
        except grpc.aio.UsageError:  # the channel is closed
            raise self.lost("the channel was closed") from None
