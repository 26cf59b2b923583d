"""`noduleserve score`: a worklist becomes results, through a journal that nothing is lost from."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from noduleserve.release import Release

from .console import err

if TYPE_CHECKING:
    from noduleserve.journal.contents import Contents

ServerOption = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a server's gRPC; several with commas between, or dns:///NAME:PORT."),
]
ReleaseOption = Annotated[Path | None, typer.Option(help="Start a private server on this release for the run.")]
PrivateSettingsOption = Annotated[
    Path | None, typer.Option(help="TOML with instances, threads, batches and queues of the private server.")
]


def score(
    worklist: Annotated[
        Path,
        typer.Argument(help="CSV with pid, nodule_id, image_path, coordX, coordY, coordZ (LPS millimetres)."),
    ],
    out: Annotated[
        list[str],
        typer.Option(
            help="Results: a name in .csv, .jsonl, .parquet, .sqlite or .db, or FOLDER/ for DICOM SR; repeatable."
        ),
    ],
    server: ServerOption = None,
    release: ReleaseOption = None,
    settings: PrivateSettingsOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image_path is relative to; default: the worklist's.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write the morning report here.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where every outcome is kept; default: the first output's name and .journal.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Take up the journal that is there, or begin a new one.")
    ] = True,
    retry_parked: Annotated[
        bool, typer.Option("--retry-parked", help="Try again what an earlier run could not score.")
    ] = False,
    transport: Annotated[
        Literal["stream", "unary", "shared-memory"],
        typer.Option(help="Bidirectional streams, a call a nodule, or voxels in memory shared with a local server."),
    ] = "stream",
    streams: Annotated[int, typer.Option(min=1, help="Streams to each server.")] = 2,
    in_flight: Annotated[int, typer.Option(min=1, help="Nodules sent to a server and not answered, at most.")] = 8,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 300.0,
    retries: Annotated[int, typer.Option(min=0, help="More tries of a nodule after transient failures.")] = 5,
    server_wait: Annotated[
        float, typer.Option(min=0, help="Seconds without any server before the run breaks off.")
    ] = 600.0,
    priority: Annotated[
        Literal["interactive", "night"], typer.Option(help="Interactive overtakes night, if the server is set to it.")
    ] = "night",
    readers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read CT; 0: a thread. Default: by the worklist's length.")
    ] = None,
    read_ahead: Annotated[int, typer.Option(min=1, help="MiB of voxels read or sent and not answered.")] = 512,
    log: Annotated[
        Literal["auto", "bar", "lines", "json"], typer.Option(help="How the run is shown on standard error.")
    ] = "auto",
    log_file: Annotated[Path | None, typer.Option(help="Keep the private server's log here.")] = None,
) -> None:
    """Score the nodules of a worklist.

    Every row of the worklist becomes a row of the results, with a score or with the reason why it has none. Each
    outcome is on the disk, in the journal, before it counts: started again with the same words, a run that broke off
    goes on where it was. Results are written from the journal at the end, each whole or not at all.

    Exit status: 0 all scored, 3 some failed, 1 the run could not begin or broke off.

    Examples:

        noduleserve score tonight.csv --server 127.0.0.1:8001 --out results.csv

        noduleserve score tonight.csv --server a:8001,b:8001 --out results.csv --out screening.sqlite --out sr/

        noduleserve score tonight.csv --release releases/may --out results.csv --report report.html

        noduleserve score tonight.csv --server a:8001 --out results.csv --retry-parked
    """
    from noduleserve.client.options import EngineOptions
    from noduleserve.journal.journal import Journal
    from noduleserve.night import score_night
    from noduleserve.progress import Tally, shown
    from noduleserve.results.outputs import check_writable
    from noduleserve.worklist.table import read_worklist

    if (server is None) == (release is None):
        raise typer.BadParameter("give one of --server and --release", param_hint="--server / --release")
    if settings and release is None:
        raise typer.BadParameter("a server has its own: `noduleserve serve --settings`", param_hint="--settings")
    nodules = read_worklist(worklist, root)
    check_writable(out, list(nodules[0].columns))
    tally = Tally(len(nodules))
    place = journal or journal_beside(out[0])
    with _begun_or_gone(place), Journal.open(place, fresh=not resume) as kept:
        if kept.cut_bytes:
            err.print(f"{place.name}: an unfinished last line of {kept.cut_bytes} bytes was cut off; it never counted.")
        with server_for(server, release, log_file, settings) as address, shown(tally, log):
            options = EngineOptions(
                servers=(address,),
                transport=transport,
                streams=streams,
                in_flight=in_flight,
                deadline=deadline,
                server_wait=server_wait,
                retries=retries,
                priority=priority,
                readers=readers,
                read_ahead=read_ahead * 2**20,
            )
            counts = score_night(
                nodules,
                options,
                kept,
                worklist=worklist.name,
                retry_parked=retry_parked,
                progress=tally.add,
                watch=lambda status: setattr(tally, "status", status),
            )
        for line in counts.lines():
            print(line)
        lacking = _write(kept, out)
    if report:
        from .report import write_morning_report

        write_morning_report(place, report, worklist, release=release, root=root)
        print(f"report: {report}")
    if lacking or counts.codes["scored"] != counts.rows:
        raise typer.Exit(3)


def journal_beside(out: str) -> Path:
    """Where the journal of a run is kept that writes an output of that name."""
    path = Path(out.removeprefix("sr:"))
    return path.with_name(f"{path.name}.journal")


@contextlib.contextmanager
def _begun_or_gone(journal: Path) -> Iterator[None]:
    """A journal that was made for a run that could not begin goes with it."""
    from noduleserve.journal.contents import Contents

    made = not journal.exists()
    try:
        yield
    except BaseException:
        if made and journal.exists():
            with Contents.open(journal) as contents:
                begun = contents.run is not None
            if not begun:
                journal.unlink()
        raise


def _write(journal: Contents, out: list[str]) -> bool:
    """Write all outputs from the journal; whether one of them lacks something, such as the SR of a series."""
    from .results import render

    with err.status("writing results"):
        every = render(journal, out)
    for written in every:
        print(f"results: {written.target}")
        for remark in written.remarks:
            print(f"  {remark}")
    return any(written.lacking for written in every)


@contextlib.contextmanager
def server_for(
    server: str | None, release: Path | None, log: Path | None, settings: Path | None = None
) -> Iterator[str]:
    """The address of the server that is named, or of a private one that lives as long as the block."""
    # An exit that passes through here ends the private server, clears its files, and says how far the run came; the
    # default would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if release is None:
        assert server is not None
        yield server
        return
    from noduleserve.server.process import Endpoints, TritonProcess
    from noduleserve.server.settings import ServerSettings

    chosen = ServerSettings.read(settings) if settings else None
    with err.status("checking the release and starting Triton"):
        process = TritonProcess(Release.open(release), Endpoints(grpc=0, http=0, metrics=0), log=log, settings=chosen)
        process.__enter__()
    with contextlib.ExitStack() as end:
        end.push(process)
        yield process.endpoints.address
