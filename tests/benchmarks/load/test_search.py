"""The search finds the rate that it is known to be, and says so where there is none."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from noduleserve.benchmarks.load.call import Call
from noduleserve.benchmarks.load.figures import LoadFigures, figures_of
from noduleserve.benchmarks.load.search import Bound, highest_rate

SERVICE_S, CALLS = 0.02, 400
BOUND = Bound(95.0, 0.1)


def queue(rate: float, pattern: int) -> LoadFigures:
    """Poisson arrivals at a server that takes one nodule at a time and always as long (M/D/1)."""
    arrivals = np.cumsum(np.random.default_rng([7, pattern]).standard_exponential(CALLS)) / rate
    free, calls = 0.0, []
    for arrived in arrivals.tolist():
        free = max(free, arrived) + SERVICE_S
        calls.append(Call("a", arrived, arrived, free, np.zeros(1)))
    return figures_of(calls)


async def measure(rate: float, pattern: int) -> LoadFigures:
    return queue(rate, pattern)


def known_rate(pattern: int) -> float:
    """To a thousandth, by trying all; waiting only grows with the rate of one pattern."""
    rates = np.arange(10.0, 100.0, 0.01)
    low, high = 0, len(rates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if BOUND.kept(queue(rates[middle], pattern)) else (low, middle)
    return float(rates[low])


@pytest.mark.parametrize("start", [1.0, 25.0, 40.0, 900.0])
def test_the_highest_rate_of_a_queue_is_within_the_bracket(start: float) -> None:
    search = asyncio.run(highest_rate(measure, BOUND, start, repeats=0))
    assert search.rate is not None and search.above is not None
    assert search.rate <= known_rate(0) + 0.01 and known_rate(0) - 0.01 <= search.above
    assert search.above / search.rate <= 1.05
    assert search.rate < 1 / SERVICE_S


def test_a_rate_must_keep_the_bound_with_other_arrivals_too() -> None:
    search = asyncio.run(highest_rate(measure, BOUND, 25.0, repeats=3))
    assert search.rate is not None and search.above is not None and search.at_rate is not None
    repeated = [step for step in search.steps if step.pattern]
    assert [step.pattern for step in repeated[-3:]] == [1, 2, 3]
    assert all(step.kept and step.rate == search.rate for step in repeated[-3:])
    assert search.rate <= min(known_rate(pattern) for pattern in range(4)) + 0.01
    assert BOUND.kept(search.at_rate)
    refuted = [step.rate for step in repeated if not step.kept]
    assert all(rate >= search.above for rate in refuted)


def test_no_rate_or_every_rate_is_said() -> None:
    hopeless = asyncio.run(highest_rate(measure, Bound(95.0, SERVICE_S / 2), 25.0))
    assert hopeless.rate is None and hopeless.above is not None and hopeless.at_rate is None
    endless = asyncio.run(highest_rate(measure, Bound(95.0, 1e6), 25.0))
    assert endless.above is None and endless.rate == 25.0 * 2**8


def test_an_error_breaks_the_bound_however_quick_all_others_are() -> None:
    good = [Call("a", i, i, i + 0.001, np.zeros(1)) for i in range(999)]
    assert BOUND.kept(figures_of(good))
    assert not BOUND.kept(figures_of([*good, Call("a", 999, 999, 999, None, "SERVER_BUSY")]))
    assert not BOUND.kept(figures_of(good[: BOUND.calls - 1]))
