"""What a person sees of a run: a bar while it goes, a few lines when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from noduleserve.client.run import Options, Run, score_worklist
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule


def score_with_progress(nodules: Sequence[Nodule], server: str, results: Path | None, options: Options) -> Run:
    """`score_worklist` with a progress bar on standard error; nothing is drawn where that is no terminal."""
    errors: Counter[str] = Counter()
    warned = 0
    console = Console(stderr=True)
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[errors]}", style="red"),
        TextColumn("{task.fields[warned]}", style="yellow"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("scoring", total=len(nodules), errors="", warned="")

        def advance(outcome: Outcome) -> None:
            nonlocal warned
            errors.update([outcome.error_code] if outcome.error_code else [])
            warned += bool(outcome.score and outcome.warnings)
            failures = "  ".join(f"{code} {n}" for code, n in errors.most_common())
            bar.update(task, advance=1, errors=failures, warned=f"warned {warned}" if warned else "")

        return score_worklist(nodules, server, results, options, advance)


def summary_lines(run: Run) -> list[str]:
    """How many were scored, how many failed or were warned of and why, how long it took, and the release's notice."""
    total, scored = len(run.outcomes), run.counts["scored"]
    rate = f", {total / run.seconds:.2f} nodules a second" if run.seconds > 0 else ""
    warned = sum(bool(outcome.score and outcome.warnings) for outcome in run.outcomes)
    doubt = f" ({warned} with a warning)" if warned else ""
    lines = [f"{total} nodules: {scored} scored{doubt}, {total - scored} failed, in {run.seconds:.2f} s{rate}"]
    lines += [f"  {count} x {code}" for code, count in run.counts.most_common() if code != "scored"]
    lines += [f"  {count} scored with {code}" for code, count in run.warned.most_common()]
    lines.append(f"release {run.info.release or '(no answer)'}" + (f": {run.info.notice}" if run.info.notice else ""))
    return lines
