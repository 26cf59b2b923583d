"""`noduleserve bench decoders`: which decoder reads which compressed transfer syntax, and how fast."""

from __future__ import annotations

from typing import Annotated

import typer


def bench_decoders(
    turns: Annotated[int, typer.Option(min=1, help="How often each decoder is timed.")] = 7,
    size: Annotated[int, typer.Option(min=64, max=4096, help="Rows and columns of the slice.")] = 512,
) -> None:
    """Every installed decoder of every compressed transfer syntax, on one slice.

    Example:

        noduleserve bench decoders
    """
    from noduleserve.benchmarks.decoders import bench_decoders as measure
    from noduleserve.benchmarks.decoders import table

    print(table(*measure(turns, size)))
