"""What Triton's own clocks say of a stretch of time, in sums that add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ..load.triton_statistics import COMPUTING, counts_between

_QUESTION_S = 15.0


@dataclass(frozen=True)
class ModelTimes:
    """One model between two looks, its versions together.

    Attributes:
        requests: answered.
        executions: batches computed.
        queue_s: waits before the model, of all requests.
        counted_s: computing, the whole batch's time counted for each request of it; inputs and outputs included.
        busy_s: computing, each batch counted once; of several instances together.
        whole_s: from arrival to answer, of all requests.
    """

    requests: int
    executions: int
    queue_s: float
    counted_s: float
    busy_s: float
    whole_s: float


def look(address: str) -> pb.ModelStatisticsResponse:
    """A server's statistics; waits for them."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=_QUESTION_S)


def times_between(before: Any, after: Any) -> dict[str, ModelTimes]:
    """What each model did between two looks (ModelStatisticsResponse) at one server, by its name."""
    return {name: _times(counts) for name, counts in counts_between((before, after)).items()}


def _times(counts: Counter[str]) -> ModelTimes:
    return ModelTimes(
        requests=counts["success_count"],
        executions=counts["executions"],
        queue_s=counts["queue_ns"] / 1e9,
        counted_s=sum(counts[f"{name}_ns"] for name in COMPUTING) / 1e9,
        busy_s=counts["busy_ns"] / 1e9,
        whole_s=counts["success_ns"] / 1e9,
    )
