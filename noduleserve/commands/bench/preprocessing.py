"""`noduleserve bench preprocessing`: views and cube, against the straightforward way with scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from ..console import err, extra_missing


def bench_preprocessing(
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 7,
    requests: Annotated[
        int | None, typer.Option(min=4, help="Instead: send so many to nodule_preprocess in Triton, watch its memory.")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="With --requests: whose it is; default: the demo's.")] = None,
) -> None:
    """Views and cube on one core, against the straightforward way with scipy; or memory over many requests.

    Example:

        noduleserve bench preprocessing --requests 10000
    """
    if requests:
        from noduleserve.benchmarks.preprocessing_server import watch_preprocessing
        from noduleserve.demo.command import RELEASE

        print(watch_preprocessing(Release.open(release or RELEASE), requests, tell=err.print).table())
        return
    if release:
        raise typer.BadParameter("--release goes with --requests.")
    try:
        from noduleserve.benchmarks.preprocessing import bench_preprocessing as measure
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None
    from noduleserve.benchmarks.measure import table

    print(table(measure(turns)))
