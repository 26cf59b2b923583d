"""Real nodules in the format of NVIDIA's perf_analyzer, so that a load generator of somebody else's drives the server.

`--input-data FILE` takes a JSON object: "data" is a list of requests, each a map of input -> {"content": {"b64": ...},
"shape": [...]}, little endian, row-major, without the batch. A shape beside the content overrides the command line, so
a model of free shape needs no `--shape`. "validation_data" is a list of the same length: what an answer must be, bit
for bit, every output of it; perf_analyzer refuses the file where one is missing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from noduleserve.client.messages import score_request
from noduleserve.protocol import ENSEMBLE
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

from .rivals.base import Case

Tensors = dict[str, dict[str, Any]]
Answers = Callable[[pb.ModelInferRequest], pb.ModelInferResponse]
_DEADLINE_S = 300.0


def write_input_data(path: Path, cases: Sequence[Case], answers: Answers | None = None) -> None:
    """Write the nodules' requests; perf_analyzer takes them in turn, from the front again after the last.

    Args:
        path: of the JSON file; 8/3 bytes a voxel.
        cases: the nodules.
        answers: gives the answer that each request must get, bit for bit, for perf_analyzer to check; None checks none.
    """
    part = path.with_name(path.name + ".part")
    wanted: list[Tensors] = []
    with part.open("w", encoding="ascii") as file:
        file.write('{"data": [')
        for number, case in enumerate(cases):
            request = score_request(case.name, case.voxels, case.box, case.geometry, case.center)
            file.write((",\n" if number else "\n") + json.dumps(_inputs(request)))
            if answers:
                wanted.append(_outputs(answers(request)))
        file.write("\n]" + (', "validation_data": ' + json.dumps(wanted) if wanted else "") + "}\n")
    part.replace(path)


@contextlib.contextmanager
def answers_of(release: Release) -> Iterator[Answers]:
    """What a server of the release answers on this machine; it runs within the block."""
    with (
        TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0)) as server,
        grpc.insecure_channel(server.endpoints.address, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield lambda request: stub.ModelInfer(request, timeout=_DEADLINE_S)


def commands(path: Path, address: str = "127.0.0.1:8001", *, checked: bool = False) -> list[tuple[str, str]]:
    """What to do with the file, and the words that do it.

    Windows of so many nodules fit any speed; perf_analyzer goes on until three in a row agree within 10 % in rate and
    mean latency, and prints percentiles all the same (a p99 of 200 nodules is their second-slowest).

    Args:
        path: of the file.
        address: host:port of gRPC.
        checked: the file says what each answer must be; perf_analyzer cannot compare that with shared memory, whose
            regions are larger than the answers.
    """
    base = ["perf_analyzer", "-m", ENSEMBLE, "-i", "grpc", "-u", address, "--input-data", str(path)]
    base += ["--measurement-mode=count_windows", "--measurement-request-count=200"]
    closed = [*base, "--concurrency-range=1:16:5"]
    # RELEASE is text, of no fixed size, so room for each output must be named.
    shared = ["--shared-memory=system", "--output-shared-memory-size=65536"]
    arriving = ["--request-rate-range=2:10:2", "--request-distribution=poisson"]
    lines = {
        "a number of nodules in flight, single calls": closed,
        "the same over one stream, as clients of noduleserve send": [*closed, "--streaming", "--async"],
        "voxels and answers in shared memory (same machine)": [] if checked else [*closed, *shared],
        "nodules that arrive by chance, so many a second": [*base, *arriving],
        "where the time goes, as numbers": [*closed, "-f", "perf_analyzer.csv", "--verbose-csv"],
    }
    return [(what, shlex.join(line)) for what, line in lines.items() if line]


def tensor(raw: bytes, shape: Sequence[int]) -> dict[str, Any]:
    """One tensor as perf_analyzer reads it."""
    return {"content": {"b64": base64.b64encode(raw).decode()}, "shape": [int(size) for size in shape]}


def _inputs(request: pb.ModelInferRequest) -> Tensors:
    return {
        given.name: tensor(raw, given.shape[1:])
        for given, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def _outputs(answer: pb.ModelInferResponse) -> Tensors:
    return {
        found.name: tensor(raw, found.shape[1:])
        for found, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
