"""A LitServe app as its documentation teaches: decode, batch, predict, encode, in one worker beside the HTTP server."""

from typing import Annotated

import litserve
import numpy as np
import onnxruntime
from fastapi import Body
from numpy.typing import NDArray

from .app import MOST_BATCH, WAYS, arguments, end_with_parent
from .graph import providers
from .wire import parse

BATCH_WAIT_S = 0.005


class NoduleAPI(litserve.LitAPI):  # type: ignore[misc]
    """Boxes in, each fold's probability out; LitServe stacks the views of up to MOST_BATCH nodules."""

    def __init__(self, graph: str, views: str) -> None:
        super().__init__(max_batch_size=MOST_BATCH, batch_timeout=BATCH_WAIT_S)
        self._graph, self._views = graph, views

    def setup(self, device: str) -> None:
        """Make the session once, in the worker."""
        self._session = onnxruntime.InferenceSession(self._graph, providers=providers())

    # LitServe hands the annotation on to FastAPI, which would read JSON without it.
    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> NDArray[np.float32]:
        """A body to views [9, 50, 50]."""
        return WAYS[self._views](parse(request))

    def predict(self, views: NDArray[np.float32]) -> NDArray[np.float64]:
        """Views [N, 9, 50, 50] to probabilities [N, F]."""
        (logits,) = self._session.run(["LOGITS"], {"VIEWS": views})
        return 1 / (1 + np.exp(logits[..., 0].astype(np.float64) - logits[..., 1]))

    def encode_response(self, output: NDArray[np.float64]) -> dict[str, list[float]]:
        """Probabilities [F] to JSON."""
        return {"raw": output.tolist()}


if __name__ == "__main__":
    end_with_parent()
    given = arguments()
    # No time limit of its own: how long an answer may take is the caller's to say.
    server = litserve.LitServer(NoduleAPI(str(given.graph), given.views), accelerator="auto", timeout=False)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)
