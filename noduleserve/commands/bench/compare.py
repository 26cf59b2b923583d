"""`noduleserve bench compare`: two records of one benchmark, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import err


def bench_compare(
    a: Annotated[Path, typer.Argument(help="Record to compare with: its folder or its JSON file.")],
    b: Annotated[Path, typer.Argument(help="Record that is compared.")],
    at_least: Annotated[
        float | None, typer.Option(min=0, help="Status 1 where a figure of B is less than this share of A's, as 0.95.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Figures that --at-least is about, as `ratio`; default: all.")
    ] = None,
) -> None:
    """Two records of one benchmark, row by row: ratio B / A, better or worse, and whatever else is not alike.

    Prints Markdown. The share of --at-least is B / A for what should be high, A / B for what should be low; a figure,
    row or table that only A has counts as lost. Times of two runs are of the machine's other work too; ratios hardly
    are: a script had better ask for these, with --column.

    Exit status: 0; 1 where --at-least is missed, or the records cannot be compared.

    Example:

        noduleserve bench compare runs/may runs/june --at-least 0.95 --column ratio
    """
    from noduleserve.benchmarks.record.compare import compare, shortfalls
    from noduleserve.benchmarks.record.compare_markdown import markdown_of_comparison
    from noduleserve.benchmarks.record.files import read_record

    comparison = compare(read_record(a), read_record(b))
    print(markdown_of_comparison(comparison), end="")
    short = [] if at_least is None else shortfalls(comparison, at_least, column or ())
    for sentence in short:
        err.print(f"below {at_least:g}: {sentence}", style="red", markup=False)
    if short:
        raise typer.Exit(1)
