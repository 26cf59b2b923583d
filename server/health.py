"""Asking a server over gRPC whether it is ready for nodules."""

from __future__ import annotations

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

ENSEMBLE = "nodule_score"


def is_ready(address: str, timeout: float = 1.0) -> bool:
    """Whether server and ensemble answer that they are ready; no answer within the timeout (seconds) is a no."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            if not stub.ServerReady(messages.ServerReadyRequest(), timeout=timeout).ready:
                return False
            return bool(stub.ModelReady(messages.ModelReadyRequest(name=ENSEMBLE), timeout=timeout).ready)
        except grpc.RpcError:
            return False
