"""One Triton process on one release, from start to clean end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from noduleserve.engines.repository import compose_repository
from noduleserve.engines.store import find_engine, store_of
from noduleserve.errors import ServerError
from noduleserve.release import Release

from .health import flush, is_listening, is_ready
from .settings import ServerSettings, changed_configurations
from .triton import find_triton

_SHM = Path("/dev/shm")
# Asks the kernel for SIGTERM when the parent dies, however it dies (PR_SET_PDEATHSIG), and becomes Triton.  A function
# that Popen runs in its child would do the same, but only a child that was forked can run one, and a process with
# gRPC's threads at work must not fork: the child crashes over what they held.  Without one, Popen takes vfork.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("its parent had ended")
os.execv(sys.argv[2], sys.argv[2:])
"""
_SAID_WITHOUT_GPU = "CudaDriverHelper|CUDA driver version is insufficient"  # of errors in Triton's log that are none


@dataclass(frozen=True)
class Endpoints:
    """Where a server listens; a port 0 stands for any free one.

    Attributes:
        host: address to bind to.
        grpc, http, metrics: ports.
    """

    host: str = "127.0.0.1"
    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002

    @property
    def local_host(self) -> str:
        """Where a client on this machine reaches it."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host

    @property
    def address(self) -> str:
        """host:port of gRPC, for a client on this machine."""
        host = self.local_host
        return f"[{host}]:{self.grpc}" if ":" in host else f"{host}:{self.grpc}"

    def resolved(self) -> Endpoints:
        """The same with every 0 replaced by a free port.

        Raises:
            ServerError: PORT_IN_USE, ADDRESS_UNUSABLE.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        ports = {}
        with contextlib.ExitStack() as held:
            for name in ("grpc", "http", "metrics"):
                probe = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                ports[name] = self._bind(probe, name)
        return Endpoints(self.host, **ports)

    def _bind(self, probe: socket.socket, name: str) -> int:
        port = getattr(self, name)
        try:
            probe.bind((self.host, port))
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE
                raise ServerError(
                    "PORT_IN_USE",
                    f"Something listens on {self.host}:{port} already.",
                    f"Stop it, or choose another port with --{name}-port (0 takes any free one).",
                ) from None
            raise ServerError(
                "ADDRESS_UNUSABLE",
                f"{self.host}:{port} cannot be listened on: {error.strerror or error}.",
                "Check --host.",
            ) from None
        return int(probe.getsockname()[1])


class TritonProcess:
    """Triton serving one release.

    The life of it: `start` checks the release, finds Triton and starts it; `wait_ready` returns when the ensemble
    answers, or raises with Triton's own words; `drain` returns when the nodules in flight are answered; `stop` asks it
    to end, and kills what is left.  As a context manager it starts, waits and stops.  Should this process be killed
    outright, the kernel ends Triton.

    Start it from the main thread: the kernel ties Triton's life to the thread that started it.
    """

    def __init__(
        self,
        release: Release,
        endpoints: Endpoints,
        *,
        log: Path | None = None,
        encoder_threads: int | None = None,
        engines: Path | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            release: checked already by `Release.open`.
            endpoints: where to listen.
            log: file for Triton's own log; without one it is kept until the end only.
            encoder_threads: threads of the encoder, whatever the settings say; by default one a core.
            engines: folder of TensorRT plans, on target `tensorrt`; by default beside the release.
            settings: what this machine decides about the release; by default nothing.
        """
        self.release = release
        self.endpoints = endpoints
        self.settings = settings or ServerSettings()
        self._encoder_threads = encoder_threads or self.settings.encoder_threads
        self._engines = engines
        self._work = Path(tempfile.mkdtemp(prefix="noduleserve-"))
        self._log = log or self._work / "triton.log"
        self._shm_prefix = f"noduleserve_{os.getpid()}_{self._work.name[-8:]}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TritonProcess:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of Triton, or None before the start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start Triton; returns at once.

        Raises:
            ServerError: PORT_IN_USE, TRITON_NOT_FOUND, PYTHON_NOT_SUPPORTED, PYTHON_LIBRARY_MISSING,
                SETTINGS_DO_NOT_FIT.
            EngineError: on target `tensorrt`, NO_GPU, ENGINE_MISSING, ENGINE_DOES_NOT_FIT, ENGINE_DAMAGED.
        """
        repository = self._repository()
        self.endpoints = self.endpoints.resolved()
        triton = find_triton(self._work / "backends")
        environment = triton.full_environment()
        if self._encoder_threads:
            environment["NODULESERVE_ENCODER_THREADS"] = str(self._encoder_threads)
        at = self.endpoints
        command = [
            str(triton.binary),
            *repository,
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            # Short, since `drain` has waited already: a client that hangs up in the middle of its stream leaves Triton
            # 2.51 with a model that it believes in use, and it would always wait for the whole timeout.
            "--exit-timeout-secs=5",
            f"--grpc-address={at.host}",
            f"--grpc-port={at.grpc}",
            # Clients ask every half minute whether a server that computes is still there; by default Triton takes that
            # for abuse after a minute and a half without an answer, and hangs up.
            "--grpc-http2-min-recv-ping-interval-without-data=10000",
            f"--http-address={at.host}",
            f"--http-port={at.http}",
            f"--metrics-address={at.host}",
            f"--metrics-port={at.metrics}",
            f"--allow-gpu-metrics={str(Path('/dev/nvidiactl').exists()).lower()}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *triton.arguments,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end Triton in our own order
            )

    def _repository(self) -> list[str]:
        """Triton's arguments for what it serves: links to the files that the manifest lists, and the plan if any.

        A configuration that the settings change is written in the place of its link.
        So Triton runs nothing that lies in the release but is not of it, such as byte code, and writes nothing into it.
        """
        out, arguments, plan = self._work / "model_repository", [], None
        if self.release.manifest["target"] == "tensorrt":
            engine = find_engine(self.release, store_of(self.release, self._engines))
            plan = engine.plan
            if "version_compatible" in engine.record["options"]:
                arguments = ["--backend-config=tensorrt,version-compatible=true"]
        changed = changed_configurations(self.release, self.settings)
        return [f"--model-repository={compose_repository(self.release, out, plan, changed=changed)}", *arguments]

    def wait_ready(self, timeout: float = 120.0, give_up: Callable[[], bool] = lambda: False) -> None:
        """Return when nodules can be sent.

        Args:
            timeout: seconds.
            give_up: is asked between two looks; True ends the wait without an error.

        Raises:
            ServerError: SERVER_NOT_READY, with the reason that Triton logged.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.returncode() is not None:
                raise ServerError(
                    "SERVER_NOT_READY",
                    f"Triton ended with status {self.returncode()}: {self._reason()}",
                    self._where(),
                )
            if give_up() or self._is_ready():
                return
            time.sleep(0.05)
        raise ServerError(
            "SERVER_NOT_READY", f"Triton was not ready after {timeout:.0f} s: {self._reason()}", self._where()
        )

    def _is_ready(self) -> bool:
        """Triton opens HTTP and metrics a moment after gRPC, and whoever is told of a port may use it at once."""
        at = self.endpoints
        return is_ready(at.address) and all(is_listening(at.local_host, port) for port in (at.http, at.metrics))

    def returncode(self) -> int | None:
        """Exit status of Triton, or None while it runs."""
        return self._process.poll() if self._process else None

    def failure(self) -> ServerError:
        """What to say when Triton has ended by itself while serving."""
        return ServerError(
            "SERVER_DIED", f"Triton ended with status {self.returncode()}: {self._reason()}", self._where()
        )

    def drain(self, timeout: float = 40.0) -> None:
        """Return when Triton has answered the nodules that it was sent so far, or after the timeout (seconds).

        Told to end, Triton answers what a model is computing, but refuses a nodule that is on its way from one model
        of the ensemble to the next.
        """
        flush(self.endpoints.address, timeout)

    def stop(self, timeout: float = 30.0) -> None:
        """End Triton and everything it started; harmless where it has ended or never started.

        Args:
            timeout: seconds that Triton has before what is left is killed.
        """
        if self._process:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # stubs that outlived it, or Triton itself
            self._process.wait()
        for leftover in _SHM.glob(f"{self._shm_prefix}*") if _SHM.is_dir() else ():
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)

    def _reason(self) -> str:
        """The errors in Triton's log that say most, in one line."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log."
        errors = [re.sub(r"^E\d{4} \S+ \d+ [\w.]+:\d+\] ", "", line) for line in lines if re.match(r"E\d{4} ", line)]
        errors = [error for error in errors if not re.search(_SAID_WITHOUT_GPU, error)]
        return " | ".join(errors[:3] or lines[-3:])[:1500] or "its log is empty."

    def _where(self) -> str:
        return "Give --log-file to keep Triton's whole log."
