"""A comparison finds what is worse, hides nothing that makes two runs unlike, and says so in its exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from noduleserve.benchmarks.record.compare import Comparison, compare, shortfalls
from noduleserve.benchmarks.record.compare_markdown import markdown_of_comparison
from noduleserve.benchmarks.record.files import write_record
from noduleserve.benchmarks.record.record import Cell, Record, Table
from noduleserve.cli import app
from noduleserve.errors import BenchmarkError

Rows = list[tuple[Cell, ...]]
ROWS: Rows = [("ours", 1, 10.0, 100.0, 5.0, True), ("ours", 4, 20.0, 200.0, 5.0, True)]


def table(rows: Rows, **other: Any) -> Table:
    columns = ("way", "concurrency", "p99_ms", "rate_per_s", "memory_mb", "agrees")
    better: Any = {"p99_ms": "lower", "rate_per_s": "higher", "agrees": "higher"}
    facts = {"name": "load", "title": "Load", "keys": ("way", "concurrency"), "better": better}
    return Table(**(facts | {"columns": columns, "rows": rows} | other))


def record(*tables: Table, **other: Any) -> Record:
    machine = {"processor": {"model": "x", "flags": ["avx2"]}, "versions": {"numpy": "1"}, "run": {"load_before": 0.5}}
    facts: dict[str, Any] = {
        "benchmark": "serving",
        "command": "noduleserve bench serving may",
        "began": "2026-05-01T00:00:00+00:00",
        "seconds": 1.0,
        "machine": machine,
        "parameters": {"release": {"id": "ns-a"}},
        "tables": tables or (table(ROWS),),
    }
    return Record(**(facts | other))


def against(rows: Rows, first: Rows = ROWS) -> Comparison:
    return compare(record(table(first)), record(table(rows)))


def test_figures_are_matched_by_their_keys_and_judged() -> None:
    found = against([("ours", 4, 10.0, 100.0, 10.0, True), ("ours", 1, 10.01, 101.0, 5.0, False)])
    figures = {(f.row, f.column): (f.a, f.b, f.ratio, f.verdict) for f in found.tables[0].figures}
    assert figures[("ours", 4), "p99_ms"] == (20.0, 10.0, 0.5, "better")
    assert figures[("ours", 4), "rate_per_s"] == (200.0, 100.0, 0.5, "worse")
    assert figures[("ours", 4), "memory_mb"] == (5.0, 10.0, 2.0, "")
    assert figures[("ours", 1), "p99_ms"][3] == "same"
    assert figures[("ours", 1), "rate_per_s"][3] == "better"
    assert figures[("ours", 1), "agrees"] == (1.0, 0.0, 0.0, "worse")


@pytest.mark.parametrize(
    ("rows", "at_least", "short"),
    [
        (ROWS, 1.0, []),
        ([("ours", 1, 10.5, 96.0, 99.0, True), ROWS[1]], 0.95, []),
        ([("ours", 1, 10.6, 94.0, 99.0, True), ROWS[1]], 0.95, ["p99_ms has 0.943 of A", "rate_per_s has 0.94 of A"]),
        ([("ours", 1, 5.0, 0.0, 0.0, True), ROWS[1]], 0.1, ["rate_per_s has 0 of A"]),
        ([("ours", 1, None, 200.0, 0.0, True), ROWS[1]], 0.5, ["p99_ms is gone"]),
        ([("ours", 1, 10.0, 100.0, 0.0, False), ROWS[1]], 0.5, ["agrees has 0 of A"]),
        ([ROWS[0]], 0.5, ["way ours, concurrency 4 is only in A"]),
        ([("ours", 2, 1.0, 1.0, 1.0, True), *ROWS], 0.9, []),
    ],
)
def test_shortfalls(rows: Rows, at_least: float, short: list[str]) -> None:
    found = shortfalls(against(rows), at_least)
    assert len(found) == len(short)
    assert all(sentence.endswith(end) for sentence, end in zip(found, short, strict=True))


def test_a_figure_of_nothing_is_neither_divided_by_nor_passed_over() -> None:
    zero: Rows = [("ours", 1, 0.0, 0.0, 0.0, True)]
    found = against([("ours", 1, 1.0, 1.0, 1.0, True)], zero)
    assert [(f.column, f.ratio, f.verdict) for f in found.tables[0].figures] == [
        ("p99_ms", None, "worse"),
        ("rate_per_s", None, "better"),
        ("memory_mb", None, ""),
        ("agrees", 1.0, "same"),
    ]
    assert shortfalls(found, 0.5) == ["load: way ours, concurrency 1: p99_ms has 0 of A"]
    assert shortfalls(against(zero, zero), 1.0) == []


def test_columns_of_their_own_choice() -> None:
    found = against([("ours", 1, 100.0, 100.0, 5.0, True), ROWS[1]])
    assert shortfalls(found, 0.95, ["rate_per_s"]) == []
    assert len(shortfalls(found, 0.95, ["p99_ms"])) == 1
    for column in ("rate_per_x", "memory_mb"):
        with pytest.raises(BenchmarkError) as caught:
            shortfalls(found, 0.95, [column])
        assert caught.value.code == "COLUMN_UNKNOWN" and "p99_ms, rate_per_s" in caught.value.mend


def test_nothing_to_compare_is_a_shortfall() -> None:
    assert shortfalls(compare(record(table([])), record(table([]))), 0.1)
    assert shortfalls(compare(record(), record(table(ROWS, name="other"))), 0.1) == ["table load is only in A"]


def test_what_is_unlike_comes_before_any_figure() -> None:
    machine = {"processor": {"model": "y", "flags": ["avx2"]}, "versions": {"numpy": "2"}, "run": {"load_before": 7.5}}
    other = record(machine=machine, parameters={"release": {"id": "ns-b"}, "turns": 3}, remarks=["B was hot."])
    found = compare(record(), other)
    assert {(d.what, d.a, d.b) for d in found.differences} == {
        ("parameters.release.id", "ns-a", "ns-b"),
        ("parameters.turns", None, 3),
        ("machine.processor.model", "x", "y"),
        ("machine.versions.numpy", "1", "2"),
    }
    page = markdown_of_comparison(found)
    assert page.index("| parameters.release.id | ns-a | ns-b |") < page.index("## Load")
    assert page.index("load before 0.5") < page.index("load before 7.5") < page.index("## Load")
    assert "- B was hot." in page
    assert "are alike" in markdown_of_comparison(compare(record(), record()))


def test_code_that_is_no_commit_is_named() -> None:
    machine = {"code": {"commit": "abc", "changed": True}}
    page = markdown_of_comparison(compare(record(machine=machine), record(machine=machine)))
    assert page.count("its code differed from its commit") == 2


def test_what_one_side_has_alone_is_listed() -> None:
    mine, theirs = table(ROWS), table([ROWS[0], ("other", 1, 1.0, 1.0, 1.0, True)])
    theirs = replace(theirs, columns=("way", "concurrency", "p99_ms", "rate_per_s", "ram_mb", "agrees"))
    found = compare(record(mine, table([], name="a")), record(theirs, table([], name="b")))
    page = markdown_of_comparison(found)
    assert "Rows and columns only in A: column memory_mb; way ours, concurrency 4" in page
    assert "Rows and columns only in B: column ram_mb; way other, concurrency 1" in page
    assert "Tables only in A: a\nTables only in B: b" in page


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (table(ROWS, keys=("way",)), "rows are told apart by way, concurrency in A, by way in B"),
        (table([ROWS[0], ROWS[0]]), "B has more than one row way ours, concurrency 1"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_not_compared(other: Table, why: str) -> None:
    found = compare(record(), record(other))
    assert found.tables[0].figures == ()
    assert f"Not compared: {why}." in markdown_of_comparison(found)
    assert any(why in sentence for sentence in shortfalls(found, 0.1))


def test_without_keys_rows_are_matched_by_their_places() -> None:
    found = compare(record(table(ROWS, keys=())), record(table(ROWS[:1], keys=())))
    assert [f.row for f in found.tables[0].figures] == [(1,)] * 5
    assert found.tables[0].only_a == ("row 2",)


def test_records_of_two_benchmarks_are_not_compared() -> None:
    with pytest.raises(BenchmarkError) as caught:
        compare(record(), record(benchmark="night"))
    assert caught.value.code == "RECORDS_UNLIKE"


@pytest.mark.parametrize(
    ("options", "status"),
    [("", 0), ("--at-least 0.4", 0), ("--at-least 0.95", 1), ("--at-least 0.95 --column p99_ms", 0)],
)
def test_the_exit_status_is_for_scripts(tmp_path: Path, options: str, status: int) -> None:
    write_record(record(), tmp_path / "a")
    file = write_record(record(table([("ours", 1, 10.0, 50.0, 5.0, True), ROWS[1]])), tmp_path / "b")[0]
    done = CliRunner().invoke(app, ["bench", "compare", str(tmp_path / "a"), str(file), *options.split()])
    assert done.exit_code == status
    assert "| ours | 1 | rate/s | 100 | 50 | 0.5 | worse |" in done.stdout
    assert ("rate_per_s has 0.5 of A" in done.stderr) == (status == 1)
