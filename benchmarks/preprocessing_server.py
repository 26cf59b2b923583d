"""nodule_preprocess alone in the real Triton, fed boxes of every size: does its memory stand still, how quick is it?

Only that model is called, over gRPC, one request at a time: no encoder hides its time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2_grpc

from noduleserve.preprocessing import Box, VolumeGeometry, required_box
from noduleserve.protocol import arrays_of, infer_request
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

from .record.record import Line, Plot, Table

MODEL = "nodule_preprocess"
Inputs = dict[str, tuple[str, NDArray[Any]]]  # name -> (Triton type, array with the batch first)


@dataclass(frozen=True)
class Watched:
    """What a run of requests showed.

    Attributes:
        at: after how many requests memory was read: none, each quarter, all.
        stub_mb: resident memory of the model's process at these times, MB (10^6 bytes), shared memory included.
        server_mb: of Triton itself.
        seconds: of each request, sent until answered.
        sent_mb: size of each request's box.
        cpu_s: seconds of each thread of the model's process in the run, the busiest first.
    """

    at: list[int]
    stub_mb: list[float]
    server_mb: list[float]
    seconds: list[float]
    sent_mb: list[float]
    cpu_s: list[float]

    def tables(self) -> tuple[Table, Table, Table]:
        """Memory, times and threads for a record."""
        memory = Table(
            name="memory",
            title=f"Resident memory of {MODEL} and of Triton over the requests",
            columns=("after_requests", f"{MODEL}_mb", "tritonserver_mb"),
            rows=list(zip(self.at, self.stub_mb, self.server_mb, strict=True)),
            keys=("after_requests",),
            better={f"{MODEL}_mb": "lower", "tritonserver_mb": "lower"},
        )
        median, p99 = np.percentile(self.seconds, (50, 99)) * 1e3
        times = Table(
            name="request",
            title="A request, sent until answered, and its box",
            columns=(
                "requests",
                "p50_ms",
                "p99_ms",
                "longest_ms",
                "smallest_box_mb",
                "median_box_mb",
                "largest_box_mb",
            ),
            rows=[
                (
                    *(len(self.seconds), median, p99, max(self.seconds) * 1e3),
                    *(min(self.sent_mb), statistics.median(self.sent_mb), max(self.sent_mb)),
                )
            ],
            better={"p50_ms": "lower", "p99_ms": "lower"},
        )
        threads = Table(
            name="threads",
            title=f"Threads of {MODEL}",
            columns=("threads", "core_s", "share_of_busiest"),
            rows=[(len(self.cpu_s), sum(self.cpu_s), self.cpu_s[0] / sum(self.cpu_s))],
        )
        return memory, times, threads

    def plot(self) -> Plot:
        """Memory over the requests."""
        lines = [Line(MODEL, self.at, self.stub_mb), Line("tritonserver", self.at, self.server_mb)]
        return Plot("memory", "Resident memory over the requests", "requests", "MB", lines)


def watch_preprocessing(
    release: Release, requests: int, largest_mb: float = 40.0, tell: Callable[[str], None] = print
) -> Watched:
    """Serve a release and send its nodule_preprocess boxes of varied shapes.

    Args:
        release: of target `embedded`.
        requests: how many, besides a few that warm up.
        largest_mb: size of the largest box.
        tell: is called with a line of progress.
    """
    with TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0)) as server:
        assert server.pid
        stub = stub_of(server.pid)
        with grpc.insecure_channel(server.endpoints.address, options=[("grpc.max_send_message_length", -1)]) as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            nodules = random_nodules(largest_mb)
            _infer_all(infer, [next(nodules) for _ in range(4)])
            before, seen = threads_cpu_s(stub), [(0, rss_mb(stub), rss_mb(server.pid))]
            seconds: list[float] = []
            sizes: list[float] = []
            for quarter in range(1, 5):
                for _ in range(requests * quarter // 4 - len(seconds)):
                    inputs = next(nodules)
                    sizes.append(inputs["VOXELS"][1].nbytes / 1e6)
                    seconds += _infer_all(infer, [inputs])
                seen.append((len(seconds), rss_mb(stub), rss_mb(server.pid)))
                tell(f"{seen[-1][0]} requests: {MODEL} {seen[-1][1]:.1f} MB, tritonserver {seen[-1][2]:.1f} MB")
            spent = [after - before.get(thread, 0.0) for thread, after in threads_cpu_s(stub).items()]
    at, stub_mb, server_mb = (list(column) for column in zip(*seen, strict=True))
    return Watched(at, stub_mb, server_mb, seconds, sizes, sorted(spent, reverse=True))


def _infer_all(infer: Callable[..., Any], nodules: list[Inputs]) -> list[float]:
    """Send one after the other; seconds of each, from sending to views."""
    seconds = []
    for inputs in nodules:
        request = infer_request(MODEL, "", inputs, ("VIEWS",))
        began = time.perf_counter()
        views = arrays_of(infer(request, timeout=60))["VIEWS"]
        seconds.append(time.perf_counter() - began)
        if views.shape != (1, 9, 50, 50) or not np.isfinite(views).all():
            raise AssertionError(f"{MODEL} gave views of shape {views.shape}; nothing of this run counts")
    return seconds


def random_nodules(largest_mb: float, seed: int = 1) -> Iterator[Inputs]:
    """Nodules anywhere in volumes of any spacing and size, every fourth of which lies oblique; no two boxes alike."""
    random = np.random.default_rng(seed)
    noise = random.integers(-1024, 3072, int(largest_mb * 1e6 / 2)).astype(np.int16)
    number = 0
    while True:
        spacing = np.array([*[random.uniform(0.4, 1.0)] * 2, random.choice([0.4, 0.625, 1, 1.25, 2.5, 3, 5])])
        shape = (random.uniform(60, 400, 3) / spacing).astype(int) + 1
        affine = np.eye(4)
        affine[:3, :3] = (_turn(random) if number % 4 == 3 else np.eye(3)) * spacing
        geometry = VolumeGeometry(shape, affine)
        center = affine[:3, :3] @ random.uniform(0, shape - 1)
        box = required_box(geometry, center)
        if box.shape.prod() <= len(noise):
            number += 1
            yield _inputs(noise, geometry, box, center)


def _inputs(noise: NDArray[np.int16], geometry: VolumeGeometry, box: Box, center: NDArray[np.float64]) -> Inputs:
    return {
        "VOXELS": ("INT16", noise[: box.shape.prod()].reshape(1, *box.shape[::-1])),
        "BOX_START": ("INT32", box.start[None]),
        "VOLUME_SHAPE": ("INT32", geometry.shape[None]),
        "VOLUME_AFFINE": ("FP64", geometry.affine[None]),
        "NODULE_CENTER": ("FP64", center[None]),
    }


def _turn(random: np.random.Generator) -> NDArray[np.float64]:
    """A rotation by up to 0.4 rad about z, then x."""
    (a, b), (c, d) = np.cos(turns := random.uniform(-0.4, 0.4, 2)), np.sin(turns)
    return np.array([[1, 0, 0], [0, b, -d], [0, d, b]]) @ np.array([[a, -c, 0], [c, a, 0], [0, 0, 1]])


# ---------------------------------------------------------------- what Linux says of a process


def stub_of(server: int, model: str = MODEL) -> int:
    """The process of a Python model of a Triton (process id) that leads a session of its own."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            session = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[3])
        except OSError:  # it ended just now
            continue
        if session == server and "triton_python_backend_stub" in line and f"/{model}/" in line:
            return int(folder.name)
    raise ProcessLookupError(f"Triton has no process of the model {model}")


def rss_mb(pid: int) -> float:
    """Resident memory of a process, shared memory that it has touched included, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes) * 1024 / 1e6


def threads_cpu_s(pid: int) -> dict[int, float]:
    """Seconds that each thread of a process has run on a core: thread id -> seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}
