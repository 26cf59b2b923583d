"""`noduleserve demo`: the whole way on a synthetic chest CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the CT, results.csv and report.html.")] = Path("demo-out"),
    release: Annotated[Path | None, typer.Option(help="Serve this release; default: the demo's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic CT.")] = 7,
    series: Annotated[
        Path | None, typer.Option(help="Score this series instead: the folder of its DICOM files, or one file.")
    ] = None,
    nodules: Annotated[
        Path | None, typer.Option(help="With --series: CSV with nodule_id, coordX, coordY, coordZ (LPS millimetres).")
    ] = None,
) -> None:
    """Score a chest CT through Triton and look at the result: a synthetic one with five nodules, or one's own.

    Examples:

        noduleserve demo --out demo-out

        noduleserve worklist LIDC-IDRI-0003/ --out nodules.csv

        noduleserve demo --series LIDC-IDRI-0003/ --nodules nodules.csv
    """
    from noduleserve.demo.command import RELEASE, Own, run_demo

    if (series is None) != (nodules is None):
        raise typer.BadParameter("--series and --nodules go together; `noduleserve worklist` makes the CSV from marks.")
    own = Own(series, nodules) if series and nodules else None
    run = run_demo(out, release or RELEASE, seed, own)
    if run.counts["scored"] != len(run.outcomes):
        raise typer.Exit(3)
