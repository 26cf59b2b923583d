"""A comparison as a reader sees it: what makes the two runs unlike comes before any figure."""

from __future__ import annotations

from typing import Any

from .compare import Comparison, Difference, TableComparison
from .markdown import cell, head_of, markdown_rows, shown
from .record import Record


def markdown_of_comparison(comparison: Comparison) -> str:
    """The whole comparison."""
    parts = [
        f"# noduleserve bench {comparison.a.benchmark}: B against A",
        "\n".join(["", *_run("A", comparison.a), *_run("B", comparison.b)]).strip(),
        _unlike(comparison.differences),
        *(_table(table) for table in comparison.tables),
        _alone("Tables", comparison.only_a, comparison.only_b),
        _remarks("A", comparison.a),
        _remarks("B", comparison.b),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _run(side: str, record: Record) -> list[str]:
    """What holds of one run alone: how it was called, when, and how busy the machine was."""
    run, code = record.machine.get("run", {}), record.machine.get("code", {})
    lines = [f"- {side}: `{record.command}`, {record.began}, {shown(record.seconds)} s"]
    strain = {"load before": "load_before", "load after": "load_after", "stolen core seconds": "stolen_core_s"}
    known = [f"{words} {shown(run[name])}" for words, name in strain.items() if run.get(name) is not None]
    if known:
        lines.append(f"  - {', '.join(known)}")
    if code.get("changed"):
        lines.append("  - its code differed from its commit: the commit alone does not give these figures again")
    return lines


def _unlike(differences: tuple[Difference, ...]) -> str:
    if not differences:
        return "Machine, code, versions and parameters are alike."
    rows = [(d.what, _value(d.a), _value(d.b)) for d in differences]
    return "\n".join(["Not alike:", "", *markdown_rows(("what", "A", "B"), rows)])


def _table(table: TableComparison) -> str:
    lines = [f"## {table.title}", ""]
    if table.unmatched:
        lines += [f"Not compared: {table.unmatched}.", ""]
    elif table.figures:
        head = (*map(head_of, table.keys or ("row",)), "figure", "A", "B", "B / A", "B is")
        rows = [
            (
                *map(cell, figure.row),
                head_of(figure.column),
                cell(figure.a),
                cell(figure.b),
                cell(figure.ratio),
                figure.verdict,
            )
            for figure in table.figures
        ]
        lines += [*markdown_rows(head, rows), ""]
    else:
        lines += ["No row is in both.", ""]
    return "\n".join([*lines, _alone("Rows and columns", table.only_a, table.only_b)]).strip()


def _alone(what: str, only_a: tuple[str, ...], only_b: tuple[str, ...]) -> str:
    return "\n".join(
        f"{what} only in {side}: {'; '.join(only)}" for side, only in (("A", only_a), ("B", only_b)) if only
    )


def _remarks(side: str, record: Record) -> str:
    return (
        "\n".join([f"Remarks of {side}:", "", *(f"- {remark}" for remark in record.remarks)]) if record.remarks else ""
    )


def _value(value: Any) -> str:
    if isinstance(value, list | dict):
        return ", ".join(map(str, value)) or "none"
    return cell(value)
