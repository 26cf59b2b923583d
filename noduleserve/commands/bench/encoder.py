"""`noduleserve bench encoder`: every runtime and precision of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep


def bench_encoder(
    release: Annotated[Path | None, typer.Argument(help="A release of target `embedded`.")] = None,
    untrained: Annotated[
        Literal["tiny", "ViT-B/32"] | None, typer.Option(help="Instead of a release: random weights of that size.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Folds of the random weights.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
    out: OutOption = None,
) -> None:
    """The encoder alone: every runtime and precision that this machine's CPU has, on one nodule.

    Example:

        noduleserve bench encoder --untrained ViT-B/32
    """
    try:
        from noduleserve.benchmarks.encoder import bench_encoder as measure
        from noduleserve.benchmarks.encoder import encoder_plot, encoder_table, graph_of_release, untrained_graph
    except ModuleNotFoundError as error:
        raise extra_missing(error, "export") from None
    from noduleserve.benchmarks.record.recording import Recording, release_facts

    weights: dict[str, Any]
    if untrained and not release:
        graph = untrained_graph(untrained, folds, err.print)
        weights = {"untrained": untrained, "folds": folds}
    elif release and not untrained:
        opened = Release.open(release)
        graph = graph_of_release(opened)
        weights = {"release": release_facts(opened)}
    else:
        raise typer.BadParameter("Name a release, or a size with --untrained.")
    with Recording("encoder", {**weights, "turns": turns}) as recording:
        figures, absent = measure(graph, turns, tell=err.print)
        recording.table(encoder_table(figures))
        recording.plot(encoder_plot(figures))
        for sentence in absent:
            recording.remark(sentence)
    show_and_keep(recording.record, out)
