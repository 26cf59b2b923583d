"""Timing in turns, and the tables that come of it."""

from __future__ import annotations

import time

import pytest

from noduleserve.benchmarks.measure import (
    compare,
    interleaved,
    markdown,
    ratio,
    ratios_plot,
    ratios_table,
    shown,
    table,
)
from noduleserve.benchmarks.record.markdown import table_of


def test_ways_take_turns_after_one_run_to_warm_up() -> None:
    calls: list[str] = []
    times = interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, turns=2)
    assert "".join(calls) == "abc" * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_slower_baseline_is_a_ratio_above_one() -> None:
    found = compare(
        "sleeping", ("short", lambda: time.sleep(0.002)), ("long", lambda: time.sleep(0.02)), goal=2, turns=3
    )
    assert 2 < found.ratio <= 10.5
    assert found.spread[0] <= found.spread[1]
    assert (found.ours, found.baseline) == ("short", "long")


def test_a_ratio_is_of_medians_and_its_spread_of_single_turns() -> None:
    found = ratio("a thing", ("ours", "theirs"), [(1.0, 2.0), (2.0, 2.0), (4.0, 20.0)], goal=1.5)
    assert (found.ours_s, found.baseline_s, found.ratio) == (2.0, 2.0, 1.0)
    assert found.spread == (1.0, 5.0)
    assert "| 1 (1..5) | 1.5 MISSED |" in table([found])
    assert "| ours: 2.00 s | theirs: 2.00 s |" in table([found])


def test_ratios_for_a_record_have_a_goal_each() -> None:
    slow = ratio("a thing", ("ours", "theirs"), [(1.0, 2.0), (2.0, 2.0), (4.0, 20.0)], goal=1.5)
    quick = ratio("another", ("box", "scipy"), [(0.5, 2.0)], goal=3)
    made = ratios_table([slow, quick])
    assert made.rows[1] == ("another", "box", 500.0, "scipy", 2000.0, 4.0, 4.0, 4.0)
    shown_rows = table_of(made).splitlines()
    assert shown_rows[-2].endswith("| 1 | 1 | 5 | at least 1.5: MISSED |")
    assert shown_rows[-1].endswith("| 4 | 4 | 4 | at least 3: met |")
    (line,) = ratios_plot([slow, quick]).lines
    assert (line.x, line.y, line.low, line.high) == (("a thing", "another"), (1.0, 4.0), (1.0, 4.0), (5.0, 4.0))


@pytest.mark.parametrize(("value", "text"), [(0.0123456, "12.35 ms"), (1.234, "1.23 s")])
def test_seconds_are_shown_short(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_markdown_table() -> None:
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
