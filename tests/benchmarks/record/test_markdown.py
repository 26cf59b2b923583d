"""A record in Markdown: units in the heads, short numbers, goals met or missed, remarks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noduleserve.benchmarks.record.markdown import cell, head_of, markdown_of, shown, table_of, tables_of
from noduleserve.benchmarks.record.record import Goal, Record, Table

TABLE = Table(
    name="latency",
    title="Latency of a nodule",
    columns=("way", "p99_ms", "rate_nodules_per_s"),
    rows=[("ours", 12.3456, 80), ("a|b", 1234.5, None)],
    goals=(Goal("p99_ms", at_most=20),),
)
RECORD = Record(
    benchmark="serving",
    command="noduleserve bench serving may",
    began="2026-05-01T00:00:00+00:00",
    seconds=12.5,
    machine={"processor": {"model": "an EPYC", "governor": None}, "memory_gb": 16.0, "gpus": [], "kernel": None},
    parameters={"release": {"id": "ns-0"}, "turns": 3, "worklist": None},
    tables=[TABLE],
    remarks=["It was a Sunday."],
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "0"), (0.0, "0"), (7, "7"), (1234567, "1234567"), (1234567.0, "1230000"), (999.6, "1000")],
        *[(1234.5, "1230"), (12.3456, "12.3"), (0.5, "0.5"), (0.001234, "0.00123"), (-0.25, "-0.25")],
        *[(0.00001234, "1.23e-5"), (2e-7, "2e-7"), (1e20, "1e20")],
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("column", "head"),
    [
        *[("p99_ms", "p99 (ms)"), ("memory_mb", "memory (MB)"), ("encoder_threads", "encoder threads")],
        *[("rate_nodules_per_s", "rate (nodules/s)"), ("nodules_per_s", "nodules/s"), ("ms", "ms"), ("s", "s")],
    ],
)
def test_units_stand_in_the_head(column: str, head: str) -> None:
    assert head_of(column) == head


def test_cells_break_no_table() -> None:
    assert [cell(value) for value in (None, True, False, "a|b\nc", 3)] == ["-", "yes", "no", "a\\|b c", "3"]


def test_a_table_says_which_rows_meet_their_goal() -> None:
    assert table_of(TABLE).splitlines() == [
        "## Latency of a nodule",
        "",
        "| way | p99 (ms) | rate (nodules/s) | goal |",
        "| --- | --- | --- | --- |",
        "| ours | 12.3 | 80 | at most 20: met |",
        "| a\\|b | 1230 | - | at most 20: MISSED |",
    ]


def test_a_goal_for_a_row_is_about_no_other_and_without_its_row_it_is_missed() -> None:
    goals = (
        Goal("p99_ms", at_least=1, at_most=13, row={"way": "ours"}),
        Goal("rate_nodules_per_s", at_least=100),
        Goal("p99_ms", at_most=5, row={"way": "gone"}),
    )
    lines = table_of(replace(TABLE, goals=goals)).splitlines()
    assert lines[4].endswith("| p99 (ms) at least 1, at most 13: met; rate (nodules/s) at least 100: MISSED |")
    assert lines[5].endswith("| rate (nodules/s) at least 100: MISSED |")
    assert lines[-1] == "Goal without a row: p99 (ms) at most 5 where way gone: MISSED"


def test_a_page_has_the_command_the_machine_and_all_that_is_known() -> None:
    page = markdown_of(RECORD)
    assert page.startswith("# noduleserve bench serving\n\n    noduleserve bench serving may\n")
    for line in (
        "- processor: model an EPYC",
        "- memory (GB): 16",
        "- release: id ns-0",
        "- turns: 3",
        "- worklist: -",
    ):
        assert f"{line}\n" in page
    assert "kernel" not in page and "governor" not in page
    assert tables_of(RECORD) in page


def test_the_terminal_shows_tables_and_remarks_and_not_the_machine() -> None:
    shown_there = tables_of(RECORD)
    assert shown_there.endswith("Remarks:\n\n- It was a Sunday.")
    assert "MISSED" in shown_there and "EPYC" not in shown_there
