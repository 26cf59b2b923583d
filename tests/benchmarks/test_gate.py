"""The gate fails where a way has become slow, twice in a row, and only there; time is a clock that the ways turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from noduleserve.benchmarks import gate
from noduleserve.benchmarks.gate import Row, judge, verdict_table
from noduleserve.commands.bench import bench


class Clock:
    """Stands still but for the ways, each of which takes as long as it is said to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def way(self, *seconds: float) -> Callable[[], None]:
        """A way that takes so long: each time the next, and the last from then on."""
        costs = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def work() -> None:
            self.now += next(costs)

        return work


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_fast_way_passes_at_once(clock: Clock) -> None:
    verdict = judge(Row("views", clock.way(2.0), clock.way(262.0), 25, "131"), clock)
    assert (verdict.passed, verdict.ratio, verdict.attempts, len(verdict.ratios)) == (True, 131, 1, 3)


def test_a_way_that_has_become_slow_fails_twice(clock: Clock) -> None:
    verdict = judge(Row("views", clock.way(20.0), clock.way(262.0), 25, "131"), clock)
    assert (verdict.passed, verdict.ratio, verdict.attempts) == (False, pytest.approx(13.1), 2)
    (goal,) = verdict_table([verdict]).goals
    assert not goal.met(verdict.ratio)
    assert goal.met(25)


def test_noise_of_one_attempt_is_forgiven(clock: Clock) -> None:
    row = Row("views", clock.way(1.0, 100.0, 100.0, 100.0, 1.0), clock.way(50.0), 25, "50")
    verdict = judge(row, clock)
    assert (verdict.passed, verdict.ratio, verdict.attempts) == (True, 50, 2)


def test_the_first_run_is_not_timed_and_one_slow_turn_decides_nothing(clock: Clock) -> None:
    verdict = judge(Row("views", clock.way(1000.0, 1.0, 90.0, 1.0), clock.way(30.0), 25, "30"), clock)
    assert (verdict.passed, verdict.attempts) == (True, 1)


def test_a_run_of_many_counts_each_of_them(clock: Clock) -> None:
    verdict = judge(Row("served", clock.way(4.0), clock.way(1.0), 9, "10", ours_counts=40), clock)
    assert (verdict.passed, verdict.ratio) == (True, 10)


@pytest.mark.parametrize(("seconds", "status"), [(2.0, 0), (20.0, 1)])
def test_the_command_ends_with_1_and_the_row_that_failed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: float, status: int
) -> None:
    rows = [Row(name, clock.way(cost), clock.way(262.0), 25, "131") for name, cost in (("a", 1.0), ("b", seconds))]

    @contextlib.contextmanager
    def few_rows() -> Iterator[list[Row]]:
        yield rows

    monkeypatch.setattr(gate, "gate_rows", few_rows)
    monkeypatch.setattr(gate, "judge", lambda row: judge(row, clock))
    result = CliRunner().invoke(bench, ["gate"])
    assert result.exit_code == status
    assert ("MISSED" in result.output) is (status == 1)
