"""`noduleserve bench preprocessing`: views and cube, against the straightforward way with scipy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep

if TYPE_CHECKING:
    from noduleserve.benchmarks.record.record import Record


def bench_preprocessing(
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 7,
    requests: Annotated[
        int | None, typer.Option(min=4, help="Instead: send so many to nodule_preprocess in Triton, watch its memory.")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="With --requests: whose it is; default: the demo's.")] = None,
    out: OutOption = None,
) -> None:
    """Views and cube on one core, against the straightforward way with scipy; or memory over many requests.

    Example:

        noduleserve bench preprocessing --requests 10000
    """
    if requests:
        from noduleserve.demo.command import RELEASE

        show_and_keep(_watched(Release.open(release or RELEASE), requests), out)
        return
    if release:
        raise typer.BadParameter("--release goes with --requests.")
    show_and_keep(_timed(turns), out)


def _timed(turns: int) -> Record:
    try:
        from noduleserve.benchmarks.preprocessing import bench_preprocessing as measure
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None
    from noduleserve.benchmarks.measure import ratios_plot, ratios_table
    from noduleserve.benchmarks.record.recording import Recording

    title = "Preprocessing on one core, against the straightforward way with scipy"
    with Recording("preprocessing", {"turns": turns}) as recording:
        ratios = measure(turns)
        recording.table(ratios_table(ratios, "preprocessing", title))
        recording.plot(ratios_plot(ratios, "preprocessing", title))
    return recording.record


def _watched(release: Release, requests: int) -> Record:
    from noduleserve.benchmarks.preprocessing_server import watch_preprocessing
    from noduleserve.benchmarks.record.recording import Recording, release_facts

    parameters = {"release": release_facts(release), "requests": requests}
    with Recording("preprocessing", parameters) as recording:
        watched = watch_preprocessing(release, requests, tell=err.print)
        for table in watched.tables():
            recording.table(table)
        recording.plot(watched.plot())
    return recording.record
