"""What tests of the real server drive it with: the command, `noduleserve serve` as a process, raw gRPC messages."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from noduleserve.client.messages import OUTPUTS
from noduleserve.ct.volume import Volume
from noduleserve.errors import JournalError
from noduleserve.journal.contents import Contents
from noduleserve.preprocessing import Box, parse_refusal, required_box
from noduleserve.protocol import arrays_of, infer_request

SINGLE_PROMPTS = Path(__file__).parent / "e2e" / "single_prompts.yaml"
COMMAND = Path(sys.executable).with_name("noduleserve")
SHM = Path("/dev/shm")
WORKLIST = ("pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ")
Inputs = dict[str, tuple[str, NDArray[Any]]]  # name -> (Triton type, array with the batch as first axis)
_READY = re.compile(
    r"ready: release (?P<release>ns-[0-9a-f]{20})(?: \((?P<notice>.*)\))?, grpc (?P<host>[\d.]+):(?P<grpc>\d+), "
    r"http [\d.]+:(?P<http>\d+), metrics [\d.]+:(?P<metrics>\d+)"
)


def command(*arguments: object, timeout: float = 120.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `noduleserve ...` as a person does."""
    line, variables = [str(COMMAND), *map(str, arguments)], os.environ | environment
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False, env=variables)


def export_by_command(checkpoint: Path, out: Path, *options: object, timeout: float = 120.0) -> Path:
    """`noduleserve export`, which must succeed and leave nothing of ours or of onnxruntime's beside the release."""
    home = out.parent / f"home of {out.name}"
    home.mkdir()
    line = ("export", checkpoint, "--out", out, *options)
    done = command(*line, timeout=timeout, HOME=str(home), TMPDIR=str(home))
    assert done.returncode == 0, done.stderr
    theirs = ("torchinductor_", ".cache/matplotlib", ".config/matplotlib")  # torch's own; matplotlib's list of fonts
    files = [file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file()]
    left = [file for file in files if not file.startswith(theirs)]
    assert left == [], left
    return out


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a worklist, or any table."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# ---------------------------------------------------------------- processes


class Process(NamedTuple):
    """A line of /proc/<pid>/stat."""

    pid: int
    name: str
    parent: int
    session: int


def living() -> list[Process]:
    """Every process of this machine that has not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended just now
            continue
        pid, rest = text.split(" (", 1)
        name, rest = rest.rsplit(") ", 1)
        state, parent, _, session = rest.split()[:4]
        if state not in "ZX":
            found.append(Process(int(pid), name, int(parent), int(session)))
    return found


def triton_of(pid: int) -> int:
    """The process id of the Triton that a process has started."""
    (triton,) = [p.pid for p in living() if p.parent == pid and p.name == "tritonserver"]
    return triton


def session_of(triton: int) -> list[str]:
    """Names of Triton and everything that it started, as far as they live."""
    return sorted(p.name for p in living() if p.session == triton)


class Serving:
    """`noduleserve serve RELEASE` on free ports, HOME and TMPDIR being a folder of its own; ended with the block."""

    def __init__(self, release: Path, folder: Path, *options: object, path: str | None = None) -> None:
        self.tmp, self.log = folder / "tmp", folder / "triton.log"
        self.tmp.mkdir(parents=True)
        line = [str(COMMAND), "serve", str(release), "--log-file", str(self.log), *map(str, options)]
        for name in ("--grpc-port", "--http-port", "--metrics-port"):
            if name not in line:
                line += [name, "0"]
        environment = os.environ | {"TMPDIR": str(self.tmp), "HOME": str(self.tmp)}
        if path:
            environment["PATH"] = path
        self._errors = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment)

    def __enter__(self) -> Serving:
        assert self.process.stdout
        self.first_line = self.process.stdout.readline().rstrip("\n")
        ready = _READY.fullmatch(self.first_line)
        if not ready:
            self.process.kill()
            self.process.wait()
        assert ready, (self.first_line, self.errors(), self.log.read_text() if self.log.exists() else "no log")
        self.facts: Mapping[str, Any] = ready.groupdict()
        self.address = f"{ready['host']}:{ready['grpc']}"
        self.triton = triton_of(self.process.pid)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:  # the quick way: without Triton, it ends by itself
            os.kill(self.triton, signal.SIGKILL)
            self.process.communicate(timeout=20)
        self._errors.close()

    def end(self, number: int, seconds: float = 40.0) -> tuple[int, str]:
        """Send a signal; exit status and what was still printed."""
        self.process.send_signal(number)
        try:
            rest, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, rest

    def errors(self) -> str:
        """Standard error so far."""
        self._errors.seek(0)
        return self._errors.read()

    def leftovers(self) -> list[str]:
        """Processes, shared memory and temporary files that are there though nothing should be."""
        shm = [f.name for f in SHM.glob(f"noduleserve_{self.process.pid}_*")]
        return session_of(self.triton) + shm + [f.name for f in self.tmp.iterdir()]


# ---------------------------------------------------------------- messages


def inputs_of(volume: Volume, center: Sequence[float], box: Box | None = None) -> Inputs:
    """The inputs of nodule_score for one nodule; the box is the smallest that does, if none is given."""
    box = box or required_box(volume.geometry, center)
    return {
        "VOXELS": ("INT16", volume.read_box(box)[None]),
        "BOX_START": ("INT32", box.start[None]),
        "VOLUME_SHAPE": ("INT32", volume.geometry.shape[None]),
        "VOLUME_AFFINE": ("FP64", volume.geometry.affine[None]),
        "NODULE_CENTER": ("FP64", np.array(center, np.float64)[None]),
    }


def batched(nodules: Sequence[Inputs]) -> Inputs:
    """Nodules whose boxes have one shape, as one request."""
    return {name: (kind, np.concatenate([n[name][1] for n in nodules])) for name, (kind, _) in nodules[0].items()}


def request_of(inputs: Inputs, request_id: str = "", outputs: tuple[str, ...] = OUTPUTS) -> pb.ModelInferRequest:
    """A request to nodule_score."""
    return infer_request("nodule_score", request_id, inputs, outputs)


class Refused(NamedTuple):
    """What the server said instead of a score."""

    code: str  # of ours, or "" where Triton itself refused
    text: str
    status: str = ""  # of gRPC, where there is one


Answer = dict[str, NDArray[Any]] | Refused


class Wire:
    """A plain gRPC connection to a server."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.channel.close()

    def unary(self, request: pb.ModelInferRequest, timeout: float = 30.0) -> Answer:
        """ModelInfer."""
        try:
            return arrays_of(self.stub.ModelInfer(request, timeout=timeout))
        except grpc.RpcError as error:
            return _refused(error.details() or "", error.code().name)

    def stream(self, requests: Sequence[pb.ModelInferRequest], timeout: float = 60.0) -> dict[str, Answer]:
        """ModelStreamInfer, all requests at once: request id -> answer, exactly one each."""
        answers: dict[str, Answer] = {}
        call = self.stub.ModelStreamInfer(iter(requests), timeout=timeout)
        for answer in call:
            request_id = answer.infer_response.id
            assert request_id not in answers
            text = answer.error_message
            answers[request_id] = _refused(text) if text else arrays_of(answer.infer_response)
        return answers

    def batches_of(self, model: str) -> dict[int, int]:
        """Batch size -> how often a model has run with it."""
        (found,) = self.stub.ModelStatistics(pb.ModelStatisticsRequest(name=model)).model_stats
        return {batch.batch_size: batch.compute_infer.count for batch in found.batch_stats}


def _refused(text: str, status: str = "") -> Refused:
    parsed = parse_refusal(text)
    return Refused(parsed[0] if parsed else "", text, status)


def scored(answers: Iterable[Answer]) -> list[dict[str, NDArray[Any]]]:
    """The answers, none of which may be a refusal."""
    answers = list(answers)
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert not refused, refused[0]
    return answers  # type: ignore[return-value]


# ---------------------------------------------------------------- runs


class Scoring:
    """`noduleserve score` in the middle of its work."""

    def __init__(self, *arguments: object, results: Path) -> None:
        line = [str(COMMAND), "score", *map(str, arguments), "--out", str(results)]
        self.results, self.journal = results, results.with_name(results.name + ".journal")
        self.tmp = results.with_name(results.name + ".tmp")
        self.tmp.mkdir(exist_ok=True)
        environment = os.environ | {"TMPDIR": str(self.tmp)}
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def written(self) -> int:
        """Outcomes on the disk so far."""
        try:
            with Contents.open(self.journal) as contents:
                return contents.count
        except JournalError:  # not made yet
            return 0

    def has_written(self, rows: int) -> None:
        """Wait until so many outcomes are on the disk; the run must not have ended by then."""
        assert until(lambda: self.written() >= rows or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.process.communicate()

    def end(self, seconds: float) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err
