"""LitServe and ONNX Runtime: what somebody builds who wants batches without Triton."""

from __future__ import annotations

from noduleserve.release import Release

from .app import MOST_BATCH
from .fastapi_rival import SAID_OF_VIEWS, Views
from .graph import fp32_graph, providers
from .http_rival import HttpRival
from .http_server import HttpServer
from .missing import require


class LitserveRival(HttpRival):
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
        require("litserve", "fastapi", "uvicorn", "scipy")
        arguments = ["--graph", str(fp32_graph(release).resolve()), "--views", views]
        super().__init__(HttpServer("noduleserve.benchmarks.rivals.litserve_app", arguments))
        self.name = "litserve" if views == "scipy" else "litserve+views"
        hardware = providers()[0].removesuffix("ExecutionProvider")
        self.what = (
            f"LitServe, one worker, batches of up to {MOST_BATCH} that wait 5 ms, one ONNX Runtime session in FP32 "
            f"with its default options ({hardware}), thread settings untouched; {SAID_OF_VIEWS[views]}, in the worker; "
            "the release's graph, which has all folds in one and is more than most would have; the box as int16 over "
            "HTTP/1.1, kept alive, client and server on one machine"
        )
