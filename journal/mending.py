"""Journals that are damaged: every bad line found, and a journal made of the whole ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .appending import Appender
from .contents import check_version, open_for_reading
from .file import header, not_written, open_for_writing, put_aside, sync_folder
from .line import BadLine, decode, lines_of
from .record import OutcomeRecord, RowRecord, RunRecord, nodule_of

_PART = ".part"


@dataclass(frozen=True)
class BadPlace:
    """A line that is not what was written.

    Attributes:
        number: of the line, from 1.
        offset: of its first byte.
        length: bytes.
        how: what is wrong with it.
        torn: whether it is the last one and may have been cut while it was written, so that it never counted.
    """

    number: int
    offset: int
    length: int
    how: str
    torn: bool = False


def verify(path: Path) -> tuple[int, list[BadPlace]]:
    """Check every line: its checksum, and that its record can be made again from it, with the key that it names.

    Returns:
        How many lines are good, and the others.

    Raises:
        JournalError: JOURNAL_NOT_FOUND, JOURNAL_UNREADABLE, JOURNAL_NOT_A_JOURNAL, JOURNAL_VERSION.
    """
    descriptor = open_for_reading(path)
    try:
        good, bad = 0, []
        for line in lines_of(descriptor):
            try:
                _check(path, line.number, line.data)
                good += 1
            except BadLine as error:
                torn = line.last and line.number > 1
                bad.append(BadPlace(line.number, line.offset, len(line.data), str(error), torn))
        return good, bad
    finally:
        os.close(descriptor)


def mend(path: Path) -> tuple[int, Path | None]:
    """Make a journal of the whole lines of a damaged one, which is renamed to its name and a number, and kept.

    Returns:
        How many lines were left out, and the new name of the old journal; None where it was whole and is left as it is.

    Raises:
        JournalError: JOURNAL_NOT_FOUND, JOURNAL_UNREADABLE, JOURNAL_NOT_A_JOURNAL, JOURNAL_VERSION, JOURNAL_IN_USE,
            JOURNAL_NO_LOCK, JOURNAL_NOT_WRITTEN.
    """
    _, bad = verify(path)
    if not bad:
        return 0, None
    locked = open_for_writing(path)
    part = path.with_name(path.name + _PART)
    try:
        left_out = _write_whole_lines(path, locked, part)
        aside = put_aside(path)
        part.rename(path)
        sync_folder(path.parent)
        return left_out, aside
    except OSError as error:
        raise not_written(path, error) from None
    finally:
        part.unlink(missing_ok=True)
        os.close(locked)


def _write_whole_lines(path: Path, descriptor: int, part: Path) -> int:
    left_out = 0
    out = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        appender = Appender(out, 0)
        waiting = [header()]
        for line in lines_of(descriptor):
            try:
                _check(path, line.number, line.data)
            except BadLine:
                left_out += 1
                continue
            if line.number > 1:
                waiting.append(line.data)
            if len(waiting) >= 1000:  # lines a write; each is on the disk before the next
                appender.append(b"".join(waiting))
                waiting.clear()
        appender.append(b"".join(waiting))
    finally:
        os.close(out)
    return left_out


def _check(path: Path, number: int, data: bytes) -> None:
    """Raise BadLine where a line is not a record that was written by this version."""
    fields = decode(data)
    if number == 1:
        check_version(path, fields)
        return
    try:
        if fields["kind"] == OutcomeRecord.kind and OutcomeRecord.of(fields).key.text != fields["key"]:
            raise BadLine("its key is not that of its fields")
        if fields["kind"] == RunRecord.kind:
            RunRecord.of(fields)
        if fields["kind"] == RowRecord.kind:
            nodule_of(fields)
    except BadLine:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BadLine("its fields are not those of its kind") from error
