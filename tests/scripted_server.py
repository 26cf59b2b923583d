"""A real Triton whose nodule_score is a small Python model that does what a nodule's centre tells it to.

With it a test decides how long an answer takes and what is wrong with it; everything between test and model is the
product's client, gRPC and Triton. The centre (x, y, z) of a nodule means: MALIGNANCY is x / 100, the answer takes
y / 10 seconds, and z is one of the numbers in ACT.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from serving import Wire
from tritonclient.grpc import service_pb2 as pb

from noduleserve.release import REPOSITORY, STAMP, Release
from noduleserve.server.process import Endpoints, TritonProcess

RELEASE, FOLDS, LABELS = "ns-scripted", 2, ("size.small", "size.large", 'margin."smooth"')
ACT = {
    "score": 0,
    "nan": 1,
    "beyond 1": 2,
    "other release": 3,
    "wrong shape": 4,
    "refuse with a code": 5,
    "refuse without": 6,
    "busy twice": 7,  # the first two times that this x is asked for, then its score
    "stumble": 8,  # Triton's word for a model whose process has died, without anything dying
    "crash": 9,  # it really dies, and Triton goes on without it
    "voxels": 10,  # MALIGNANCY is the voxels' one value / 10,000; where they have several, it refuses
}

_MODEL = """
import os
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

FOLDS, VALUES, RELEASE = {folds}, {values}, {release!r}

class TritonPythonModel:
    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        x, y, act = pb_utils.get_input_tensor_by_name(request, "NODULE_CENTER").as_numpy()[0]
        time.sleep(y / 10)
        if act in (5, 6):
            text = "[NOT_TODAY] The model will not. Mend: Come back." if act == 5 else "out of order"
            return pb_utils.InferenceResponse([], pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
        if act == 7 and self.times(x) <= 2:
            error = pb_utils.TritonError("Exceeds maximum queue size", pb_utils.TritonError.UNAVAILABLE)
            return pb_utils.InferenceResponse([], error)
        if act == 8:
            return pb_utils.InferenceResponse([], pb_utils.TritonError("Stub process 'x' is not healthy."))
        if act == 9:
            os._exit(1)
        malignancy = {{1: np.nan, 2: 1.5}}.get(act, x / 100)
        if act == 10:
            voxels = pb_utils.get_input_tensor_by_name(request, "VOXELS").as_numpy()
            if (voxels != voxels.flat[0]).any():
                return pb_utils.InferenceResponse([], pb_utils.TritonError("the voxels have several values"))
            malignancy = voxels.flat[0] / 10_000
        release = "ns-other" if act == 3 else RELEASE
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, np.asarray(value, kind)[None])
            for name, kind, value in (
                ("MALIGNANCY", np.float32, [malignancy]),
                ("MALIGNANCY_RAW", np.float32, np.full(FOLDS + (act == 4), malignancy)),
                ("MALIGNANCY_CALIBRATED", np.float32, np.full(FOLDS, malignancy)),
                ("SEMANTIC", np.float32, np.full(VALUES, 1 / VALUES)),
                ("EMBEDDING", np.float32, np.full((FOLDS, 256), 1 / 16)),
                ("VIEW_ATTENTION", np.float32, np.full((FOLDS, 9), 1 / 9)),
                ("RELEASE", object, [release]),
            )
        ])

    def times(self, x):
        # how often, over all instances
        with (Path(__file__).parent / f"x={{x:g}}").open("a") as file:
            file.write("x")
            return file.tell()
"""
_CONFIGURATION = """
name: "nodule_score"
backend: "python"
max_batch_size: 1
input [
  {{ name: "VOXELS"         data_type: TYPE_INT16  dims: [ -1, -1, -1 ] }},
  {{ name: "BOX_START"      data_type: TYPE_INT32  dims: [ 3 ] }},
  {{ name: "VOLUME_SHAPE"   data_type: TYPE_INT32  dims: [ 3 ] }},
  {{ name: "VOLUME_AFFINE"  data_type: TYPE_FP64   dims: [ 4, 4 ] }},
  {{ name: "NODULE_CENTER"  data_type: TYPE_FP64   dims: [ 3 ] }}
]
output [
  {{ name: "MALIGNANCY"             data_type: TYPE_FP32    dims: [ 1 ] }},
  {{ name: "MALIGNANCY_RAW"         data_type: TYPE_FP32    dims: [ -1 ] }},
  {{ name: "MALIGNANCY_CALIBRATED"  data_type: TYPE_FP32    dims: [ -1 ] }},
  {{ name: "SEMANTIC"               data_type: TYPE_FP32    dims: [ -1 ] }},
  {{ name: "EMBEDDING"              data_type: TYPE_FP32    dims: [ -1, -1 ] }},
  {{ name: "VIEW_ATTENTION"         data_type: TYPE_FP32    dims: [ -1, 9 ] }},
  {{ name: "RELEASE"                data_type: TYPE_STRING  dims: [ 1 ] }}
]
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
parameters {{ key: "noduleserve" value: {{ string_value: {facts} }} }}
"""


def start_scripted(folder: Path, release: str = RELEASE, grpc_port: int = 0, instances: int = 4) -> TritonProcess:
    """Start it; four instances answer at a time, so that a quick answer overtakes a slow one."""
    model = folder / REPOSITORY / "nodule_score"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(_MODEL.format(folds=FOLDS, values=len(LABELS), release=release))
    facts = json.dumps({"folds": FOLDS, "calibrated": True, "labels": LABELS, "notice": "scripted"})
    (model / "config.pbtxt").write_text(_CONFIGURATION.format(facts=json.dumps(facts), instances=instances))
    (model / "1" / STAMP).write_text(release)
    files = {f"{REPOSITORY}/nodule_score/{name}": "" for name in ("1/model.py", "config.pbtxt")}
    manifest = {"target": "embedded", "files": files}
    process = TritonProcess(Release(folder, manifest), Endpoints(grpc=grpc_port, http=0, metrics=0))
    try:
        process.start()
        process.wait_ready()
    except BaseException:
        process.stop()
        raise
    return process


class Successor:
    """A server that starts when it is told to, on the port of one that has died; a context manager.

    In a process of its own: one that has gRPC's threads at work must not fork while they hold their locks.
    """

    _SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from noduleserve.errors import ServerError
from scripted_server import end_quickly, start_scripted
print("here", flush=True)
sys.stdin.readline()
for number in range(100):  # the port may be held for a moment by what is left of the one before
    try:
        process = start_scripted(Path(sys.argv[2]) / str(number), grpc_port=int(sys.argv[3]))
        break
    except ServerError:
        time.sleep(0.1)
sys.stdin.readline()
end_quickly(process)
"""

    def __init__(self, folder: Path, grpc_port: int) -> None:
        line = [sys.executable, "-c", self._SCRIPT, str(Path(__file__).parent), str(folder), str(grpc_port)]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Successor:
        assert self._process.stdout and self._process.stdout.readline() == "here\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("\n\n", timeout=30)

    def start(self) -> None:
        """Return at once; it is there after a second or so."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()


def end_quickly(process: TritonProcess) -> None:
    """Without waiting for Triton's leave-taking of some seconds."""
    if process.pid and process.returncode() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.stop()


def received(address: str) -> int:
    """How many nodules it has answered or refused so far."""
    with Wire(address) as wire:
        (stats,) = wire.stub.ModelStatistics(pb.ModelStatisticsRequest(name="nodule_score")).model_stats
    return int(stats.inference_stats.success.count + stats.inference_stats.fail.count)
