"""The constants of a plan, out of records of one's own machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from noduleserve.errors import BenchmarkError

from .planning import Constant
from .record.record import Cell, Record, Table


@dataclass(frozen=True)
class Rule:
    """Where a record has a constant.

    Attributes:
        constant: its name.
        benchmark, table, column: where it stands.
        of: the column that says what a row is about.
        rows: what it says there; their figures are added up.
        factor: from the column's unit to the constant's.
    """

    constant: str
    benchmark: str
    table: str
    column: str
    of: str
    rows: tuple[Cell, ...]
    factor: float


def _processor_time(benchmark: str, table: str, column: str, processes: Mapping[str, tuple[str, ...]]) -> list[Rule]:
    return [Rule(name, benchmark, table, column, "process", rows, 1e-3) for name, rows in processes.items()]


_MODELS = {"encoder": ("nodule_encoder",), "preprocess": ("nodule_preprocess",)}
RULES = (
    *_processor_time("serving", "usage", "cpu_a_call_ms", _MODELS),
    *_processor_time(
        "night",
        "night-processors",
        "nodule_ms",
        _MODELS | {"read": ("readers",), "around": ("client", "triton", "nodule_similarity")},
    ),
    Rule("work", "roofline", "work", "work_gflop", "part", ("all",), 1.0),
    Rule("moved", "roofline", "intensity", "a_nodule_mb", "batch", (8,), 1 / 4),  # of numbers of four bytes
)
_OURS = "noduleserve"  # the ways of other servers are not what is planned


def with_records(constants: Mapping[str, Constant], records: Iterable[Record]) -> dict[str, Constant]:
    """The constants, those of records instead of this machine's where they have some; the last record counts.

    Where a record has a figure several times, at several loads, the largest counts.

    Raises:
        BenchmarkError: PLAN_RECORD, where a record has nothing that a plan rests on.
    """
    found = dict(constants)
    for record in records:
        new = {rule.constant: value for rule in RULES if (value := _look_up(rule, record)) is not None}
        if not new:
            known = ", ".join(sorted({rule.benchmark for rule in RULES}))
            raise BenchmarkError(
                "PLAN_RECORD",
                f"The record of bench {record.benchmark} has nothing that a plan rests on.",
                f"Name one of bench {known}.",
            )
        for name, value in new.items():
            found[name] = replace(found[name], value=value, source=f"{record.command}, {record.began}")
    return found


def _look_up(rule: Rule, record: Record) -> float | None:
    if record.benchmark != rule.benchmark:
        return None
    sums = [value for table in record.tables if table.name == rule.table for value in _sums(rule, table)]
    return max(sums) * rule.factor if sums else None


def _sums(rule: Rule, table: Table) -> list[float]:
    """The figures of the rule's rows, added up for each workload or load; whatever is incomplete is left out."""
    if not {rule.column, rule.of} <= set(table.columns):
        return []
    figures: dict[tuple[Cell, ...], dict[Cell, float]] = defaultdict(dict)
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        value, ours = cells[rule.column], str(cells.get("way", _OURS)).startswith(_OURS)
        if cells[rule.of] in rule.rows and ours and isinstance(value, int | float):
            figures[tuple(cells[key] for key in table.keys if key != rule.of)][cells[rule.of]] = float(value)
    return [sum(group.values()) for group in figures.values() if len(group) == len(rule.rows) and all(group.values())]
