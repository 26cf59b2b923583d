"""Loads do what they say: arrivals, deadlines, errors by code, and no stall that hides."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import numpy as np
import pytest
from scripted_rival import CASES, RIGHT, ScriptedRival, forever

from noduleserve.benchmarks.load.figures import figures_of
from noduleserve.benchmarks.load.generator import closed_loop, open_loop
from noduleserve.errors import ServerError

DEADLINE = 30.0


def arrivals() -> np.random.Generator:
    return np.random.default_rng(3)


class OneAtATime:
    """A server that takes calls one at a time and stalls once."""

    def __init__(self, at: int, seconds: float) -> None:
        self._at, self._seconds, self._lock = at, seconds, asyncio.Lock()

    async def __call__(self, number: int) -> None:
        async with self._lock:
            await asyncio.sleep(self._seconds if number == self._at else 0)


def test_a_stall_is_in_the_latencies_of_the_open_loop_and_hidden_in_the_closed() -> None:
    async def stalled(kind: str) -> int:
        rival = ScriptedRival(OneAtATime(at=20, seconds=0.5))
        if kind == "open":
            calls = await open_loop(rival, CASES, 100, 100, arrivals(), DEADLINE, warm_up_calls=0)
        else:
            calls = await closed_loop(rival, CASES, 1, 100, DEADLINE, warm_up_calls=0)
        assert len(calls) == 100 and not any(call.error for call in calls)
        return sum(call.latency > 0.25 for call in calls)

    hidden, seen = asyncio.run(stalled("closed")), asyncio.run(stalled("open"))
    assert hidden >= 1  # the one that stalled
    assert seen >= 10 * hidden  # and all that came meanwhile: 25 of 100 a second are to wait for 0.25 s


def test_a_late_generator_is_seen_and_its_lateness_is_latency() -> None:
    async def block(number: int) -> None:
        if number == 5:
            time.sleep(0.1)  # what a rival in this process may do to it

    calls = asyncio.run(open_loop(ScriptedRival(block), CASES, 200, 40, arrivals(), DEADLINE, warm_up_calls=0))
    late = [call for call in calls if call.lateness > 0.02]
    assert len(late) >= 3
    assert all(call.latency == pytest.approx(call.lateness + call.answered - call.sent) for call in late)
    assert figures_of(calls).starved


def test_arrivals_of_one_seed_are_one_pattern_at_every_rate() -> None:
    async def gaps(rate: float) -> np.ndarray:
        calls = await open_loop(ScriptedRival(), CASES, rate, 30, arrivals(), DEADLINE)
        return np.diff(sorted(call.intended for call in calls))

    np.testing.assert_allclose(asyncio.run(gaps(300)), 2 * asyncio.run(gaps(600)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_nodules_are_taken_in_turn_and_warm_up_does_not_count(kind: str) -> None:
    rival = ScriptedRival()
    if kind == "closed":
        calls = asyncio.run(closed_loop(rival, CASES, 2, 7, DEADLINE, warm_up_calls=4))
    else:
        calls = asyncio.run(open_loop(rival, CASES, 1e4, 7, arrivals(), DEADLINE, warm_up_calls=4))
    assert Counter(call.case for call in calls) == {"a": 3, "b": 2, "c": 2}
    assert len(rival.asked) == 11
    assert all(call.raw is RIGHT for call in calls)


def test_the_closed_loop_has_so_many_callers() -> None:
    async def wait(_number: int) -> None:
        await asyncio.sleep(0.001)

    rival = ScriptedRival(wait)
    asyncio.run(closed_loop(rival, CASES, 5, 40, DEADLINE))
    assert rival.most_in_flight == 5


async def stubborn(_number: int) -> None:
    """Goes on although it is told to end."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        time.sleep(0.01)


@pytest.mark.parametrize("act", [forever, stubborn])
def test_deadlines_are_strict(act: object) -> None:
    rival = ScriptedRival(act)  # type: ignore[arg-type]
    closed = asyncio.run(closed_loop(rival, CASES, 2, 4, 0.05, warm_up_calls=0))
    opened = asyncio.run(open_loop(rival, CASES, 1e3, 4, arrivals(), 0.05, warm_up_calls=0))
    assert [call.error for call in closed + opened] == ["ANSWER_LATE"] * 8
    assert all(call.latency >= 0.05 and call.raw is None for call in closed + opened)
    assert rival.in_flight == 0


def test_errors_are_counted_by_code_and_their_time_is_kept_apart() -> None:
    async def fail(number: int) -> None:
        if number % 10 == 0:
            raise ServerError("SERVER_LOST", "it broke")
        if number % 10 == 1:
            await asyncio.sleep(0.05)
            raise ValueError

    calls = asyncio.run(closed_loop(ScriptedRival(fail), CASES, 1, 40, DEADLINE, warm_up_calls=0))
    figures = figures_of(calls)
    assert figures.errors == {"SERVER_LOST": 4, "ValueError": 4}
    assert (figures.calls, figures.answered, figures.failed) == (40, 32, 8)
    assert figures.failed_max is not None and figures.failed_max >= 0.05
    assert figures.max == max(call.latency for call in calls if not call.error)


def test_an_overloaded_run_ends_and_whoever_waits_is_counted() -> None:
    rival = ScriptedRival(forever)
    calls = asyncio.run(open_loop(rival, CASES, 1e4, 500, arrivals(), DEADLINE, warm_up_calls=0, most_outstanding=5))
    assert [call.error for call in calls] == ["OVERLOADED"] * 6
    assert rival.in_flight == 0
    figures = figures_of(calls)
    assert figures.overloaded and figures.p50.seconds is None


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_nothing_runs_on_after_a_run_that_is_broken_off(kind: str) -> None:
    rival = ScriptedRival(forever)

    async def broken_off() -> None:
        if kind == "closed":
            load = closed_loop(rival, CASES, 3, 9, DEADLINE, warm_up_calls=0)
        else:
            load = open_loop(rival, CASES, 1e4, 3, arrivals(), DEADLINE, warm_up_calls=0)
        task = asyncio.create_task(load)
        while rival.in_flight < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rival.in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(broken_off())
