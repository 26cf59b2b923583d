"""The results table: the worklist's rows in the worklist's order, with scores or reasons beside them."""

from __future__ import annotations

import csv
import datetime
import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from noduleserve.errors import NoduleserveError

from .base import Head, Written
from .columns import csv_cells, table_columns, table_row
from .outcome import Outcome, ReleaseInfo
from .whole_file import PART, WholeFile


class CsvWriter:
    """results.csv: UTF-8, cells separated by commas, lines ended by CR LF, quotation marks where a cell needs them.

    Cells of the worklist stand as they were read, also where a spreadsheet would take them for a formula.
    """

    def __init__(self, target: str, head: Head) -> None:
        """Name the file."""
        self.target, self._head, self._rows = target, head, 0
        self._whole = WholeFile(target)

    def check(self) -> None:
        """See ResultsWriter."""
        self._whole.check()

    def begin(self) -> None:
        """See ResultsWriter."""
        columns = [name for name, _ in table_columns(self._head)]
        file = io.TextIOWrapper(self._whole.open(), encoding="utf-8", newline="", write_through=False)
        self._text, self._csv = file, csv.writer(file)
        with self._whole.writing():
            self._csv.writerow(columns)

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """See ResultsWriter."""
        with self._whole.writing():
            self._csv.writerow(csv_cells(table_row(outcome, self._head, time)))
        self._rows += 1

    def finish(self) -> Written:
        """See ResultsWriter."""
        with self._whole.writing():
            self._text.flush()
        self._whole.commit()
        return Written(self.target, self._rows)

    def abort(self) -> None:
        """See ResultsWriter."""
        self._whole.abort()


class ResultsCsv:
    """Writes results.csv row by row as the answers come, in the order of the worklist.

    Rows go to `<name>.part`, flushed one by one; leaving the block without an error renames it to `<name>`.  A run that
    breaks off leaves the part file with every row that was written, and an older results file as it was.
    """

    def __init__(self, path: Path, columns: Sequence[str], info: ReleaseInfo) -> None:
        """Name the table.

        Args:
            path: of the finished file.
            columns: the worklist's.
            info: of the release that scores.
        """
        self._path, self._part = path, path.with_name(path.name + PART)
        self._head = Head(tuple(columns), info)
        self._early: dict[int, Outcome] = {}
        self._next = 0

    def __enter__(self) -> ResultsCsv:
        names = [name for name, _ in table_columns(self._head)]
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise NoduleserveError(
                "RESULTS_UNWRITABLE", f"{self._path} cannot be written ({error.strerror}).", "Check --out."
            ) from None
        self._writer = csv.writer(self._file)
        self._writer.writerow(names)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number in sorted(self._early):  # the run broke off: rows may be missing before these
            self._write(self._early.pop(number))
        self._file.close()
        if kind is None:
            self._part.replace(self._path)

    def add(self, outcome: Outcome) -> None:
        """Take one outcome, whenever it comes; it is written once all before it are there."""
        self._early[outcome.nodule.number] = outcome
        while self._next in self._early:
            self._write(self._early.pop(self._next))
            self._next += 1

    def _write(self, outcome: Outcome) -> None:
        self._writer.writerow(csv_cells(table_row(outcome, self._head)))
        self._file.flush()
