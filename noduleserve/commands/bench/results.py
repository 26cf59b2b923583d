"""`noduleserve bench results`: the formats of results."""

from __future__ import annotations

from typing import Annotated

import typer


def bench_results(
    count: Annotated[int, typer.Option(min=1, help="Nodules of each file.")] = 5000,
    turns: Annotated[int, typer.Option(min=1, help="How often each format is written.")] = 5,
) -> None:
    """The formats of results: seconds to write and size, for 1,000 nodules.

    Example:

        noduleserve bench results --count 20000
    """
    from noduleserve.benchmarks.results_formats import bench_results as measure
    from noduleserve.benchmarks.results_formats import table

    print(table(*measure(count, turns)))
