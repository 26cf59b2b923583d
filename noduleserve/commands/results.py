"""`noduleserve results`: tables and documents rendered from a journal, in any format and as often as wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import err

if TYPE_CHECKING:
    from noduleserve.journal.contents import Contents
    from noduleserve.results.base import Written
    from noduleserve.results.outcome import Outcome


def results(
    journal: Annotated[Path, typer.Argument(help="The journal of a run.")],
    out: Annotated[
        list[str],
        typer.Option(
            help="File ending in .csv, .jsonl, .parquet, .sqlite or .db, or FOLDER/ for DICOM SR; repeatable."
        ),
    ],
    embedding: Annotated[bool, typer.Option("--embedding", help="JSON Lines with embeddings.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also where the run broke off or is going on: rows will be missing.")
    ] = False,
) -> None:
    """Write the results of a journal's last run, every output whole or not at all.

    Nothing is scored and the journal is only read. Exit status: 0 all scored, 3 some failed, have no outcome or no SR,
    1 an output could not be written.

    Examples:

        noduleserve results results.csv.journal --out results.csv --out results.parquet

        noduleserve results results.csv.journal --out screening.sqlite --out sr/
    """
    from noduleserve.journal.contents import Contents

    with Contents.open(journal) as contents:
        missing = contents.missing
        statuses: Counter[str] = Counter()
        with err.status("writing results"):
            every = render(
                contents, out, embedding=embedding, partial=partial, progress=lambda o: statuses.update([o.status])
            )
    for written in every:
        print(f"{written.target}: {written.rows} nodules")
        for remark in written.remarks:
            print(f"  {remark}")
    if missing:
        err.print(f"{missing} rows of the worklist have no outcome and are in no output.", style="red")
    if statuses["failed"] or missing or any(written.lacking for written in every):
        raise typer.Exit(3)


def render(
    contents: Contents,
    outs: Sequence[Path | str],
    *,
    embedding: bool = False,
    partial: bool = False,
    progress: Callable[[Outcome], None] = lambda _: None,
) -> list[Written]:
    """Write the rows of a journal's last run, in the worklist's order.

    Args:
        contents: of the journal.
        outs: as `open_writers` takes them.
        embedding: whether JSON Lines have the embeddings.
        partial: also where rows have no outcome.
        progress: is called with the outcome of each row.

    Raises:
        ResultsError: RUN_INCOMPLETE, and those of `open_writers`.
        JournalError: JOURNAL_DAMAGED, JOURNAL_UNREADABLE.
    """
    from noduleserve.errors import ResultsError
    from noduleserve.results.base import Head
    from noduleserve.results.outputs import open_writers

    run = contents.run
    if run is None or (contents.missing and not partial):
        rows = f"{contents.missing} of {run.rows} rows have no outcome" if run else "no run has begun"
        raise ResultsError(
            "RUN_INCOMPLETE",
            f"{contents.path.name}: {rows}.",
            "Take the run up again to its end, or write the rows that are there with --partial.",
        )
    head = Head(run.columns, run.info, run.preprocessing)
    with open_writers(outs, head, embedding=embedding) as writers:
        for record in contents.rows():
            writers.add(record.outcome, record.time)
            progress(record.outcome)
    return writers.written
