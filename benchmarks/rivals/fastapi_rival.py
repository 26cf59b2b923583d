"""FastAPI and ONNX Runtime: what most people build first."""

from __future__ import annotations

from typing import Literal

from noduleserve.release import Release

from .graph import fp32_graph, providers
from .http_rival import HttpRival
from .http_server import HttpServer
from .missing import require

Views = Literal["scipy", "noduleserve"]
SAID_OF_VIEWS: dict[Views, str] = {
    "scipy": "views by scipy from the box, as the method says: whole cube, three rotations",
    "noduleserve": "views by this project's preprocessing",
}


class FastapiRival(HttpRival):
    """See Rival."""

    def __init__(self, release: Release, views: Views = "scipy") -> None:
        """Prepare; entering starts the server.

        Args:
            release: whose FP32 graph it runs.
            views: who computes them.

        Raises:
            NoduleserveError: EXTRA_MISSING.
            ReleaseError: GRAPH_NOT_FP32.
        """
        require("fastapi", "uvicorn", "scipy")
        arguments = ["--graph", str(fp32_graph(release).resolve()), "--views", views]
        super().__init__(HttpServer("noduleserve.benchmarks.rivals.fastapi_app", arguments))
        self.name = "fastapi" if views == "scipy" else "fastapi+views"
        hardware = providers()[0].removesuffix("ExecutionProvider")
        self.what = (
            "FastAPI on uvicorn, one process, a plain `def` endpoint in its thread pool, one ONNX Runtime session in "
            f"FP32 with its default options ({hardware}), thread settings untouched; {SAID_OF_VIEWS[views]}; "
            "the release's graph, which has all folds in one and is more than most would have; the box as int16 over "
            "HTTP/1.1, kept alive, client and server on one machine"
        )
