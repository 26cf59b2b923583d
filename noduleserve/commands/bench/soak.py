"""`noduleserve bench soak`: a long night, killed now and then: rate, memory, and the proof that nothing is lost."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from noduleserve.release import Release

from ..console import err
from .keeping import show_and_keep

_EVERY_S = 30.0  # between two lines where there is no terminal


def bench_soak(
    release: Annotated[Path | None, typer.Argument(help="What to serve; default: the demo's release.")] = None,
    nodules: Annotated[int, typer.Option(min=1, help="Rows of the worklist.")] = 20_000,
    bad: Annotated[float, typer.Option(min=0, max=0.9, help="Share of rows that cannot be scored.")] = 0.01,
    kills: Annotated[
        int, typer.Option(min=0, help="Kill the client so often, and the server half as often, once at least.")
    ] = 0,
    phantoms: Annotated[int, typer.Option(min=1, help="How many different CT; two seconds each to make.")] = 8,
    readers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read CT; default: as `noduleserve score` decides.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Nodules that a fresh run scores again.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder that keeps samples.csv, soak.json, worklist, journal and logs, and the record of the run."
        ),
    ] = None,
) -> None:
    """A long night: rate, memory by the second, and the proof that nothing was lost.

    Thousands of nodules of synthetic CT are scored on a real Triton by `noduleserve score`, as a process of its own.
    In the end the journal must show that every row has one outcome, and the one that it was made for.

    Exit status: 0 nothing lost and everything proved, 1 otherwise.

    Examples:

        noduleserve bench soak --nodules 20000 --kills 2 --out soak/

        noduleserve bench soak releases/may --nodules 500
    """
    from noduleserve.benchmarks.record.recording import Recording, release_facts
    from noduleserve.benchmarks.soak import SoakOptions, run_soak
    from noduleserve.demo.command import RELEASE

    # An exit that passes through here ends client and server; the default would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = SoakOptions(nodules, bad, phantoms, kills, readers, sample, seed)
    served = Release.open(release or RELEASE)
    with (
        _folder(out) as folder,
        Recording("soak", {"release": release_facts(served), **asdict(options)}) as recording,
    ):
        with _shown(nodules) as progress:
            soak = run_soak(served, options, folder, err.print, progress)
        for table in soak.tables():
            recording.table(table)
        for plot in soak.plots():
            recording.plot(plot)
    show_and_keep(recording.record, out and out / "record")
    if not soak.good:
        raise typer.Exit(1)


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """A new folder, kept where it has a name."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="noduleserve-soak-") as folder:
            yield Path(folder)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter(f"{out.name} is there and not an empty folder.", param_hint="--out")
    out.mkdir(parents=True, exist_ok=True)
    yield out


@contextlib.contextmanager
def _shown(nodules: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not err.is_terminal:
        yield _Lines(nodules)
        return
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("scoring", total=nodules)
        yield lambda outcomes: bar.update(task, completed=outcomes)


class _Lines:
    """Says how far a run is, every so often."""

    def __init__(self, nodules: int) -> None:
        self._nodules, self._began, self._next = nodules, 0.0, 0.0

    def __call__(self, outcomes: int) -> None:
        now = time.monotonic()
        if not self._began:
            self._began, self._next = now, now + _EVERY_S
        elif now >= self._next:
            self._next = now + _EVERY_S
            err.print(f"{outcomes} of {self._nodules} nodules after {now - self._began:.0f} s")
