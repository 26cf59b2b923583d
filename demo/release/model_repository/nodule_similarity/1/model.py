"""nodule_similarity: embedding and logits of every fold -> the numbers that a reader sees."""

import json
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

from head import Head, malignancy, semantic, similarity


class TritonPythonModel:
    """Refuses an embedding that another encoder than its release's made, and a number that is not finite."""

    def initialize(self, args):
        """Read the text bank, the calibration and the release id."""
        here = Path(__file__).parent
        self._head = Head.read(here)
        self._release = (here / "RELEASE").read_text()
        self._encoder = np.array(json.loads((here / "encoder_id.json").read_text()), np.int32)

    def execute(self, requests):
        """One response a request, in order."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        embedding, logits, encoder = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("EMBEDDING", "LOGITS", "ENCODER_ID")
        )
        if (encoder != self._encoder).any():
            return _refusal(
                "RELEASE_MISMATCH",
                f"The embedding was made by another encoder than that of release {self._release}.",
                "Serve one whole release; never mix the models of two.",
            )
        mean, raw, calibrated = malignancy(logits, self._head.calibration)
        similarities = similarity(embedding, self._head.bank, self._head.scale)
        values = semantic(similarities, self._head.groups)
        if not (np.isfinite(raw).all() and np.isfinite(mean).all() and np.isfinite(values).all()):
            return _refusal(
                "SCORE_NOT_FINITE",
                "The encoder returned a number that is not finite.",
                "Report this release as faulty, and serve the one before it.",
            )
        release = np.full((len(raw), 1), self._release, dtype=object)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("MALIGNANCY", mean[:, None].astype(np.float32)),
                pb_utils.Tensor("MALIGNANCY_RAW", raw.astype(np.float32)),
                pb_utils.Tensor("MALIGNANCY_CALIBRATED", calibrated.astype(np.float32)),
                pb_utils.Tensor("SEMANTIC", values.astype(np.float32)),
                pb_utils.Tensor("SIMILARITY", similarities.astype(np.float32)),
                pb_utils.Tensor("RELEASE", release),
            ]
        )


def _refusal(code, what, mend):
    error = pb_utils.TritonError(f"[{code}] {what} Mend: {mend}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
