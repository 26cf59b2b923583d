"""Asking a server over gRPC: is it ready for nodules, and has it answered those it got?"""

from __future__ import annotations

import contextlib
import socket

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from noduleserve.protocol import ENSEMBLE, infer_request


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


def is_listening(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False


def flush(address: str, timeout: float) -> None:
    """Return when a server has answered every nodule that it was sent so far, or after the timeout (seconds).

    Each model takes what it is sent first in, first out: a nodule sent now is answered after all of those.
    """
    with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(_smallest_nodule(), timeout=timeout)


def _smallest_nodule() -> messages.ModelInferRequest:
    """The centre of a volume of one voxel of 1 mm."""
    return infer_request(
        ENSEMBLE,
        "",
        {
            "VOXELS": ("INT16", np.zeros((1, 1, 1, 1))),
            "BOX_START": ("INT32", np.zeros((1, 3))),
            "VOLUME_SHAPE": ("INT32", np.ones((1, 3))),
            "VOLUME_AFFINE": ("FP64", np.eye(4)[None]),
            "NODULE_CENTER": ("FP64", np.zeros((1, 3))),
        },
    )
