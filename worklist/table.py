"""The worklist: which nodules of which series are to be scored."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from noduleserve.errors import WorklistError

COLUMNS = ("pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ")
_CENTER_COLUMNS = COLUMNS[3:]
_LONGEST_QUOTE = 40  # characters of a cell that a sentence repeats
_LONGEST_LINE = 2**20  # characters
_MOST_CHARACTERS = 2**28
_MOST_ROWS = 10**6
_DELIMITERS = (",", ";", "\t")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UID = re.compile(r"[0-9.]{1,64}")

_RESULT_COLUMN = re.compile(
    r"raw_\d+|ensemble|calibrated_\d+|calibrated_ensemble|semantic\..*|release|status|error_code|error|warnings"
    r"|ct_series_uid|outcome_at|notice",
    re.DOTALL,
)


@dataclass(frozen=True)
class Nodule:
    """One row of a worklist.

    Attributes:
        number: position in the worklist, from 0; identifies the request.
        columns: the row as it was read, every column of the file in its order.
        pid: patient id, as the worklist gives it.
        nodule_id: as the worklist gives it.
        image_path: absolute path of the CT: a folder or a file.
        center: LPS millimetres (x, y, z), or None where the row's numbers cannot be read.
        problem: why this row cannot be scored (a sentence), or "".
        series_uid: SeriesInstanceUID of the series to take where image_path holds several, or "".
    """

    number: int
    columns: dict[str, str]
    pid: str
    nodule_id: str
    image_path: Path
    center: tuple[float, float, float] | None
    problem: str = ""
    series_uid: str = ""


def is_result_column(name: str) -> bool:
    """Whether results are written under this column name, so that a worklist must not use it."""
    return _RESULT_COLUMN.fullmatch(name) is not None


def read_worklist(path: Path, root: Path | None = None) -> list[Nodule]:
    """Read a worklist: CSV in UTF-8, one nodule a row, as many nodules back as there are rows.

    The columns pid, nodule_id, image_path, coordX, coordY and coordZ (LPS millimetres) are required, in any
    order; series_uid chooses the series where image_path holds several; all others are carried through in
    `Nodule.columns`. Cells may be separated by commas, semicolons or tabs, as the header is; numbers have a decimal
    point in any case. Blank lines are no rows. A row that cannot be scored (a number that cannot be read, no
    image_path, too few or too many cells) does not stop the others: it comes back with its `problem`.

    Args:
        path: of the CSV file.
        root: folder that a relative image_path starts from; by default the worklist's own.

    Raises:
        WorklistError: WORKLIST_NOT_FOUND, WORKLIST_UNREADABLE (no file that can be opened, not UTF-8),
            WORKLIST_QUOTES (quotation marks so misplaced that rows cannot be told apart), WORKLIST_COLUMNS
            (required columns missing, a name twice, a name that results are written under), WORKLIST_EMPTY,
            WORKLIST_TOO_LARGE (more than a million rows, 256 MiB or a MiB a line).
    """
    base = (path.parent if root is None else root).absolute()
    rows = read_rows(path)
    header = [name.strip() for name in next(rows, [])]
    check_header(header, path)
    nodules = [_nodule(number, row, header, base) for number, row in enumerate(rows)]
    if not nodules:
        raise WorklistError("WORKLIST_EMPTY", f"{path.name} has no rows below its header.", "Add one row a nodule.")
    return nodules


def read_rows(path: Path, needed: Sequence[str] = COLUMNS) -> Iterator[list[str]]:
    """The file's rows as cells, header first, blank lines left out; what separates cells is told by `needed` columns.

    Raises:
        WorklistError: as `read_worklist`, of the file as a whole.
    """
    try:
        _check_encoding(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file, path)
            yield from _cells(lines, needed)
    except csv.Error as error:
        raise WorklistError(
            "WORKLIST_QUOTES",
            f"The quotation marks at or above line {lines.number} of {path.name} do not match: "
            "rows cannot be told apart.",
            'Close every quotation mark, and write one within a cell as "a ""quoted"" word".',
        ) from error
    except FileNotFoundError as error:
        raise WorklistError(
            "WORKLIST_NOT_FOUND", f"There is no worklist {path.name}.", "Check the path of the worklist."
        ) from error
    except UnicodeDecodeError as error:
        raise _not_utf_8(path, "") from error
    except OSError as error:
        raise WorklistError(
            "WORKLIST_UNREADABLE",
            f"{path.name} cannot be read ({error.strerror}).",
            "Check that it is a file and that it may be read.",
        ) from error


def _check_encoding(path: Path) -> None:
    """Refuse UTF-16, which spreadsheets write as "Unicode text", by its first two bytes."""
    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            raise _not_utf_8(path, ", but UTF-16")


def _not_utf_8(path: Path, but: str) -> WorklistError:
    return WorklistError(
        "WORKLIST_UNREADABLE", f"{path.name} is not text in UTF-8{but}.", "Save the worklist as CSV in UTF-8."
    )


class _Lines:
    """The lines of a worklist, in bounded memory; `number` counts them."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path, self._characters, self.number = file, path, 0, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_LONGEST_LINE + 1)
        self._characters += len(line)
        self.number += 1
        if len(line) > _LONGEST_LINE or self._characters > _MOST_CHARACTERS or self.number > _MOST_ROWS + 1:
            raise WorklistError(
                "WORKLIST_TOO_LARGE",
                f"{self._path.name} is too long to be a list of nodules (at line {self.number}).",
                f"Split the worklist; the limits are {_MOST_ROWS} lines and {_LONGEST_LINE} characters a line.",
            )
        if not line:
            raise StopIteration
        return line


def _cells(lines: _Lines, needed: Sequence[str]) -> Iterator[list[str]]:
    """The rows of the lines; the first line that is not blank decides what separates cells."""
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((d for d in _DELIMITERS if set(needed) <= _names(first, d)), ",")
    # strict: a reader that forgives misplaced quotes may take several rows for one cell.
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    for row in reader:
        header = header or row
        if _swallows_rows(row, header):
            raise csv.Error("rows within a cell")
        if any(cell.strip() for cell in row) or len(row) > 1:
            yield row


def _names(line: str, delimiter: str) -> set[str]:
    try:
        return {name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])}
    except csv.Error:
        return set()


def _swallows_rows(row: list[str], header: list[str]) -> bool:
    """Whether a cell over several lines is more likely rows after a stray quotation mark than a remark."""
    broken = [number for number, cell in enumerate(row) if "\n" in cell or "\r" in cell]
    if len(row) != len(header):
        return bool(broken)
    return any(header[number].strip() in COLUMNS for number in broken)


def check_header(header: list[str], path: Path, needed: Sequence[str] = COLUMNS) -> None:
    """Refuse a header that lacks a needed column, has one twice, or one that results are written under.

    Raises:
        WorklistError: WORKLIST_COLUMNS.
    """
    missing = [name for name in needed if name not in header]
    if missing:
        raise WorklistError(
            "WORKLIST_COLUMNS",
            f"{path.name} lacks the column{_s(missing)} {', '.join(missing)}.",
            f"The first line must name the columns {','.join(needed)}, separated by commas (or semicolons, or tabs).",
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        names = ", ".join(name or "(no name)" for name in twice)
        raise WorklistError(
            "WORKLIST_COLUMNS",
            f"{path.name} has the column{_s(twice)} {names} more than once.",
            "Rename or remove the columns that bear the same name.",
        )
    clashing = [name for name in header if is_result_column(name)]
    if clashing:
        raise WorklistError(
            "WORKLIST_COLUMNS",
            f"{path.name} has columns that results are written under: {', '.join(clashing)}.",
            f"Remove or rename {', '.join(clashing)}.",
        )


def _nodule(number: int, row: list[str], header: list[str], base: Path) -> Nodule:
    padded = row[: len(header)] + [""] * (len(header) - len(row))
    columns = dict(zip(header, padded, strict=True))
    image = columns["image_path"].strip()
    series_uid = columns.get("series_uid", "").strip()
    center: tuple[float, float, float] | None = None
    if len(row) != len(header):  # which cell is which cannot be told: no number of this row is to be trusted
        problem = f"The row has {len(row)} cells, the header {len(header)}."
    else:
        center, problem = _center(columns)
        if not image:
            problem = "image_path is empty."
        elif "\0" in image:
            image, problem = "", "image_path holds a character that no path can hold."
        elif series_uid and not _UID.fullmatch(series_uid):
            problem = f"series_uid is {_quoted(series_uid)}, not a DICOM UID."
    return Nodule(
        number=number,
        columns=columns,
        pid=columns["pid"].strip(),
        nodule_id=columns["nodule_id"].strip(),
        image_path=base / image.replace("\0", ""),
        center=center,
        problem=problem,
        series_uid="" if problem else series_uid,
    )


def _center(columns: dict[str, str]) -> tuple[tuple[float, float, float] | None, str]:
    """The nodule's centre, or None and why there is none."""
    numbers = []
    for name in _CENTER_COLUMNS:
        cell = columns[name].strip()
        if not cell:
            return None, f"{name} is empty."
        try:
            if "_" in cell:  # float() reads 1_0 as 10, which nobody means in a table
                raise ValueError(cell)
            number = float(cell)
        except ValueError:
            return None, f"{name} is {_quoted(cell)}, not a number (write it with a decimal point)."
        if not math.isfinite(number):
            return None, f"{name} is {_quoted(cell)}, not a finite number."
        numbers.append(number)
    x, y, z = numbers
    return (x, y, z), ""


def _quoted(cell: str) -> str:
    short = cell if len(cell) <= _LONGEST_QUOTE else cell[:_LONGEST_QUOTE] + "..."
    return f"'{short}'"


def _s(names: list[str]) -> str:
    return "s" if len(names) > 1 else ""
