"""Calls to a way of scoring nodules: in a closed loop, or in an open one that a stall cannot slow down."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..rivals.base import Case, Rival
from .call import LATE, OVERLOADED, Call

__all__ = ["MOST_OUTSTANDING", "Call", "closed_loop", "open_loop", "warm_up"]

MOST_OUTSTANDING = 1000
_LEAD_S = 0.01  # between the decision to begin and the first arrival
_WARM_UP_LEAST = 3

Heard = Callable[[Call], None]


def _deaf(_call: Call) -> None:
    """Nobody listens."""


async def warm_up(rival: Rival, cases: Sequence[Case], concurrency: int, calls: int, deadline: float) -> None:
    """Calls that do not count, whatever comes of them; all have ended when it returns.

    Args:
        rival: to call.
        cases: taken in turn.
        concurrency: calls at a time.
        calls: how many.
        deadline: seconds for each.
    """
    await _workers(rival, cases, concurrency, calls, deadline, _deaf)


async def closed_loop(
    rival: Rival,
    cases: Sequence[Case],
    concurrency: int,
    calls: int,
    deadline: float,
    *,
    warm_up_calls: int | None = None,
    heard: Heard = _deaf,
) -> list[Call]:
    """So many callers, each of which sends its next nodule when it has the answer to the one before.

    A server that stalls is asked less, so that latencies of a closed loop say nothing of what a caller with a schedule
    of its own would see: see `open_loop`.

    Args:
        rival: to call.
        cases: taken in turn.
        concurrency: callers.
        calls: that count, altogether.
        deadline: seconds for an answer; strict, whatever the rival makes of it.
        warm_up_calls: that come first and do not count; default: one a caller, three at least.
        heard: is told of every call that counts.

    Returns:
        As many calls, in the order in which they ended.
    """
    first = max(concurrency, _WARM_UP_LEAST) if warm_up_calls is None else warm_up_calls
    await warm_up(rival, cases, concurrency, first, deadline)
    return await _workers(rival, cases, concurrency, calls, deadline, heard)


async def open_loop(
    rival: Rival,
    cases: Sequence[Case],
    rate: float,
    calls: int,
    rng: np.random.Generator,
    deadline: float,
    *,
    warm_up_calls: int = _WARM_UP_LEAST,
    most_outstanding: int = MOST_OUTSTANDING,
    heard: Heard = _deaf,
) -> list[Call]:
    """Poisson arrivals: every call is sent at its own time, however many are still waiting.

    Latency and deadline count from that time, also where the generator was late (Call.lateness).

    Args:
        rival: to call.
        cases: taken in turn.
        rate: calls a second, on average.
        calls: that count.
        rng: of the arrivals; the same state at another rate gives the same pattern, scaled.
        deadline: seconds for an answer; strict.
        warm_up_calls: that come first, one by one, and do not count.
        most_outstanding: calls waiting at a time, past which the run is overloaded and ends: nothing more is sent, and
            what still waits gets the error OVERLOADED.
        heard: is told of every call that counts.

    Returns:
        The calls that were sent, in the order in which they ended.
    """
    await warm_up(rival, cases, 1, warm_up_calls, deadline)
    gaps = rng.standard_exponential(calls) / rate
    return await _OpenLoop(rival, cases, gaps, deadline, most_outstanding, heard).run()


async def _workers(
    rival: Rival, cases: Sequence[Case], concurrency: int, calls: int, deadline: float, heard: Heard
) -> list[Call]:
    done: list[Call] = []
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:  # all workers take from one
            done.append(await _call(rival, cases[number % len(cases)], time.perf_counter(), deadline))
            heard(done[-1])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, calls)):
            group.create_task(work())
    return done


class _OpenLoop:
    """One run of an open loop.

    A thread waits for the arrivals, since asyncio's own timers go off up to a millisecond late.
    """

    def __init__(
        self,
        rival: Rival,
        cases: Sequence[Case],
        gaps: NDArray[np.float64],
        deadline: float,
        most_outstanding: int,
        heard: Heard,
    ) -> None:
        self._rival, self._cases, self._gaps = rival, cases, gaps
        self._deadline, self._most, self._heard = deadline, most_outstanding, heard
        self._done: list[Call] = []
        self._waiting: dict[asyncio.Task[None], tuple[str, float, float]] = {}  # -> case, intended, sent
        self._arrived = 0
        self._overloaded = False
        self._failure: BaseException | None = None  # of whoever is told
        self._ended = threading.Event()  # no more arrivals
        self._over = asyncio.Event()  # nothing is waited for

    async def run(self) -> list[Call]:
        loop = asyncio.get_running_loop()
        times = (time.perf_counter() + _LEAD_S + np.cumsum(self._gaps)).tolist()
        clock = threading.Thread(target=self._keep_time, args=(loop, times), daemon=True)
        clock.start()
        try:
            if times:
                await self._over.wait()
        finally:
            self._ended.set()
            for task in self._waiting:
                task.cancel()
            await asyncio.gather(*self._waiting, return_exceptions=True)
            clock.join()
        if self._failure:
            raise self._failure
        return self._done

    def _keep_time(self, loop: asyncio.AbstractEventLoop, times: Sequence[float]) -> None:
        for number, due in enumerate(times):
            while (left := due - time.perf_counter()) > 0:
                if self._ended.wait(left):
                    return
            if self._ended.is_set():
                return
            loop.call_soon_threadsafe(self._arrive, number, due)

    def _arrive(self, number: int, due: float) -> None:
        if self._ended.is_set():
            return
        case = self._cases[number % len(self._cases)]
        self._arrived += 1
        task = asyncio.get_running_loop().create_task(self._one(case, due))
        self._waiting[task] = (case.name, due, time.perf_counter())
        task.add_done_callback(self._left)
        if len(self._waiting) > self._most:
            self._give_up()

    async def _one(self, case: Case, due: float) -> None:
        call = await _call(self._rival, case, due, self._deadline)
        if not self._overloaded:  # else it has been counted
            self._keep(call)

    def _keep(self, call: Call) -> None:
        self._done.append(call)
        self._heard(call)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._waiting.pop(task, None)
        if not task.cancelled() and (failure := task.exception()):
            self._failure = failure
            self._over.set()
        elif not self._waiting and (self._arrived == len(self._gaps) or self._overloaded):
            self._over.set()

    def _give_up(self) -> None:
        """End as overloaded: whoever still waits has waited until now in vain."""
        self._overloaded = True
        self._ended.set()
        now = time.perf_counter()
        for task, (case, due, sent) in list(self._waiting.items()):
            if task.cancel():
                self._keep(Call(case, due, sent, now, None, OVERLOADED))


async def _call(rival: Rival, case: Case, intended: float, deadline: float) -> Call:
    """One call, never longer than its deadline."""
    sent = time.perf_counter()
    try:
        async with asyncio.timeout(deadline - (sent - intended)):
            raw = await rival.score(case, deadline)
    except TimeoutError:
        return Call(case.name, intended, sent, time.perf_counter(), None, LATE)
    except Exception as error:
        return Call(case.name, intended, sent, time.perf_counter(), None, code_of(error))
    answered = time.perf_counter()
    if answered - intended > deadline:  # the rival held on to a call that was told to end
        return Call(case.name, intended, sent, answered, None, LATE)
    return Call(case.name, intended, sent, answered, raw)


def code_of(error: Exception) -> str:
    """Under which name an error is counted."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and code else type(error).__name__
