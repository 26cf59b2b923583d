"""`noduleserve serve`: a release on Triton until somebody says stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

SettingsOption = Annotated[
    Path | None,
    typer.Option(help="TOML with instances, threads, batches and queues for this machine, as `bench tune` writes it."),
]


def serve(
    release: Annotated[Path, typer.Argument(help="Folder that `noduleserve export` wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC; 0 takes any free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP; 0 takes any free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Prometheus; 0 takes any free port.")] = 8002,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's own log here.")] = None,
    encoder_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the encoder; default: one a core.")
    ] = None,
    settings: SettingsOption = None,
    engines: Annotated[
        Path | None,
        typer.Option(help="Folder of TensorRT plans; default: NODULESERVE_ENGINES, else RELEASE.engines."),
    ] = None,
    ready_timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for readiness.")] = 120.0,
) -> None:
    """Serve a release on Triton until SIGTERM or Ctrl-C.

    Checks every byte of the release first. Prints one line when it is ready.

    Examples:

        noduleserve serve releases/may

        noduleserve serve releases/may --grpc-port 9001 --http-port 9000 --metrics-port 9002

        noduleserve serve releases/may --settings may.settings.toml
    """
    from noduleserve.server.process import Endpoints
    from noduleserve.server.serve import serve as run
    from noduleserve.server.settings import ServerSettings

    run(
        Release.open(release),
        Endpoints(host, grpc_port, http_port, metrics_port),
        log=log_file,
        encoder_threads=encoder_threads,
        engines=engines,
        settings=ServerSettings.read(settings) if settings else None,
        ready_timeout=ready_timeout,
        tell=lambda line: print(line, flush=True),
    )
