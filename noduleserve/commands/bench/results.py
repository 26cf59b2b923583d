"""`noduleserve bench results`: the formats of results."""

from __future__ import annotations

from typing import Annotated

import typer

from .keeping import OutOption, show_and_keep


def bench_results(
    count: Annotated[int, typer.Option(min=1, help="Nodules of each file.")] = 5000,
    turns: Annotated[int, typer.Option(min=1, help="How often each format is written.")] = 5,
    out: OutOption = None,
) -> None:
    """The formats of results: seconds to write and size, for 1,000 nodules.

    Example:

        noduleserve bench results --count 20000
    """
    from noduleserve.benchmarks.record.recording import Recording
    from noduleserve.benchmarks.results_formats import bench_results as measure
    from noduleserve.benchmarks.results_formats import formats_plot, formats_table

    with Recording("results", {"count": count, "turns": turns}) as recording:
        figures, left_out = measure(count, turns)
        recording.table(formats_table(figures))
        recording.plot(formats_plot(figures))
        for sentence in left_out:
            recording.remark(sentence)
    show_and_keep(recording.record, out)
