"""`noduleserve bench serving`: the server under load."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from noduleserve.release import Release

from ..console import err


def bench_serving(
    release: Annotated[Path, typer.Argument(help="A release of target `embedded`.")],
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: the phantom's.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Nodules of one turn.")] = 40,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 3,
) -> None:
    """The whole way, DICOM on disk to results, against the bare encoder on the same cores.

    Example:

        noduleserve bench serving releases/may --worklist tonight.csv
    """
    from noduleserve.benchmarks.measure import table
    from noduleserve.benchmarks.serving.whole_way import bench_serving as measure
    from noduleserve.demo.command import make_worklist
    from noduleserve.worklist.table import read_worklist

    with tempfile.TemporaryDirectory() as folder:
        nodules = read_worklist(worklist or make_worklist(Path(folder)))
        ratios = measure(Release.open(release), nodules, count, turns, err.print)
    print(table(ratios))
