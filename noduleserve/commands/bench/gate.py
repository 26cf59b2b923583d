"""`noduleserve bench gate`: a few ratios that must not fall."""

from __future__ import annotations

import typer

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep


def bench_gate(out: OutOption = None) -> None:
    """Refuse a change that made something slow: a few ratios within half a minute, with bounds that noise cannot reach.

    Exit status: 0 all are fast enough, 1 one is not, twice in a row.

    Example:

        noduleserve bench gate
    """
    try:
        from noduleserve.benchmarks.gate import gate_rows, judge, verdict_table
        from noduleserve.benchmarks.record.recording import Recording

        with Recording("gate", {}) as recording, gate_rows() as rows:
            verdicts = []
            for row in rows:
                verdicts.append(judge(row))
                err.print(f"{row.name}: {verdicts[-1].ratio:.3g}, at least {row.at_least:g}")
            recording.table(verdict_table(verdicts))
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None
    show_and_keep(recording.record, out)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        err.print(f"TOO SLOW, twice: {verdict.row.name}: {verdict.ratio:.3g}, at least {verdict.row.at_least:g}")
    if failed:
        raise typer.Exit(1)
