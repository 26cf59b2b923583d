"""`noduleserve bench tune`: the server settings that suit this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep

SETTINGS = "settings.toml"


def bench_tune(
    release: Annotated[Path, typer.Argument(help="The release to serve, of any target.")],
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: the phantom's.")] = None,
    goal: Annotated[
        Literal["throughput", "latency"],
        typer.Option(help="Nodules a second with --in-flight, or the median latency of one at a time."),
    ] = "throughput",
    in_flight: Annotated[int, typer.Option(min=1, help="Nodules sent and not answered, as in the night.")] = 8,
    transport: Annotated[
        Literal["stream", "unary", "shared-memory"], typer.Option(help="The client's way to the server.")
    ] = "stream",
    budget: Annotated[float, typer.Option(min=0.01, help="Minutes; the search ends in time to confirm its best.")] = 20,
    turns: Annotated[int, typer.Option(min=1, help="Of each trial: the release's own settings, the others.")] = 2,
    confirm_turns: Annotated[int, typer.Option(min=3, help="Of the winner: own, winner, own.")] = 5,
    block: Annotated[float, typer.Option(min=0.1, help="Seconds that a load should take.")] = 5.0,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 300.0,
    out: OutOption = None,
) -> None:
    """Find instances, threads and batches that serve a release better on this machine; no score changes.

    Every choice is measured in turns against the release's own settings, on servers that stand side by side: have
    memory for two, and no other work on the machine. The winner is measured once more, and its settings.toml is only
    written if it wins every turn by more than the release's own settings differ from themselves. That they are the
    best is a result like any other.

    Examples:

        noduleserve bench tune releases/may --out tuning-may/

        noduleserve bench tune releases/may --worklist tonight.csv --goal latency --budget 60 --out tuning-may/

        noduleserve serve releases/may --settings tuning-may/settings.toml
    """
    try:
        import psutil  # noqa: F401

        from noduleserve.benchmarks.rivals.cases import cases_from
        from noduleserve.benchmarks.tuning.tune import TuneOptions, tune
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None

    opened = Release.open(release)
    cases = cases_from(worklist, tell=err.print)
    options = TuneOptions(goal, in_flight, budget * 60, transport, turns, confirm_turns, block, deadline)
    tuned = tune(opened, cases, options, lambda line: err.print(line, markup=False))
    show_and_keep(tuned.record, out)
    if not tuned.text:
        print("The release's own settings stay: nothing was better beyond chance.")
    elif out is None:
        print(tuned.text, end="")
    else:
        (out / SETTINGS).write_text(tuned.text)
        print(f"settings: {out / SETTINGS}")
