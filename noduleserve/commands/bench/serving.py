"""`noduleserve bench serving`: the server and its rivals under load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from noduleserve.release import Release

from ..console import err, extra_missing
from .keeping import OutOption, show_and_keep

if TYPE_CHECKING:
    from noduleserve.benchmarks.serving.options import ServingOptions

_BROKEN_OFF = 130  # as a shell has it of a command that Ctrl-C ended


def bench_serving(
    release: Annotated[Path, typer.Argument(help="The release that is served, and whose weights every rival has.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="That it was made from: scores are held against it; default: the release's FP32 graph."),
    ] = None,
    worklist: Annotated[Path | None, typer.Option(help="Nodules of your own; default: the phantom's.")] = None,
    concurrency: Annotated[str, typer.Option(help="Callers of the closed loops.")] = "1,2,4,8",
    calls: Annotated[int, typer.Option(min=1, help="Calls a point; p99 takes 100, its upper bound 368.")] = 200,
    turns: Annotated[int, typer.Option(min=1, help="In each, all ways are measured one after another.")] = 2,
    rates: Annotated[
        str, typer.Option(help="Open loops: shares of noduleserve's highest closed-loop rate, or `none`.")
    ] = "0.5,0.8",
    per_second: Annotated[bool, typer.Option("--per-second", help="--rates are nodules a second.")] = False,
    p99_under: Annotated[
        float | None, typer.Option(min=0.001, help="Search for the highest rate with a p99 under so many ms.")
    ] = None,
    transport: Annotated[
        list[str] | None,
        typer.Option(help="stream, unary or shared-memory; may be repeated, the first is compared with the rivals."),
    ] = None,
    rivals: Annotated[
        str | None,
        typer.Option(help="Of fastapi, fastapi+views, litserve, litserve+views, straightforward; or `none`."),
    ] = None,
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds for an answer.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 1,
    out: OutOption = None,
) -> None:
    """This system and its rivals under load: closed loops, open loops, and the highest rate within a bound.

    Every way answers the same nodules with the same weights, one way at a time, turn by turn.  A row whose scores
    differ by more than 1e-4 from FP32 PyTorch does not count.  Latency is counted from when a nodule was to be sent.
    Ctrl-C ends everything; what was measured by then is shown and written.

    Exit status: 0 measured, 130 broken off.

    Examples:

        noduleserve bench serving releases/may --checkpoint checkpoints/may --out serving/

        noduleserve bench serving releases/may --worklist tonight.csv --calls 1000 --turns 5 --p99-under 500

        noduleserve bench serving releases/may --transport stream --transport unary --rivals none --rates none

        noduleserve bench serving releases/may --rates 2,4,8 --per-second --rivals fastapi
    """
    try:
        import psutil  # noqa: F401

        from noduleserve.benchmarks.record.recording import release_facts
        from noduleserve.benchmarks.rivals.cases import cases_from
        from noduleserve.benchmarks.rivals.yardstick import Yardstick
        from noduleserve.benchmarks.serving.bench import bench_serving as measure
        from noduleserve.benchmarks.serving.field import entrants_of
    except ModuleNotFoundError as error:
        raise extra_missing(error, "bench") from None

    options = _options(concurrency, calls, turns, rates, per_second, p99_under, deadline, seed)
    ways, names = _ways(transport), _rivals(rivals, checkpoint)
    opened = Release.open(release)
    cases = cases_from(worklist, tell=err.print)
    yardstick = Yardstick.of(opened, cases, checkpoint, err.print)
    entrants = entrants_of(opened, ways, names, checkpoint, err.print)
    with _shown() as watcher:
        record, broken = measure(entrants, cases, yardstick, options, watcher, {"release": release_facts(opened)})
    show_and_keep(record, out)
    if broken:
        err.print("broken off")
        raise typer.Exit(_BROKEN_OFF)


def _options(
    concurrency: str,
    calls: int,
    turns: int,
    rates: str,
    per_second: bool,
    p99_under: float | None,
    deadline: float,
    seed: int,
) -> ServingOptions:
    from noduleserve.benchmarks.load.search import Bound
    from noduleserve.benchmarks.serving.options import ServingOptions

    callers = _numbers(concurrency, "--concurrency")
    if any(number != int(number) for number in callers):
        raise typer.BadParameter("Callers are whole numbers.", param_hint="--concurrency")
    return ServingOptions(
        concurrency=tuple(int(number) for number in callers),
        calls=calls,
        turns=min(turns, calls),
        rates=() if rates == "none" else _numbers(rates, "--rates"),
        per_second=per_second,
        bound=None if p99_under is None else Bound(99.0, p99_under / 1e3),
        deadline=deadline,
        seed=seed,
    )


def _numbers(words: str, option: str) -> tuple[float, ...]:
    """Positive numbers between commas, each once."""
    try:
        numbers = tuple(dict.fromkeys(float(word) for word in words.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise typer.BadParameter(f"{words!r} is not a list of positive numbers, such as 1,2,4.", param_hint=option)
    return numbers


def _ways(transports: Sequence[str] | None) -> Any:
    from noduleserve.benchmarks.serving.field import TRANSPORTS

    ways = tuple(dict.fromkeys(transports or ("stream",)))
    if strange := sorted({*ways} - {*TRANSPORTS}):
        raise typer.BadParameter(f"{strange[0]!r} is none of {', '.join(TRANSPORTS)}.", param_hint="--transport")
    return ways


def _rivals(words: str | None, checkpoint: Path | None) -> tuple[str, ...]:
    from noduleserve.benchmarks.serving.field import OF_CHECKPOINT, RIVALS

    if words is None:
        return tuple(name for name in RIVALS if checkpoint or name not in OF_CHECKPOINT)
    names = () if words == "none" else tuple(dict.fromkeys(words.split(",")))
    if strange := sorted({*names} - {*RIVALS}):
        raise typer.BadParameter(f"{strange[0]!r} is none of {', '.join(RIVALS)}.", param_hint="--rivals")
    if not checkpoint and (needing := sorted({*names} & {*OF_CHECKPOINT})):
        raise typer.BadParameter(f"{needing[0]} goes with --checkpoint.", param_hint="--rivals")
    return names


class _Lines:
    """Says what begins; of its calls nothing."""

    def tell(self, line: str) -> None:
        err.print(line, markup=False)

    def begin(self, what: str, calls: int) -> None:
        err.print(f"{what}, {calls} calls", markup=False)

    def heard(self, call: object) -> None:
        pass


class _Bar(_Lines):
    """A bar of the turn that goes on."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)

    def begin(self, what: str, calls: int) -> None:
        self._bar.reset(self._task, description=what, total=calls)

    def heard(self, call: object) -> None:
        self._bar.advance(self._task)


@contextlib.contextmanager
def _shown() -> Iterator[_Lines]:
    """A bar on a terminal, a line a turn elsewhere."""
    if not err.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, refresh_per_second=2) as bar:
        yield _Bar(bar)
