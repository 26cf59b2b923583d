"""`noduleserve bench decoders`: which decoder reads which compressed transfer syntax, and how fast."""

from __future__ import annotations

from typing import Annotated

import typer

from .keeping import OutOption, show_and_keep


def bench_decoders(
    turns: Annotated[int, typer.Option(min=1, help="How often each decoder is timed.")] = 7,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Rows and columns of the slice.")] = 512,
    out: OutOption = None,
) -> None:
    """Every installed decoder of every compressed transfer syntax, on one slice.

    Example:

        noduleserve bench decoders --out runs/decoders
    """
    from noduleserve.benchmarks.decoders import bench_decoders as measure
    from noduleserve.benchmarks.decoders import decoders_plot, decoders_table
    from noduleserve.benchmarks.record.recording import Recording

    with Recording("decoders", {"turns": turns, "size": size}) as recording:
        figures, absent = measure(turns, size)
        recording.table(decoders_table(figures))
        recording.plot(decoders_plot(figures))
        for sentence in absent:
            recording.remark(sentence)
    show_and_keep(recording.record, out)
