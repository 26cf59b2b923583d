"""The calculator computes what model.md says, by formulas that are checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noduleserve.benchmarks.planning import (
    THIS_MACHINE,
    Constant,
    Encoding,
    Night,
    card_rate,
    plan_tables,
    warnings_of,
)
from noduleserve.benchmarks.planning_records import with_records
from noduleserve.benchmarks.record.markdown import table_of
from noduleserve.benchmarks.record.record import Cell, Record, Table
from noduleserve.commands.bench import bench
from noduleserve.errors import BenchmarkError

MODEL = Path(__file__).parents[2] / "benchmarks" / "model.md"
EXAMPLE = Night(2000, 2.5, 8)
ROUND = {
    name: replace(THIS_MACHINE[name], value=value)
    for name, value in {
        **{"encoder": 4.0, "preprocess": 0.01, "read": 0.02, "around": 0.03, "journal": 10.0},
        **{"work": 100.0, "moved": 1000.0, "in_plane": 0.5, "between": 2.0, "slices": 200.0},
    }.items()
}


def amounts(night: Night, encoding: Encoding, constants: dict[str, Constant]) -> dict[Cell, Cell]:
    plan, _ = plan_tables(night, encoding, constants)
    return {row[0]: row[1] for row in plan.rows}


@pytest.mark.parametrize("encoding", [Encoding(), Encoding("L4")])
def test_the_worked_example_is_what_the_calculator_gives(encoding: Encoding) -> None:
    text = MODEL.read_text()
    for table in plan_tables(EXAMPLE, encoding, THIS_MACHINE):
        _, _, *rows = table_of(table).splitlines()
        assert "\n".join(rows) in text, table.name


def test_a_night_by_hand() -> None:
    found = amounts(Night(7200, 2, 4, used=0.5), Encoding(), ROUND)
    assert found["nodules"] == 14400
    assert found["rate"] == 2  # 14400 nodules in two hours
    assert found["encoder on the CPU"] == 8
    assert found["all but the encoder"] == pytest.approx(2 * 0.06)
    box = 2 * 202**2 * 52
    assert found["network, client to server"] == pytest.approx(2 * box * 8 / 1e6)
    assert found["disk, read"] == pytest.approx(2 * (512 * 512 * 2 * 52 + 8192 * 200 / 2) / 1e6)
    assert found["disk, journal of the night"] == pytest.approx(0.144)


def test_a_card_is_bounded_by_its_products_or_by_its_memory() -> None:
    # A T4: 65 * 10^12 / 10^11 = 650 nodules/s; 320 * 10^9 / (2 * 10^9) = 160.
    assert card_rate(Encoding("T4", "fp16", 0.5), ROUND) == pytest.approx(80)
    light = ROUND | {"moved": replace(ROUND["moved"], value=1.0)}
    assert card_rate(Encoding("T4", "fp16", 0.5), light) == pytest.approx(325)
    found = amounts(Night(720_000, 2, 4, used=0.5), Encoding("T4", "fp16", 0.5), ROUND)
    assert found["T4, at least"] == math.ceil(200 / 80)
    assert found["hours that these need, never waiting"] == pytest.approx(1_440_000 / 240 / 3600)
    assert found["cores that keep one busy"] == pytest.approx(80 * 0.06)


def test_a_card_is_loudly_a_bound() -> None:
    (warning,) = warnings_of(Encoding("H100 SXM", "fp8", 0.25))
    assert warning.startswith("NOT MEASURED")
    assert "ASSUMED efficiency of 0.25" in warning
    assert any("BOUND" in str(what) for what in amounts(EXAMPLE, Encoding("L4"), THIS_MACHINE))


def test_unknown_cards_and_precisions_are_refused() -> None:
    for encoding, code in ((Encoding("L5"), "PLAN_CARD"), (Encoding("T4", "fp8"), "PLAN_PRECISION")):
        with pytest.raises(BenchmarkError, match=rf"\[{code}\]"):
            card_rate(encoding, THIS_MACHINE)


def record(benchmark: str, *tables: Table) -> Record:
    return Record(benchmark, f"noduleserve bench {benchmark}", "2026-01-02T03:04:05+00:00", 1.0, {}, {}, tables)


def processors(*rows: tuple[Cell, ...]) -> Record:
    columns = ("workload", "process", "cpu_s", "nodule_ms", "share_of_used")
    return record("night", Table("night-processors", "", columns, rows, keys=("workload", "process")))


def test_records_replace_constants_and_name_themselves() -> None:
    names = {"nodule_encoder": 1000.0, "readers": 50.0, "client": 5.0, "triton": 6.0, "nodule_similarity": 7.0}
    rows = [("one", name, 1.0, ms, 0.1) for name, ms in names.items()]
    rows += [("several", name, 1.0, ms / 2, 0.1) for name, ms in names.items()]
    found = with_records(THIS_MACHINE, [processors(*rows)])
    assert found["encoder"].value == 1.0  # the costlier of the two workloads
    assert found["read"].value == 0.05
    assert found["around"].value == pytest.approx(0.018)
    assert found["read"].source == "noduleserve bench night, 2026-01-02T03:04:05+00:00"
    assert found["preprocess"] == THIS_MACHINE["preprocess"]  # this night has no such row


def test_other_servers_are_not_planned() -> None:
    columns = ("way", "in_flight", "process", "cpu_a_call_ms")
    rows = [("fastapi", 8, "nodule_encoder", 9000.0), ("noduleserve, stream", 8, "nodule_encoder", 2000.0)]
    usage = Table("usage", "", columns, rows, keys=("way", "in_flight", "process"))
    assert with_records(THIS_MACHINE, [record("serving", usage)])["encoder"].value == 2.0


def test_a_record_that_has_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"\[PLAN_RECORD\].*bench decoders"):
        with_records(THIS_MACHINE, [record("decoders")])


def test_the_command_prints_the_plan_and_refuses_strange_precisions() -> None:
    done = CliRunner().invoke(bench, ["plan", "--scans", "2000", "--hours", "8", "--card", "L4"])
    assert done.exit_code == 0, done.output
    assert "BOUND, not measured | 94.1" in done.output
    assert "NOT MEASURED: nothing has run on L4" in done.output
    assert CliRunner().invoke(bench, ["plan", "--scans", "1", "--hours", "8", "--precision", "fp12"]).exit_code == 2
