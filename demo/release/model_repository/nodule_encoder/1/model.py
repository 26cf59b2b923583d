"""nodule_encoder, target `embedded`: the encoder graph of all folds on ONNX Runtime, on the CPU."""

import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it keeps a device id and reports to Microsoft

import onnxruntime

_OUTPUTS = ("EMBEDDING", "VIEW_ATTENTION", "LOGITS")


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
        self._release = (here / "RELEASE").read_text()

    def execute(self, requests):
        """One response a request, in order."""
        views = [pb_utils.get_input_tensor_by_name(request, "VIEWS").as_numpy() for request in requests]
        results = self._session.run(_OUTPUTS, {"VIEWS": np.concatenate(views)})
        ends = np.cumsum([len(part) for part in views])
        return [
            self._response(*(result[end - len(part) : end] for result in results))
            for part, end in zip(views, ends, strict=True)
        ]

    def _response(self, *results):
        release = np.full((len(results[0]), 1), self._release, dtype=object)
        tensors = [pb_utils.Tensor(name, result) for name, result in zip(_OUTPUTS, results, strict=True)]
        return pb_utils.InferenceResponse([*tensors, pb_utils.Tensor("ENCODER_RELEASE", release)])
