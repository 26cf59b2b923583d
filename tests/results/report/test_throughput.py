"""Outcomes over time, steps and pauses by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from noduleserve.results.report.throughput import MOST_PAUSES, MOST_STEPS, throughput

START = datetime(2026, 3, 4, 22, 0, 0, tzinfo=UTC)


def at(*seconds: float) -> list[float]:
    return [START.timestamp() + second for second in seconds]


def test_steps_and_rates_by_hand() -> None:
    # 0..95 s fits 96 steps of a second; the last holds what comes at its end too.
    flow = throughput(at(95, 0, 0.5, 94.5), UTC)
    assert flow is not None
    assert (flow.begin, flow.end, flow.step) == (START, START + timedelta(seconds=95), 1)
    assert len(flow.counts) == 95 and sum(flow.counts) == 4
    assert (flow.counts[0], flow.rates[0], flow.counts[-1]) == (2, 120, 2)
    assert flow.seconds == 95 and flow.mean == pytest.approx(4 / 95 * 60)
    assert flow.start(3) == START + timedelta(seconds=3)


def test_a_short_last_step_has_a_rate_of_its_own_length() -> None:
    flow = throughput(at(*range(0, 100)), UTC)  # 99 s: steps of 2 s, the last of one
    assert flow is not None
    assert (flow.step, len(flow.counts)) == (2, 50)
    assert flow.counts[-2:] == (2, 2) and flow.rates[-2:] == (60, 120)


def test_a_server_that_was_away_is_a_pause() -> None:
    times = [*range(0, 600), *range(2400, 3000)]
    flow = throughput(at(*times), UTC)
    assert flow is not None
    (pause,) = flow.pauses
    assert pause.begin == START + timedelta(seconds=599)
    assert pause.seconds == 1801
    assert (pause.left, pause.width) == (pytest.approx(599 / 2999), pytest.approx(1801 / 2999))
    assert flow.shortest == 60 and flow.more_pauses == 0
    quiet = [flow.rates[k] for k in range(len(flow.rates)) if 600 <= k * flow.step < 2399 - flow.step]
    assert quiet and not any(quiet)


def test_a_slow_run_is_no_run_of_pauses() -> None:
    flow = throughput(at(*(120 * k for k in range(30))), UTC)
    assert flow is not None
    assert flow.shortest == 3600 and not flow.pauses


def test_only_the_longest_pauses_are_listed_in_the_order_of_time() -> None:
    begins = np.cumsum([100 + 10 * (k % 7) for k in range(20)])
    times = [t + s for t in begins for s in range(5)]
    flow = throughput(at(*times), UTC)
    assert flow is not None
    assert len(flow.pauses) == MOST_PAUSES and flow.more_pauses == 19 - MOST_PAUSES
    assert [p.begin for p in flow.pauses] == sorted(p.begin for p in flow.pauses)
    assert min(p.seconds for p in flow.pauses) >= 126


@pytest.mark.parametrize("days", [0.001, 0.3, 1, 40, 4000])
def test_every_length_of_run_fits_the_line(days: float) -> None:
    flow = throughput(at(*np.linspace(0, days * 86400, 500)), UTC)
    assert flow is not None
    assert 1 <= len(flow.rates) <= MOST_STEPS and sum(flow.counts) == 500
    assert len(flow.ticks) <= 6
    assert all(0 < place < 1 for place, _ in flow.ticks)


def test_ticks_are_round_times_of_the_clock_that_is_shown() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    flow = throughput(at(*np.linspace(0, 4 * 3600, 50)), zone)
    assert flow is not None
    assert flow.begin.strftime("%H:%M %Z") == "03:30 UTC+05:30"
    assert [(time.minute, time.second) for _, time in flow.ticks] == [(0, 0)] * len(flow.ticks)
    assert len(flow.ticks) == 4
    for place, time in flow.ticks:
        assert place == pytest.approx((time - START).total_seconds() / (4 * 3600))


@pytest.mark.parametrize("times", [[], at(5), at(5, 5, 5), [math.nan, math.nan], [math.nan, *at(1)]])
def test_times_that_span_nothing_tell_nothing(times: list[float]) -> None:
    assert throughput(times, UTC) is None


def test_outcomes_without_a_time_are_not_counted() -> None:
    flow = throughput([*at(0, 10), math.nan], UTC)
    assert flow is not None and sum(flow.counts) == 2
