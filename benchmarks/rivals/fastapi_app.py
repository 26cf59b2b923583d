"""A FastAPI app as its documentation teaches: the session made once, a plain `def` endpoint in the thread pool."""

from typing import Annotated

import numpy as np
import onnxruntime
import uvicorn
from fastapi import Body, FastAPI

from .app import WAYS, arguments, end_with_parent
from .graph import providers
from .wire import parse


def make_app(graph: str, views: str) -> FastAPI:
    """The app.

    Args:
        graph: of the encoder, all folds in one.
        views: one of WAYS.
    """
    app = FastAPI()
    session = onnxruntime.InferenceSession(graph, providers=providers())
    views_of = WAYS[views]

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> dict[str, list[float]]:
        (logits,) = session.run(["LOGITS"], {"VIEWS": views_of(parse(request))[None]})
        odds = logits[0, :, 1].astype(np.float64) - logits[0, :, 0]
        return {"raw": (1 / (1 + np.exp(-odds))).tolist()}

    return app


if __name__ == "__main__":
    end_with_parent()
    given = arguments()
    uvicorn.run(make_app(str(given.graph), given.views), host="127.0.0.1", port=given.port, log_level="warning")
