"""`noduleserve codes`: what every code of an error or a warning stands for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class CodeTable:
    """The codes of one origin.

    Attributes:
        origin: in one word or two.
        about: what they mean for a nodule, one sentence.
        codes: code -> what it stands for.
    """

    origin: str
    about: str
    codes: dict[str, str]


def code_tables() -> tuple[CodeTable, ...]:
    """All tables of codes, in the order in which a nodule may meet them."""
    from noduleserve.benchmarks.codes import BENCHMARK_CODES
    from noduleserve.client.codes import CLIENT_CODES, MODEL_CODES, REQUEST_CODES
    from noduleserve.ct.codes import SERIES_CODES, WARNING_CODES
    from noduleserve.evaluation.codes import EVALUATION_CODES
    from noduleserve.journal.codes import JOURNAL_CODES
    from noduleserve.results.codes import OUTPUT_CODES, REPORT_CODES, RESULT_CODES
    from noduleserve.training.codes import TRAINING_CODES
    from noduleserve.worklist.codes import WORKLIST_CODES

    return (
        CodeTable("worklist", "The worklist as a whole cannot be used, or made; nothing is scored.", WORKLIST_CODES),
        CodeTable("series", "The series, or the part of it that the nodule needs, is not scored.", SERIES_CODES),
        CodeTable("warning", "The nodule is scored all the same; the column `warnings` has the code.", WARNING_CODES),
        CodeTable("request", "The nodule is refused before anything is computed.", REQUEST_CODES),
        CodeTable("model", "The nodule is refused instead of getting a number that is wrong.", MODEL_CODES),
        CodeTable("client", "The nodule is not scored, or the run does not begin.", CLIENT_CODES),
        CodeTable("journal", "The run does not begin, or breaks off; it can be taken up again.", JOURNAL_CODES),
        CodeTable("output", "The output named is as it was before; the journal has every outcome.", OUTPUT_CODES),
        CodeTable("report", "The file named is as it was before.", REPORT_CODES),
        CodeTable("sr", "The SR of the series is not written; its scores stand in the table.", RESULT_CODES),
        CodeTable("evaluation", "Nothing is evaluated.", EVALUATION_CODES),
        CodeTable("benchmark", "Nothing is measured, or what was measured does not count.", BENCHMARK_CODES),
        CodeTable("training", "No checkpoint is written; what was trained so far is kept.", TRAINING_CODES),
    )


def markdown() -> str:
    """All tables as they stand in docs/input.md."""
    parts = []
    for table in code_tables():
        rows = [f"| {code} | {meaning} |" for code, meaning in table.codes.items()]
        parts.append(
            "\n".join([f"### {table.origin}", "", table.about, "", "| code | stands for |", "|---|---|", *rows])
        )
    return "\n\n".join(parts)


def codes(
    code: Annotated[str | None, typer.Argument(help="Explain this one.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/input.md.")] = False,
) -> None:
    """Print what the codes of errors and warnings stand for, or explain one.

    Examples:

        noduleserve codes

        noduleserve codes SERIES_UNEVEN
    """
    if as_markdown:
        print(markdown())
    elif code is None:
        _print_tables()
    else:
        _explain(code.upper())


def _print_tables() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("code", "from", "stands for")
    table.columns[0].no_wrap = True
    for group in code_tables():
        for code, meaning in group.codes.items():
            table.add_row(code, group.origin, meaning)
        table.add_section()
    Console(markup=False).print(table)


def _explain(code: str) -> None:
    from noduleserve.preprocessing.errors import MENDS

    found = [group for group in code_tables() if code in group.codes]
    if not found:
        known = [name for group in code_tables() for name in group.codes]
        near = ", ".join(difflib.get_close_matches(code, known, 4, 0.5))
        raise typer.BadParameter(f"there is no code {code}" + (f"; is it {near}?" if near else ""), param_hint="CODE")
    for group in found:
        print(f"{code} ({group.origin}): {group.codes[code]}")
        print(f"  {group.about}")
        if group.origin == "request":
            print(f"  Mend: {MENDS[code]}")
