"""`noduleserve bench night`: the whole way of a night, and where its time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep


def bench_night(
    release: Annotated[Path, typer.Argument(help="The release that is served.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="That it was made from: adds the straightforward method in PyTorch.")
    ] = None,
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: synthetic chests.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Nodules of one turn.")] = 40,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 3,
    nodules_a_scan: Annotated[int, typer.Option(min=2, help="Of the night with several nodules a scan, at most.")] = 5,
    starts: Annotated[int, typer.Option(min=0, help="How often the command is started, for its first answer.")] = 3,
    settings: Annotated[Path | None, typer.Option(help="TOML with settings of the server, as for `serve`.")] = None,
    transport: Annotated[
        Literal["stream", "unary", "shared-memory"], typer.Option(help="See `noduleserve score`.")
    ] = "stream",
    in_flight: Annotated[int, typer.Option(min=1, help="Nodules sent and not answered, at most.")] = 8,
    readers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read CT; default: as `noduleserve score` decides.")
    ] = None,
    cache: Annotated[
        Literal["cold", "warm"], typer.Option(help="Whether files come from the disk or from the page cache.")
    ] = "cold",
    syntax: Annotated[
        Literal["rle", "jpeg", "jpegls", "jpeg2000", "htj2k"] | None,
        typer.Option(help="Compress the synthetic chests so, without loss."),
    ] = None,
    out: OutOption = None,
) -> None:
    """The whole way, DICOM on disk to a row of results, against the encoder alone; and where the time goes.

    A night is scored by the code of `noduleserve score`, once with one nodule a scan and once with several, in turns
    with the bare encoder on the same cores and nodules.  A row whose scores are not right does not count.

    Example:

        noduleserve bench night releases/may --checkpoint checkpoints/may --worklist tonight.csv --out night-bench
    """
    if syntax and worklist:
        raise typer.BadParameter("only the synthetic chests can be compressed", param_hint="--syntax")
    try:
        from noduleserve.benchmarks.night.bench import NightOptions
        from noduleserve.benchmarks.night.record import bench_night as measure
        from noduleserve.server.settings import ServerSettings

        options = NightOptions(
            count=count,
            turns=turns,
            nodules_a_scan=nodules_a_scan,
            starts=starts,
            transport=transport,
            in_flight=in_flight,
            readers=readers,
            settings=ServerSettings.read(settings) if settings else ServerSettings(),
            cache=cache,
        )
        record = measure(Release.open(release), options, worklist, checkpoint, syntax, err.print)
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None
    show_and_keep(record, out)
