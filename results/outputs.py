"""Outputs by their names: which writer writes which, all of them driven together."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from noduleserve.errors import ResultsError

from .base import Head, ResultsWriter, Written
from .columns import check_score, table_columns
from .outcome import Outcome, ReleaseInfo

SR_PREFIX = "sr:"
_Maker = Callable[[str, Head, bool], ResultsWriter]


class Writers:
    """All outputs of a run. An output that fails does not keep the others from being written."""

    def __init__(self, writers: Sequence[ResultsWriter], info: ReleaseInfo) -> None:
        """Take up writers that have begun."""
        self._writers, self._info = list(writers), info
        self._failures: list[ResultsError] = []
        self._last = -1
        self.written: list[Written] = []

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """Hand the next outcome to every output that has not failed.

        Args:
            outcome: of the worklist's next row.
            time: when it came, with its zone, where that is known.

        Raises:
            ResultsError: OUTPUT_OTHER_RELEASE.
            ValueError: where the row is not behind the last one in the worklist: no nodule must be there twice.
        """
        if outcome.nodule.number <= self._last:
            raise ValueError(f"row {outcome.nodule.number} comes after row {self._last}")
        self._last = outcome.nodule.number
        if outcome.score is not None:
            check_score(outcome.score, self._info)
        for writer in list(self._writers):
            with self._kept_apart(writer):
                writer.add(outcome, time)

    def finish(self) -> None:
        """Put every output in its place, and say which could not be written.

        Raises:
            ResultsError: of the outputs that failed, when all others are in their places.
        """
        for writer in list(self._writers):
            with self._kept_apart(writer):
                self.written.append(writer.finish())
        self._writers.clear()
        if self._failures:
            raise _joined(self._failures)

    def abort(self) -> None:
        """Take every output back."""
        for writer in self._writers:
            writer.abort()
        self._writers.clear()

    @contextlib.contextmanager
    def _kept_apart(self, writer: ResultsWriter) -> Iterator[None]:
        try:
            yield
        except ResultsError as error:
            writer.abort()
            self._writers.remove(writer)
            self._failures.append(error)


@contextlib.contextmanager
def open_writers(outs: Sequence[Path | str], head: Head, *, embedding: bool = False) -> Iterator[Writers]:
    """Open the outputs of a run, and put them in their places where the block ends without an error.

    Args:
        outs: names of files that end in .csv, .jsonl, .parquet, .sqlite, .sqlite3 or .db; a folder for DICOM SR is
            there already, or ends in "/", or is called "sr:FOLDER".
        head: of the run.
        embedding: whether JSON Lines have the embeddings.

    Yields:
        The writers; `written` says afterwards what was written.

    Raises:
        ResultsError: OUTPUT_FORMAT_UNKNOWN, OUTPUT_TWICE, OUTPUT_COLUMNS, OUTPUT_NEEDS_PACKAGE, OUTPUT_IN_USE,
            OUTPUT_FOREIGN, OUTPUT_NEWER and OUTPUT_NOT_WRITTEN, before the block begins; OUTPUT_NOT_WRITTEN at its end
            for outputs that failed, when the others are in their places.
    """
    begun: list[ResultsWriter] = []
    try:
        for writer in _writers(outs, head, embedding):
            begun.append(writer)
            writer.begin()
        writers = Writers(begun, head.info)
        yield writers
        writers.finish()
    except BaseException:
        for writer in begun:
            writer.abort()  # nothing, where it is in its place
        raise


def check_writable(outs: Sequence[Path | str], columns: Sequence[str] = ()) -> None:
    """Try before a night whether its outputs could be written; their folders are made, and nothing else.

    Args:
        outs: as `open_writers` takes them.
        columns: the worklist's.

    Raises:
        ResultsError: as `open_writers` before its block begins.
    """
    head = Head(tuple(columns), ReleaseInfo("", folds=1, calibrated=False, labels=()))
    table_columns(head)
    for writer in _writers(outs, head, False):
        writer.check()


def _writers(outs: Sequence[Path | str], head: Head, embedding: bool) -> list[ResultsWriter]:
    writers, places = [], set()
    for out in outs:
        make, target = _maker(str(out))
        place = os.path.realpath(target)
        if place in places:
            raise ResultsError("OUTPUT_TWICE", f"{target} is named twice.", "Name each output once.")
        places.add(place)
        writers.append(make(target, head, embedding))
    return writers


def _maker(out: str) -> tuple[_Maker, str]:
    """What writes an output, and its name without what says so."""
    if out.startswith(SR_PREFIX):
        return _sr, out.removeprefix(SR_PREFIX)
    maker = _MAKERS.get(Path(out).suffix.lower())
    # A folder that is called like a file is nobody's choice of SR; the file's writer says what stands in its place.
    if out.endswith("/") or (maker is None and Path(out).is_dir()):
        return _sr, out
    if maker is None:
        raise ResultsError(
            "OUTPUT_FORMAT_UNKNOWN",
            f"{out} has none of the endings {', '.join(_MAKERS)}.",
            'End the name in one of them, or for DICOM SR in "/" (a folder).',
        )
    return maker, out


def _csv(target: str, head: Head, embedding: bool) -> ResultsWriter:
    from .csv_table import CsvWriter

    return CsvWriter(target, head)


def _jsonl(target: str, head: Head, embedding: bool) -> ResultsWriter:
    from .jsonl import JsonLinesWriter

    return JsonLinesWriter(target, head, embedding=embedding)


def _parquet(target: str, head: Head, embedding: bool) -> ResultsWriter:
    from .parquet import ParquetWriter

    return ParquetWriter(target, head)


def _sqlite(target: str, head: Head, embedding: bool) -> ResultsWriter:
    from .sqlite import SqliteWriter

    return SqliteWriter(target, head)


def _sr(target: str, head: Head, embedding: bool) -> ResultsWriter:
    from .sr_files import SrFolder

    return SrFolder(target, head)


_MAKERS: dict[str, _Maker] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), _sqlite),
}


def _joined(failures: Sequence[ResultsError]) -> ResultsError:
    first, *more = failures
    if not more:
        return first
    return ResultsError(first.code, " ".join(failure.what for failure in failures), first.mend)
