"""Percentiles are nearest ranks, come with what they rest on, and are withheld where they rest on nothing."""

from __future__ import annotations

import numpy as np
import pytest

from noduleserve.benchmarks.load.call import Call
from noduleserve.benchmarks.load.figures import calls_needed, figures_of, figures_of_turns, percentile_of, rank_interval


def calls_of(latencies: np.ndarray, errors: int = 0, start: float = 100.0) -> list[Call]:
    """One after another, the last ones without an answer."""
    raw = np.zeros(2)
    answered = [Call("a", start + i, start + i, start + i + s, raw) for i, s in enumerate(latencies)]
    end = start + len(latencies)
    return answered + [Call("a", end, end, end + 0.001, None, "SERVER_BUSY") for _ in range(errors)]


@pytest.mark.parametrize("n", [100, 101, 137, 1000])
def test_percentiles_are_those_of_numpy(n: int) -> None:
    latencies = np.random.default_rng(n).lognormal(size=n)
    figures = figures_of(calls_of(latencies))
    for found in (figures.p50, figures.p90, figures.p95, figures.p99):
        wanted = np.percentile(latencies, found.percent, method="inverted_cdf")
        assert found.seconds == pytest.approx(wanted, abs=1e-9)
        assert found.calls == n
        assert found.low is not None and found.low <= found.seconds
        assert found.high is None or found.high >= found.seconds
    assert figures.max == pytest.approx(latencies.max())


@pytest.mark.parametrize(("percent", "needed"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_percentile_needs_a_call_beyond_it(percent: float, needed: int) -> None:
    ordered = np.arange(1.0, 2001)
    assert calls_needed(percent) == needed
    assert percentile_of(ordered[: needed - 1], needed - 1, percent).seconds is None
    assert percentile_of(ordered[:needed], needed, percent).seconds == needed - 1


def test_an_error_never_makes_a_percentile_better() -> None:
    latencies = np.arange(1.0, 96)
    figures = figures_of(calls_of(latencies, errors=5))
    assert figures.p95.seconds == 95  # of 100 calls, five of them without an answer
    assert figures.p99.seconds is None
    assert figures.p90.seconds == 90
    assert figures_of(calls_of(latencies[:10], errors=90)).p50.seconds is None


@pytest.mark.parametrize("percent", [50, 99])
def test_intervals_cover_the_true_percentile(percent: float) -> None:
    rng, n, runs = np.random.default_rng(1), 500, 2000
    low, high = rank_interval(n, percent)
    assert low is not None and high is not None
    ordered = np.sort(rng.exponential(size=(runs, n)), axis=1)
    true = -np.log(1 - percent / 100)
    covered = np.mean((ordered[:, low - 1] <= true) & (true <= ordered[:, high - 1]))
    assert 0.94 <= covered <= 0.99


def test_an_interval_without_an_end_says_so() -> None:
    assert rank_interval(367, 99)[1] is None
    assert rank_interval(368, 99)[1] == 368
    assert rank_interval(5, 50) == (None, None)
    assert rank_interval(6, 50) == (1, 6)


def test_the_rate_is_of_answers_from_the_first_intended_send_to_the_last_answer() -> None:
    one = calls_of(np.full(10, 0.5), errors=1)
    figures = figures_of(one)
    assert figures.wall == pytest.approx(9.5)
    assert figures.rate == pytest.approx(10 / 9.5)
    both = figures_of_turns([one, calls_of(np.full(10, 0.5), start=900.0)])
    assert both.wall == pytest.approx(19.0)
    assert both.rate == pytest.approx(20 / 19)


def test_nothing_has_no_figures() -> None:
    figures = figures_of([])
    assert (figures.calls, figures.rate, figures.max, figures.p50.seconds) == (0, 0.0, None, None)
