"""The roofline's tables agree with one another, and its cards with arithmetic."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="the graph is read with onnx")

from noduleserve.benchmarks.record.record import Cell, Record, Table
from noduleserve.benchmarks.rivals.cases import warm_up_case
from noduleserve.benchmarks.roofline.bench import bench_roofline, bounds
from noduleserve.benchmarks.roofline.cards import CARDS, INSTRUCTIONS
from noduleserve.benchmarks.roofline.graph_work import Product, Work
from noduleserve.demo.command import RELEASE
from noduleserve.release import Release


@pytest.fixture(scope="module")
def record() -> Record:
    release, views = Release.open(RELEASE), warm_up_case().views[None]
    return bench_roofline(release, ["L4", "T4"], turns=2, views=views, tell=lambda line: None)


def rows(record: Record, name: str) -> list[dict[str, Cell]]:
    (table,) = [table for table in record.tables if table.name == name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def number(value: Cell) -> float:
    assert isinstance(value, int | float) and not isinstance(value, bool)
    return float(value)


def test_what_is_reached_is_rate_times_work(record: Record) -> None:
    *parts, whole = rows(record, "work")
    assert whole["part"] == "all"
    assert sum(number(part["work_gflop"]) for part in parts) == pytest.approx(number(whole["work_gflop"]))
    (reached,) = rows(record, "reached")
    rate = number(reached["median_nodules_per_s"])
    assert number(reached["reached_gflops"]) == pytest.approx(rate * number(whole["work_gflop"]))
    assert 0 < number(reached["of_the_products_percent"]) < 200
    allowed = number(reached["products_allow_nodules_per_s"]) * number(whole["work_gflop"])
    limits = [row for row in rows(record, "machine") if "FP32" in str(row["what"])]
    assert allowed == pytest.approx(number(limits[-1]["highest"]))


def test_every_card_has_a_row_for_each_of_its_precisions(record: Record) -> None:
    cards = rows(record, "cards")
    wanted = [(name, precision) for name in ("L4", "T4") for precision in CARDS[name].tera]
    assert [(row["card"], row["precision"]) for row in cards] == wanted
    assert all(0 < number(row["unfused_nodules_per_s"]) <= number(row["bound_nodules_per_s"]) for row in cards)
    (plot,) = record.plots
    assert {"this machine, FP32", "L4, FP16", "T4, FP16", "the encoder here, FP32"} <= {
        line.name for line in plot.lines
    }


def test_bounds_by_hand() -> None:
    # 10^12 operations of two nodules; 10^9 stored numbers, 4 * 10^9 others.
    work = Work(2, (Product("product", 10**12, True, 4 * 10**9),), 0, 10**9, 0)
    compute, unfused = bounds(work, CARDS["T4"], "fp16")
    assert compute == pytest.approx(130)  # 65 * 10^12 / 0.5 * 10^12
    assert unfused == pytest.approx(2 * 320 / (2 * 5))


def test_instructions_against_fp32_of_the_same_width() -> None:
    gains = {(way.precision, way.flag): way.gain for way in INSTRUCTIONS}
    assert gains["int8", "avx2"] == (pytest.approx(4 / 3), 2)
    assert gains["int8", "avx512_vnni"] == (4, 4)
    assert gains["bf16", "avx512_bf16"] == (2, 2)
    assert gains["bf16", "amx_bf16"] == (16, 16)


def test_tables_of_a_record_are_named_once(record: Record) -> None:
    tables: list[Table] = list(record.tables)
    assert [table.name for table in tables] == ["work", "intensity", "machine", "instructions", "reached", "cards"]
