"""`noduleserve serve`: a release, served until somebody says stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

from noduleserve.release import Release

from .process import Endpoints, TritonProcess
from .settings import ServerSettings


def serve(
    release: Release,
    endpoints: Endpoints,
    *,
    log: Path | None = None,
    encoder_threads: int | None = None,
    engines: Path | None = None,
    settings: ServerSettings | None = None,
    ready_timeout: float = 120.0,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a release until SIGTERM or SIGINT; returns when the nodules in flight are answered and all has ended.

    Args:
        release: what to serve.
        endpoints: where to listen.
        log: file for Triton's own log.
        encoder_threads: threads of the encoder, whatever the settings say; by default one a core.
        engines: folder of TensorRT plans, on target `tensorrt`; by default beside the release.
        settings: what this machine decides about the release; by default nothing.
        ready_timeout: seconds.
        tell: is called with one line when the server is ready, and one when it has ended.

    Raises:
        ServerError: why it could not be started, SETTINGS_DO_NOT_FIT among others, or SERVER_DIED.
        EngineError: why there is no TensorRT plan to serve.
    """
    asked_to_stop = threading.Event()
    previous = {s: signal.signal(s, lambda *_: asked_to_stop.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    process = TritonProcess(
        release, endpoints, log=log, encoder_threads=encoder_threads, engines=engines, settings=settings
    )
    try:
        process.start()
        process.wait_ready(ready_timeout, give_up=asked_to_stop.is_set)
        if not asked_to_stop.is_set():
            tell(ready_line(process))
        while not asked_to_stop.wait(0.5):
            if process.returncode() is not None:
                raise process.failure()
        process.drain()
    finally:
        process.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    tell("stopped")


def ready_line(process: TritonProcess) -> str:
    """One line: what is served, where, and what must be known of it."""
    at, manifest = process.endpoints, process.release.manifest
    notice = f" ({manifest['notice']})" if manifest["notice"] else ""
    settings = f", settings: {process.settings}" if process.settings.chosen else ""
    return (
        f"ready: release {process.release.id}{notice}, grpc {at.host}:{at.grpc}, http {at.host}:{at.http}, "
        f"metrics {at.host}:{at.metrics}{settings}"
    )
