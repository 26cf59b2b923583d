"""What every benchmark does with its figures: show them, and keep them where a folder is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..console import err

if TYPE_CHECKING:
    from noduleserve.benchmarks.record.record import Record


def _require_new(out: Path | None) -> Path | None:
    """Refuse before an hour of work what would be refused after it."""
    if out is not None:
        from noduleserve.benchmarks.record.files import require_new

        require_new(out)
    return out


OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        callback=_require_new,
        help="New folder that keeps the figures as JSON, CSV, Markdown and plots, with machine and versions.",
    ),
]


def show_and_keep(record: Record, out: Path | None) -> None:
    """Print the tables, goals and remarks; write the whole record where a folder is named.

    Args:
        record: the run.
        out: new or empty folder; None: nothing is written.

    Raises:
        BenchmarkError: RECORD_FOLDER, RECORD_UNWRITABLE.
    """
    from noduleserve.benchmarks.record.files import write_record
    from noduleserve.benchmarks.record.markdown import tables_of

    print(tables_of(record))
    if out is not None:
        write_record(record, out)
        err.print(f"The record is in {out}.", markup=False)
