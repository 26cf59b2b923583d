"""The serving benchmark with scripted ways: what counts, what is left out, and what a broken run leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from scripted_rival import CASES, RIGHT, YARDSTICK, ScriptedRival

from noduleserve.benchmarks.load.search import Bound
from noduleserve.benchmarks.record.record import Record, Table
from noduleserve.benchmarks.serving.bench import bench_serving
from noduleserve.benchmarks.serving.entrants import Entrant, Role
from noduleserve.benchmarks.serving.options import ServingOptions
from noduleserve.errors import NoduleserveError, ServerError

pytest.importorskip("psutil", reason="tells processor time and memory")

QUICK = ServingOptions(concurrency=(1, 2), calls=20, turns=2, rates=(500.0,), per_second=True, deadline=10.0)


class Silent:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.begun: list[str] = []
        self.calls = self.to_come = 0

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, what: str, calls: int) -> None:
        assert self.calls == self.to_come
        self.begun.append(what)
        self.to_come += calls

    def heard(self, _call: object) -> None:
        self.calls += 1


def entrant(rival: ScriptedRival, role: Role) -> Entrant:
    return Entrant(rival.name, role, lambda: rival)


def off_by(difference: float) -> np.ndarray:
    return RIGHT + np.array([0, difference])


def field(*rivals: ScriptedRival) -> list[Entrant]:
    ours, bare = ScriptedRival(name="ours"), ScriptedRival(name="bare encoder")
    return [entrant(ours, "ours"), entrant(bare, "bare"), *(entrant(rival, "rival") for rival in rivals)]


def measure(entrants: list[Entrant], options: ServingOptions = QUICK) -> Record:
    watcher = Silent()
    record, broken = bench_serving(entrants, CASES, YARDSTICK, options, watcher)
    assert not broken and not record.parameters["broken_off"]
    assert watcher.calls == watcher.to_come
    return record


def table_of(record: Record, name: str) -> Table:
    (table,) = [table for table in record.tables if table.name == name]
    return table


def rows_of(record: Record, name: str, **wanted: Any) -> list[dict[str, Any]]:
    table = table_of(record, name)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [row for row in rows if all(row[column] == value for column, value in wanted.items())]


def test_every_way_is_measured_under_every_load_and_compared_with_ours() -> None:
    record = measure(field(ScriptedRival(name="rival")))
    for row in rows_of(record, "closed-loop"):
        assert (row["calls"], row["errors"], row["score_difference"], row["counts"]) == (20, 0, 0.0, True)
        assert row["p95_ms"] is not None and row["p99_ms"] is None
        assert row["max_ms"] >= row["p95_ms"] >= row["p90_ms"] >= row["p50_ms"] > 0
    (one, two) = rows_of(record, "closed-loop", way="rival")
    assert (one["in_flight"], two["in_flight"]) == (1, 2)
    (ours,) = rows_of(record, "closed-loop", way="ours", in_flight=1)
    assert ours["rate_to_noduleserve"] == 1
    assert one["rate_to_noduleserve"] == pytest.approx(one["nodules_per_s"] / ours["nodules_per_s"])
    lead = rows_of(record, "ahead")
    assert [(row["rival"], row["in_flight"]) for row in lead] == [("rival", 1), ("rival", 2)]
    assert lead[0]["rate_ratio"] == pytest.approx(1 / one["rate_to_noduleserve"])
    assert lead[0]["rate_ratio_lowest_turn"] <= lead[0]["rate_ratio_highest_turn"]
    goals = table_of(record, "ahead").goals
    assert [goal.column for goal in goals] == ["rate_ratio"] * 2  # of p99 there is nothing to want with 20 calls
    (alone,) = rows_of(record, "alone")
    assert alone["allowed_ms"] == pytest.approx(1.1 * alone["bare_encoder_p50_ms"] + 50)
    assert {row["way"] for row in rows_of(record, "open-loop")} == {"ours", "bare encoder", "rival"}
    assert all(row["offered_per_s"] == 500 and row["calls"] == 20 for row in rows_of(record, "open-loop"))
    assert {plot.name for plot in record.plots} == {"rate-over-concurrency", "p50-over-concurrency", "p50-over-rate"}
    assert YARDSTICK.what in record.remarks
    assert any(remark.startswith("p99 is not given where fewer than 100 calls") for remark in record.remarks)


def test_a_way_with_wrong_scores_stands_in_no_ratio_goal_or_plot() -> None:
    wrong = ScriptedRival(raw=off_by(2e-4), name="wrong")
    broken = ScriptedRival(raw=np.array([0.25, np.nan]), name="broken")
    almost = ScriptedRival(raw=off_by(0.9e-4), name="almost")
    record = measure(field(wrong, broken, almost))
    for row in rows_of(record, "closed-loop"):
        right = row["way"] not in ("wrong", "broken")
        assert row["counts"] is right
        assert (row["rate_to_noduleserve"] is not None) is right
    assert {row["rival"] for row in rows_of(record, "ahead")} == {"almost"}
    assert {line.name for plot in record.plots for line in plot.lines} == {"ours", "bare encoder", "almost"}
    assert any(remark.startswith("wrong: a probability is 0.0002 away") for remark in record.remarks)
    assert any(remark.startswith("broken: a probability is inf away") for remark in record.remarks)
    assert not any(remark.startswith("almost") for remark in record.remarks)


def test_where_our_own_scores_are_wrong_no_goal_is_met() -> None:
    ours = ScriptedRival(raw=off_by(1e-3), name="ours")
    record = measure([entrant(ours, "ours"), *field(ScriptedRival(name="rival"))[1:]])
    lead = table_of(record, "ahead")
    assert len(lead.rows) == 2 and len(lead.goals) == 2
    assert all(row["rate_ratio"] is None for row in rows_of(record, "ahead"))
    assert "alone" not in [table.name for table in record.tables]


def test_errors_are_shown_by_code_and_a_closed_loop_with_one_does_not_count() -> None:
    async def fail(number: int) -> None:
        if number % 7 == 0:
            raise ServerError("SERVER_BUSY", "it takes no more")

    record = measure(field(ScriptedRival(fail, name="rival")))
    failed = {row["load"]: row for row in rows_of(record, "errors", way="rival", code="SERVER_BUSY")}
    for row in rows_of(record, "closed-loop", way="rival"):
        assert row["errors"] == failed[f"{row['in_flight']} in flight"]["calls"] > 0
        assert not row["counts"] and row["score_difference"] == 0
    assert "ahead" not in [table.name for table in record.tables]
    (opened,) = rows_of(record, "open-loop", way="rival")
    assert opened["errors"] > 0 and opened["counts"]
    assert any(remark.startswith("Calls without an answer: rival at 1 in flight") for remark in record.remarks)


def test_a_rival_that_cannot_start_is_left_out_and_ours_may_not() -> None:
    def absent() -> Any:
        raise NoduleserveError("EXTRA_MISSING", "It needs a package.", "Install it.")

    record = measure([*field(), Entrant("absent", "rival", absent)])
    assert "Left out: absent. It needs a package. Mend: Install it." in record.remarks
    assert {row["way"] for row in rows_of(record, "ways")} == {"ours", "bare encoder"}
    others = field()
    with pytest.raises(NoduleserveError, match="EXTRA_MISSING"):
        bench_serving([Entrant("ours", "ours", absent), *others[1:]], CASES, YARDSTICK, QUICK, Silent())


def test_the_search_reports_what_every_way_keeps() -> None:
    options = ServingOptions(concurrency=(1,), calls=4, turns=1, rates=(), bound=Bound(50.0, 10.0), deadline=10.0)
    wrong = ScriptedRival(raw=RIGHT + 1, name="wrong")
    record = measure(field(ScriptedRival(name="rival"), wrong), options)
    rows = rows_of(record, "highest-rate")
    assert [row["way"] for row in rows] == ["ours", "bare encoder", "rival", "wrong"]
    assert [row["counts"] for row in rows] == [True, True, True, False]
    assert rows[3]["noduleserve_to_it"] is None
    assert [goal.row for goal in table_of(record, "highest-rate").goals] == [{"way": "rival"}]
    steps = rows_of(record, "search-steps", way="rival")
    assert len(steps) == rows[2]["steps"]
    assert all(step["kept"] for step in steps if step["offered_per_s"] == rows[2]["nodules_per_s"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_broken_off_keeps_what_it_has_and_leaves_nothing_running(number: int) -> None:
    async def end(call: int) -> None:
        if call == 80:
            os.kill(os.getpid(), number)
        await asyncio.sleep(0)

    ours, rival = ScriptedRival(name="ours"), ScriptedRival(end, name="rival")
    before = signal.getsignal(number)
    record, broken = bench_serving(
        [entrant(ours, "ours"), entrant(rival, "rival")],
        *(CASES, YARDSTICK, ServingOptions(concurrency=(1, 2, 4, 8), calls=50, turns=1, rates=()), Silent()),
    )
    assert broken and record.parameters["broken_off"]
    assert not ours.up and not rival.up and rival.in_flight == 0
    assert [row["in_flight"] for row in rows_of(record, "closed-loop", way="rival")] == [1]
    assert record.remarks[0].startswith("Broken off")
    assert signal.getsignal(number) == before


def test_turns_are_interleaved_and_begin_with_another_way_each() -> None:
    watcher = Silent()
    options = ServingOptions(concurrency=(3,), calls=9, turns=3, rates=(), deadline=10.0)
    bench_serving(field(ScriptedRival(name="rival")), CASES, YARDSTICK, options, watcher)
    order = [line.rsplit(": ", 1)[1] for line in watcher.begun]
    names = ["ours", "bare encoder", "rival"]
    assert order == names + names[1:] + names[:1] + names[2:] + names[:2]
    assert watcher.begun[0] == "3 in flight, turn 1 of 3: ours"


def test_a_rate_beyond_what_a_way_can_do_is_said() -> None:
    async def wait(_number: int) -> None:
        time.sleep(0.004)

    options = ServingOptions(concurrency=(1,), calls=20, turns=1, rates=(1000.0,), per_second=True, deadline=10.0)
    record = measure(field(ScriptedRival(wait, name="slow")), options)
    (row,) = rows_of(record, "open-loop", way="slow")
    assert row["share_of_own_best_rate"] > 1
    (said,) = [remark for remark in record.remarks if remark.startswith("Offered more than the way ever answered")]
    assert "slow at 1e+03 per second" in said
