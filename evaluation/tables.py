"""Tables as text: what results and labels are read into before anything is made of their cells."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from noduleserve.errors import EvaluationError

PART = ".part"  # what `noduleserve score` writes to until a run is complete
_DELIMITERS = (",", ";", "\t")
_LONGEST_QUOTE = 40  # characters of a cell that a sentence repeats


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: where it stands in its file, from 1; where a format has no lines, the row's number.
        cells: text by column, without blanks around it.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        name: base name of the file it came from.
        columns: names, each once, in the file's order.
        rows: in the file's order, each with a cell for every column.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_results(path: Path) -> Table:
    """Read the results of a run, in whatever format they were written.

    A format is added by adding its reader, which gives back the columns of results.csv with cells as text.

    Raises:
        EvaluationError: RESULTS_INCOMPLETE, RESULTS_FORMAT, RESULTS_UNREADABLE, RESULTS_COLUMNS.
    """
    if path.suffix == PART:
        raise EvaluationError(
            "RESULTS_INCOMPLETE",
            f"{path.name} is of a run that broke off or is still going on: nodules are missing from it.",
            "Score the worklist to its end.",
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise EvaluationError(
            "RESULTS_FORMAT",
            f"{path.name} has none of the endings {', '.join(_READERS)}.",
            "Give the results as `noduleserve score` writes them.",
        )
    return reader(path, "RESULTS_UNREADABLE", "RESULTS_COLUMNS")


def read_labels(path: Path) -> Table:
    """Read labels: CSV in UTF-8, separated by commas, semicolons or tabs.

    Raises:
        EvaluationError: LABELS_UNREADABLE, LABELS_COLUMNS.
    """
    return _read_csv(path, "LABELS_UNREADABLE", "LABELS_COLUMNS")


def quoted(cell: str) -> str:
    """A cell as a sentence repeats it: in quotation marks, and not too long."""
    return repr(cell if len(cell) <= _LONGEST_QUOTE else cell[:_LONGEST_QUOTE] + "...")


def number(cell: str) -> float | None:
    """The number that a cell holds, or None where it holds none; infinity and NaN are none."""
    try:
        value = float(cell) if "_" not in cell else None  # float() reads 1_0 as 10, which nobody means in a table
    except ValueError:
        return None
    return value if value is not None and abs(value) < float("inf") else None


def _read_csv(path: Path, unreadable: str, columns: str) -> Table:
    lines = list(_lines(path, unreadable))
    header = [name.strip() for name in lines[0][1]] if lines else []
    twice = [name for name, count in Counter(header).items() if count > 1]
    if not header or twice:
        what = f"has the column {twice[0] or '(no name)'} more than once" if twice else "is empty"
        raise EvaluationError(columns, f"{path.name} {what}.", "Its first line must name each column once.")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise EvaluationError(
                unreadable,
                f"{path.name}, line {line}: the row has {len(cells)} cells, the header {len(header)}.",
                "Quote the cells that hold what separates cells.",
            )
    rows = (Row(line, dict(zip(header, (c.strip() for c in cells), strict=True))) for line, cells in lines[1:])
    return Table(path.name, tuple(header), tuple(rows))


def _lines(path: Path, unreadable: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row, header first, blank lines left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            # What stands most often in the header separates the cells; column names hold none of these.
            reader = csv.reader(file, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise EvaluationError(
            unreadable, f"{path.name} cannot be read: {reason}.", "It must be CSV in UTF-8."
        ) from None


_READERS: dict[str, Callable[[Path, str, str], Table]] = {".csv": _read_csv}
