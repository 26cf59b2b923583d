"""Reading a journal: an index of where each nodule's latest outcome stands, and the outcomes themselves one by one."""

from __future__ import annotations

import os
import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from noduleserve.errors import JournalError

from .key import Key
from .line import START, VERSION, BadLine, Line, decode, line_at, lines_of
from .record import OutcomeRecord, RunRecord, nodule_of

SCORED = "scored"


class Contents:
    """What a journal holds, read-only.

    In memory are, for each key, its digest, the offset of its latest outcome and a number for release and code (about
    200 bytes), and 16 bytes a row of the last run; scores stay on the disk until they are asked for. Safe to be used by
    several threads, and while another process writes the journal: what it adds after opening is not seen.

    Outcomes that come from it are `resumed` where they stand before the last run's beginning.

    Attributes:
        path: of the journal.
        run: the last run that began, or None.
        first, last: time of the first and of the last record, or None.
        torn_bytes: length of a last line that was cut in the middle; it holds nothing that ever counted.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Read an open journal through; see `Contents.open`."""
        self.path = path
        self.run: RunRecord | None = None
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.torn_bytes = 0
        self._descriptor = descriptor
        self._run_offset = 0
        self._lock = threading.Lock()
        self._slots: dict[bytes, int] = {}  # key -> its place in the two arrays
        self._offsets = array("q")
        self._kinds = array("l")
        self._kind_numbers: dict[tuple[str, str], int] = {}  # (release, error code) -> its number in _kinds
        self._rows: list[array[int]] = [array("q"), array("q")]  # of each row: its line's offset, its key's slot, or -1
        self._end = self._load()

    @classmethod
    def open(cls, path: Path) -> Contents:
        """Open a journal for reading only; a context manager.

        Raises:
            JournalError: JOURNAL_NOT_FOUND, JOURNAL_UNREADABLE, JOURNAL_NOT_A_JOURNAL, JOURNAL_VERSION,
                JOURNAL_DAMAGED.
        """
        descriptor = open_for_reading(path)
        try:
            return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def count(self) -> int:
        """How many keys have an outcome."""
        return len(self._slots)

    def __contains__(self, key: Key) -> bool:
        return bytes.fromhex(key.text) in self._slots

    def get(self, key: Key) -> OutcomeRecord | None:
        """The latest outcome that is filed under a key, or None.

        Raises:
            JournalError: JOURNAL_DAMAGED, JOURNAL_UNREADABLE.
        """
        slot = self._slots.get(bytes.fromhex(key.text))
        return None if slot is None else self._record(self._offsets[slot])

    def records(self) -> Iterator[OutcomeRecord]:
        """The latest outcome of every key, in the order in which they stand in the file.

        Raises:
            JournalError: JOURNAL_DAMAGED, JOURNAL_UNREADABLE.
        """
        with self._lock:
            offsets = sorted(self._offsets)
        return map(self._record, offsets)

    def rows(self) -> Iterator[OutcomeRecord]:
        """The rows of the last run that have an outcome, in the worklist's order, each with its own row as the nodule.

        Rows of one key have one outcome, the latest. How many are missing says `missing`.

        Raises:
            JournalError: JOURNAL_DAMAGED, JOURNAL_UNREADABLE.
        """
        with self._lock:
            rows = list(zip(*self._rows, strict=True))
        for row_offset, slot in rows:
            if slot < 0:
                continue
            offset = self._offsets[slot]
            record = self._record(offset)
            if row_offset != offset:
                nodule = nodule_of(self._fields(row_offset))
                record = replace(record, outcome=replace(record.outcome, nodule=nodule))
            yield record

    @property
    def missing(self) -> int:
        """How many rows of the last run's worklist have no outcome."""
        with self._lock:
            return (self.run.rows if self.run else 0) - sum(slot >= 0 for slot in self._rows[1])

    def counts(self) -> dict[tuple[str, str], int]:
        """How many keys end in each way: (release, "scored" or error code) -> number; nothing is read for it."""
        with self._lock:
            numbers = Counter(self._kinds)
            names = {number: kind for kind, number in self._kind_numbers.items()}
        return {(names[n][0], names[n][1] or SCORED): count for n, count in sorted(numbers.items())}

    def _load(self) -> int:
        """Read all lines into the index; the end of the last whole one."""
        end = 0
        try:
            for line in lines_of(self._descriptor):
                try:
                    fields = decode(line.data)
                except BadLine as error:
                    if line.last and line.number > 1:
                        self.torn_bytes = len(line.data)
                        break
                    raise damaged(self.path, line.number, str(error)) from None
                if line.number == 1:
                    check_version(self.path, fields)
                self._take(fields, line)
                end = line.offset + len(line.data)
        except OSError as error:
            raise unreadable(self.path, error) from None
        return end

    def _take(self, fields: Mapping[str, Any], line: Line) -> None:
        try:
            self._add(fields, line.offset)
        except (ValueError, KeyError, TypeError):  # the checksum is right, so that it was written like this
            raise _from_later(self.path, line.number) from None

    def _add(self, fields: Mapping[str, Any], offset: int) -> None:
        """Take one line into the index; kinds that this version does not know are passed over."""
        with self._lock:
            if "time" in fields and "kind" in fields:  # the file's own beginning may be younger than what it holds
                time = datetime.fromisoformat(fields["time"])
                self.first, self.last = self.first or time, time
            kind = fields.get("kind")
            if kind == "outcome":
                self._add_outcome(fields, offset)
            elif kind == "row":
                # A row whose outcome is gone (its line was taken out) is a row without an outcome.
                slot = self._slots.get(bytes.fromhex(fields["key"]), -1)
                self._add_row(fields["nodule"]["number"], offset, slot)
            elif kind == "run":
                run = RunRecord.of(fields)
                if self.run is None or not run.takes_up(self.run):
                    self._rows = [array("q"), array("q")]
                self.run, self._run_offset = run, offset

    def _add_outcome(self, fields: Mapping[str, Any], offset: int) -> None:
        key = bytes.fromhex(fields["key"])
        kind = (fields["release"], fields["error_code"])
        number = self._kind_numbers.setdefault(kind, len(self._kind_numbers))
        slot = self._slots.get(key)
        if slot is None:
            slot = len(self._offsets)
            self._offsets.append(offset)
            self._kinds.append(number)
            self._slots[key] = slot  # last, for who looks up without the lock
        else:
            self._offsets[slot], self._kinds[slot] = offset, number
        self._add_row(fields["nodule"]["number"], offset, slot)

    def _add_row(self, number: int, offset: int, slot: int) -> None:
        lacking = number + 1 - len(self._rows[0])
        for part, value in zip(self._rows, (offset, slot), strict=True):
            part.extend([-1] * lacking)
            part[number] = value

    def _has_row(self, number: int, key: Key) -> bool:
        """Whether a row of the last run is known to have the outcome of a key."""
        slots = self._rows[1]
        return number < len(slots) and slots[number] >= 0 and slots[number] == self._slots.get(bytes.fromhex(key.text))

    def _fields(self, offset: int) -> dict[str, Any]:
        try:
            return decode(line_at(self._descriptor, offset))
        except BadLine as error:
            raise damaged(self.path, self._line_number(offset), str(error)) from None
        except OSError as error:
            raise unreadable(self.path, error) from None

    def _record(self, offset: int) -> OutcomeRecord:
        fields = self._fields(offset)
        try:
            record = OutcomeRecord.of(fields)
        except (ValueError, KeyError, TypeError):  # the checksum is right, so that it was written like this
            raise _from_later(self.path, self._line_number(offset)) from None
        if record.key.text != fields["key"]:
            raise damaged(self.path, self._line_number(offset), "its key is not that of its fields")
        return replace(record, outcome=replace(record.outcome, resumed=offset < self._run_offset))

    def _line_number(self, offset: int) -> int:
        return 1 + sum(line.offset < offset for line in lines_of(self._descriptor))


def open_for_reading(path: Path) -> int:
    """Open a journal's file; the descriptor is the caller's to close.

    Raises:
        JournalError: JOURNAL_NOT_FOUND, JOURNAL_UNREADABLE, JOURNAL_NOT_A_JOURNAL.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    except FileNotFoundError:
        raise JournalError("JOURNAL_NOT_FOUND", f"There is no journal {path.name}.", "Check the path.") from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        if not begins_like_a_journal(descriptor):
            raise not_a_journal(path)
    except OSError as error:
        os.close(descriptor)
        raise unreadable(path, error) from None
    except JournalError:
        os.close(descriptor)
        raise
    return descriptor


def begins_like_a_journal(descriptor: int) -> bool:
    """Whether a file's first bytes are those of every journal."""
    return os.pread(descriptor, len(START), 0) == START


def check_version(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse a journal of a later format.

    Raises:
        JournalError: JOURNAL_VERSION.
    """
    if header.get("version") != VERSION:
        raise JournalError(
            "JOURNAL_VERSION",
            f"{path.name} is in version {header.get('version')} of the journal's format; known here is {VERSION}.",
            "Use the noduleserve that wrote it, or begin a new journal with --fresh.",
        )


def not_a_journal(path: Path) -> JournalError:
    """The error for a foreign file."""
    return JournalError(
        "JOURNAL_NOT_A_JOURNAL",
        f"{path.name} is there, but is no journal of noduleserve; it is left as it is.",
        "Give another path for the journal.",
    )


def damaged(path: Path, number: int, how: str) -> JournalError:
    """The error for a line that is not what was written."""
    return JournalError(
        "JOURNAL_DAMAGED",
        f"Line {number} of {path.name} is damaged: {how}.",
        f"Run `noduleserve journal {path.name} --mend`: it keeps every whole line, and the nodules of the others are "
        "scored again. Then check the disk.",
    )


def unreadable(path: Path, error: OSError) -> JournalError:
    """The error for a file that the system does not let us read."""
    return JournalError(
        "JOURNAL_UNREADABLE", f"{path.name} cannot be read ({error.strerror}).", "Check its permissions and the disk."
    )


def _from_later(path: Path, number: int) -> JournalError:
    return JournalError(
        "JOURNAL_VERSION",
        f"Line {number} of {path.name} holds what this noduleserve does not know.",
        "Use the noduleserve that wrote it, or begin a new journal with --fresh.",
    )
