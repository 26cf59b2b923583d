"""nodule_encoder, target `embedded`: the encoder graph of all folds on ONNX Runtime, on the CPU."""

import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it keeps a device id and reports to Microsoft

import onnxruntime

_OUTPUTS = ("EMBEDDING", "VIEW_ATTENTION", "LOGITS", "ENCODER_ID")


class TritonPythonModel:
    """Runs the views of all waiting requests as one batch and hands each request its part."""

    def initialize(self, args):
        """Load the graph; its threads are NODULESERVE_ENCODER_THREADS, or the cores this process may use."""
        here = Path(__file__).parent
        options = onnxruntime.SessionOptions()
        threads = os.environ.get("NODULESERVE_ENCODER_THREADS") or len(os.sched_getaffinity(0))
        options.intra_op_num_threads = int(threads)
        self._session = onnxruntime.InferenceSession(
            str(here / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        """One response a request, in order; one nodule at a time, so that no nodule's digits depend on its neighbours.

        On a CPU a batch is no faster: activations of several nodules outgrow the caches.
        """
        return [self._respond(pb_utils.get_input_tensor_by_name(r, "VIEWS").as_numpy()) for r in requests]

    def _respond(self, views):
        parts = [self._session.run(_OUTPUTS, {"VIEWS": views[i : i + 1]}) for i in range(len(views))]
        results = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, r) for n, r in zip(_OUTPUTS, results, strict=True)])
