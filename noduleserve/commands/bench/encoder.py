"""`noduleserve bench encoder`: every runtime and precision of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from noduleserve.release import Release

from ..console import err, extra_missing


def bench_encoder(
    release: Annotated[Path | None, typer.Argument(help="A release of target `embedded`.")] = None,
    untrained: Annotated[
        Literal["tiny", "ViT-B/32"] | None, typer.Option(help="Instead of a release: random weights of that size.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds of the random weights.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
) -> None:
    """The encoder alone: every runtime and precision that this machine's CPU has, on one nodule.

    Example:

        noduleserve bench encoder --untrained ViT-B/32
    """
    try:
        from noduleserve.benchmarks.encoder import bench_encoder as measure
        from noduleserve.benchmarks.encoder import graph_of_release, table, untrained_graph
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None

    if untrained and not release:
        graph = untrained_graph(untrained, folds, err.print)
    elif release and not untrained:
        graph = graph_of_release(Release.open(release))
    else:
        raise typer.BadParameter("Name a release, or a size with --untrained.")
    print(table(*measure(graph, turns, tell=err.print)))
