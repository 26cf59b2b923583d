"""`noduleserve demo`: the whole way on a synthetic chest CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the CT, results.csv and report.html.")] = Path("demo-out"),
    release: Annotated[Path | None, typer.Option(help="Serve this release; default: the demo's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic CT.")] = 7,
) -> None:
    """Score a synthetic chest CT with five nodules through Triton, and look at the result.

    Example:

        noduleserve demo --out demo-out
    """
    from noduleserve.demo.command import RELEASE, run_demo

    run = run_demo(out, release or RELEASE, seed)
    if run.counts["scored"] != len(run.outcomes):
        raise typer.Exit(3)
