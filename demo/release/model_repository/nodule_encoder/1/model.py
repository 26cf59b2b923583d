"""nodule_encoder, target `embedded`: the encoder graph of all folds, run in Python on the CPU."""

import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

from engine import OUTPUTS, open_engine


class TritonPythonModel:
    """Encodes the views of each waiting request."""

    def initialize(self, args):
        """Load the graph in the release's precision, or say in the server's log why it is another."""
        self._encode = open_engine(Path(__file__).parent, log=pb_utils.Logger.log_warn)

    def execute(self, requests):
        """One response a request, in order."""
        return [self._respond(pb_utils.get_input_tensor_by_name(r, "VIEWS").as_numpy()) for r in requests]

    def _respond(self, views):
        results = self._encode(views)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, r) for n, r in zip(OUTPUTS, results, strict=True)])
