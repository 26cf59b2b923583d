"""The measurement itself: every way under every load, turn by turn, one of them busy at a time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..load.call import Call
from ..load.figures import LoadFigures, figures_of
from ..load.generator import closed_loop, open_loop, warm_up
from ..load.search import Bound, highest_rate
from ..load.triton_statistics import HasStatistics, settled
from ..load.usage import Usage, cpu_seconds
from ..rivals.base import Case, Rival
from .entrants import Entrant, Stage
from .found import Found, Load, Turn
from .options import ServingOptions

_WARM_UP_LEAST = 3


class Watcher(Protocol):
    """Is told how far a run is."""

    def tell(self, line: str) -> None:
        """Something that happens once."""
        ...

    def begin(self, what: str, calls: int) -> None:
        """A turn of so many calls begins."""
        ...

    def heard(self, call: Call) -> None:
        """A call of that turn has ended."""
        ...


def run(
    entrants: Sequence[Entrant], cases: Sequence[Case], options: ServingOptions, found: Found, watcher: Watcher
) -> None:
    """Measure; call it from the main thread, which the kernel ties the servers' lives to.

    Ctrl-C and SIGTERM end every server; what was measured by then is in `found`, which is marked as broken off.

    Args:
        entrants: who takes part; the first of ours is what others are compared with.
        cases: nodules that are asked about, over and over.
        options: see ServingOptions.
        found: takes the figures.
        watcher: is told how far it is.

    Raises:
        NoduleserveError: this system itself cannot be started.
    """
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        found.broken = True
        asyncio.run(_Run(cases, options, found, watcher).go(entrants))
        found.broken = False


class _Run:
    """One run."""

    def __init__(self, cases: Sequence[Case], options: ServingOptions, found: Found, watcher: Watcher) -> None:
        self._cases, self._options, self._found, self._watcher = cases, options, found, watcher

    async def go(self, entrants: Sequence[Entrant]) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        found = self._found
        async with Stage(entrants, self._watcher.tell) as self._stage:
            found.entrants, found.what = self._stage.entrants, self._stage.what
            found.left_out, found.together = self._stage.left_out, self._stage.together
            await self._closed_loops()
            await self._open_loops()
            await self._searches()

    async def _closed_loops(self) -> None:
        for concurrency in self._options.concurrency:
            for turn in range(self._options.turns):
                for entrant in self._order(turn):
                    await self._turn(entrant, Load("closed", concurrency), turn)

    async def _open_loops(self) -> None:
        rates = self._options.rates
        if rates and not self._options.per_second:
            best = self._found.best_rate(self._found.reference().name)
            if best is None:
                self._watcher.tell("no open loop: nothing that counts tells what rate to offer")
            rates = tuple(share * best for share in rates) if best else ()
        for rate in rates:
            for turn in range(self._options.turns):
                for entrant in self._order(turn):
                    await self._turn(entrant, Load("open", rate), turn)

    def _order(self, turn: int) -> list[Entrant]:
        """Every turn begins with another one, so that none always comes after the same."""
        entrants = self._found.entrants
        first = turn % len(entrants)
        return entrants[first:] + entrants[:first]

    async def _turn(self, entrant: Entrant, load: Load, turn: int) -> None:
        options, closed = self._options, load.kind == "closed"
        calls = options.calls_of_turn(turn)
        if not calls:
            return
        self._watcher.begin(f"{load}, turn {turn + 1} of {options.turns}: {entrant.name}", calls)
        async with self._stage.lend(entrant) as rival:
            callers = int(load.amount) if closed else 1
            await warm_up(rival, self._cases, callers, max(callers, _WARM_UP_LEAST), options.deadline)
            before = await _statistics(rival)
            with Usage(rival.pids) as usage, self._idle(entrant):
                done = await self._loop(rival, load, turn, calls)
            after = await _statistics(rival)
        looks = None if before is None or after is None else (before, after)
        self._found.add(entrant, load, Turn(done, looks, usage.used, self._found.difference(done)))

    async def _loop(self, rival: Rival, load: Load, turn: int, calls: int) -> list[Call]:
        deadline, heard = self._options.deadline, self._watcher.heard
        if load.kind == "closed":
            return await closed_loop(
                rival, self._cases, int(load.amount), calls, deadline, warm_up_calls=0, heard=heard
            )
        arrivals = np.random.default_rng([self._options.seed, turn])  # the same for every way
        return await open_loop(rival, self._cases, load.amount, calls, arrivals, deadline, warm_up_calls=0, heard=heard)

    @contextlib.contextmanager
    def _idle(self, busy: Entrant) -> Iterator[None]:
        """See what the servers of all others take meanwhile; it is to be nothing."""
        others = {name: rival for name, rival in self._stage.running.items() if name != busy.name}
        before = {name: cpu_seconds(rival.pids) for name, rival in others.items()}
        began = time.perf_counter()
        yield
        wall = time.perf_counter() - began
        for name, rival in others.items():
            busy_cores = (cpu_seconds(rival.pids) - before[name]) / wall
            self._found.idle[name] = max(self._found.idle.get(name, 0.0), busy_cores)

    async def _searches(self) -> None:
        bound = self._options.bound
        if bound is None:
            return
        best = self._found.best_rate(self._found.reference().name)
        for entrant in self._found.entrants:
            start = self._found.best_rate(entrant.name) or best or 1.0
            async with self._stage.lend(entrant) as rival:
                await warm_up(rival, self._cases, 1, _WARM_UP_LEAST, self._options.deadline)
                await self._search(entrant, rival, bound, start)

    async def _search(self, entrant: Entrant, rival: Rival, bound: Bound, start: float) -> None:
        options, scored = self._options, list[Call]()
        calls = max(options.calls, bound.calls)

        async def measure(rate: float, pattern: int) -> LoadFigures:
            self._watcher.begin(f"p{bound.percent:g} at {rate:.3g} per second: {entrant.name}", calls)
            arrivals = np.random.default_rng([options.seed, pattern])
            done = await open_loop(
                rival,
                self._cases,
                rate,
                calls,
                arrivals,
                options.deadline,
                warm_up_calls=0,
                heard=self._watcher.heard,
            )
            scored.extend(done)
            return figures_of(done)

        search = await highest_rate(measure, bound, start)
        self._found.searches[entrant.name] = search, self._found.difference(scored)


async def _statistics(rival: Rival) -> object:
    return await settled(rival) if isinstance(rival, HasStatistics) else None
