"""`noduleserve score`: a worklist becomes results."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from .console import err


def score(
    worklist: Annotated[
        Path,
        typer.Argument(help="CSV with pid, nodule_id, image_path, coordX, coordY, coordZ (LPS millimetres)."),
    ],
    out: Annotated[Path, typer.Option(help="CSV of results.")],
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a server's gRPC.")] = None,
    release: Annotated[Path | None, typer.Option(help="Start a private server on this release for the run.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image_path is relative to; default: the worklist's.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a one-file HTML report here.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Nodules read or sent and not answered, at most.")] = 8,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 60.0,
    log_file: Annotated[Path | None, typer.Option(help="Keep the private server's log here.")] = None,
) -> None:
    """Score the nodules of a worklist.

    Every row of the worklist becomes a row of the results, with a score or with the reason why it has none.
    Exit status: 0 all scored, 3 some failed, 1 the run could not begin or broke off.

    Examples:

        noduleserve score tonight.csv --server 127.0.0.1:8001 --out results.csv

        noduleserve score tonight.csv --release releases/may --out results.csv --report report.html
    """
    from noduleserve.client.run import Options
    from noduleserve.progress import score_with_progress, summary_lines
    from noduleserve.worklist.table import read_worklist

    if (server is None) == (release is None):
        raise typer.BadParameter("give one of --server and --release", param_hint="--server / --release")
    nodules = read_worklist(worklist, root)
    options = Options(in_flight, deadline, views=report is not None)
    with server_for(server, release, log_file) as address:
        run = score_with_progress(nodules, address, out, options)
    if report:
        from noduleserve.results.report.page import write_report

        command = shlex.join(["noduleserve", *sys.argv[1:]])
        write_report(report, run.outcomes, run.info, stages=run.stages, worklist=worklist.name, command=command)
    for line in summary_lines(run):
        print(line)
    print(f"results: {out}" + (f", report: {report}" if report else ""))
    if run.counts["scored"] != len(nodules):
        raise typer.Exit(3)


@contextlib.contextmanager
def server_for(server: str | None, release: Path | None, log: Path | None) -> Iterator[str]:
    """The address of the server that is named, or of a private one that lives as long as the block."""
    if release is None:
        assert server is not None
        yield server
        return
    from noduleserve.server.process import Endpoints, TritonProcess

    # An exit that passes through here ends the private server and clears its files; the default would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with err.status("checking the release and starting Triton"):
        process = TritonProcess(Release.open(release), Endpoints(grpc=0, http=0, metrics=0), log=log)
        process.__enter__()
    with contextlib.ExitStack() as end:
        end.push(process)
        yield process.endpoints.address
