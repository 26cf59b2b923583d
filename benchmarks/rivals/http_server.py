"""An HTTP server of a rival as a process of its own, from start to end, with all that it starts in turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from noduleserve.errors import ServerError

START_S = 180.0
_LINES_TOLD = 12


class HttpServer:
    """`python -m MODULE ... --port PORT` on 127.0.0.1, in a process group of its own.

    Whatever ends this process ends the group: the server waits for its standard input to close.

    Attributes:
        url: "http://127.0.0.1:PORT", once it is started.
    """

    url = ""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that is started here; None before."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; returns when it answers GET /health.

        Raises:
            ServerError: RIVAL_NOT_READY, with the end of its log.
        """
        self._work = Path(tempfile.mkdtemp(prefix="noduleserve-"))
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        with (self._work / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(port)],
                stdin=subprocess.PIPE,  # held open as long as this process lives
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._work,
                env=os.environ | {"TMPDIR": str(self._work), "ORT_DISABLE_TELEMETRY": "1"},
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and everything that it started; harmless where it has ended or never started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()
        self._process = None
        shutil.rmtree(self._work, ignore_errors=True)

    def _wait_ready(self) -> None:
        assert self._process
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._not_ready(f"ended with status {self._process.returncode}")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.05)
        raise self._not_ready(f"did not answer within {START_S:g} s")

    def _not_ready(self, how: str) -> ServerError:
        lines = (self._work / "log").read_text(errors="replace").splitlines()[-_LINES_TOLD:]
        module = self._command[2].rpartition(".")[2]
        return ServerError(
            "RIVAL_NOT_READY",
            f"The server {module} {how}; its log ends: {' | '.join(lines) or 'it is empty'}",
            "Mend what the log says, or leave this rival out.",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
