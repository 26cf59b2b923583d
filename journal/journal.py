"""The journal of a run, open for writing: made or taken up, locked, appended to in batches that are on the disk."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from .appending import Appender
from .batches import Batches
from .contents import Contents
from .file import cut_torn_end, not_written, open_for_writing
from .line import decode, encode
from .record import OutcomeRecord, Record, RowRecord

BATCH = 64
SECONDS = 0.5


class Journal(Contents):
    """What a journal holds, and the one writer of it; a context manager.

    A record counts, and is found by `get`, `records`, `rows` and `counts`, once it is on the disk (fsync). Records are
    written in the order in which they are handed in. Safe to be used by several threads and by asyncio.

    Where the disk fails, everything that waits and everything that comes later gets JOURNAL_NOT_WRITTEN, and the file
    is cut back to the last record that counted; a new `Journal.open` takes it up.

    Leaving the block writes what is waiting, and raises JOURNAL_NOT_WRITTEN where that, or anything before, failed,
    unless another error is on its way already.

    Attributes:
        cut_bytes: length of a torn end that was cut off at opening; it never counted.
        spent: seconds so far by what for: "lines" (made of records, by whoever handed them in), "disk" (written and
            synced) and "index", both by the journal's own thread.
    """

    def __init__(self, path: Path, descriptor: int, *, batch: int, seconds: float, embeddings: bool) -> None:
        """Take up a locked file; see `Journal.open`."""
        super().__init__(path, descriptor)
        self.cut_bytes, self.torn_bytes = self.torn_bytes, 0
        if self.cut_bytes:
            cut_torn_end(path, descriptor, self._end)
        self.spent = dict.fromkeys(("lines", "disk", "index"), 0.0)
        self._embeddings = embeddings
        self._appender = Appender(descriptor, self._end)
        self._batches: Batches[bytes] = Batches(self._write, batch, seconds)
        _OPEN.add(self)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        fresh: bool = False,
        batch: int = BATCH,
        seconds: float = SECONDS,
        embeddings: bool = True,
    ) -> Journal:
        """Take up the journal of that name, or make it.

        Args:
            path: of the journal, on a local disk.
            fresh: begin a new one; the old one is renamed to its name and a number, and kept.
            batch: records that are written without waiting for more.
            seconds: how long a record waits for others at most; with 0 it waits only while another batch is written.
            embeddings: whether embeddings are kept, most of an outcome's bytes; else they come back as float32 [F, 0].

        Raises:
            JournalError: JOURNAL_IN_USE, JOURNAL_NO_LOCK, JOURNAL_NOT_A_JOURNAL, JOURNAL_VERSION, JOURNAL_DAMAGED,
                JOURNAL_NOT_WRITTEN.
        """
        descriptor = open_for_writing(path, fresh=fresh)
        try:
            return cls(path, descriptor, batch=batch, seconds=seconds, embeddings=embeddings)
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if kind is None and self._batches.failure is not None:
            raise self._batches.failure

    def close(self) -> None:
        """Write what is waiting, and let go of file and lock; where that fails, leaving the block tells."""
        if self._descriptor >= 0:
            self._batches.close()
        super().close()
        _OPEN.discard(self)

    def append(self, record: Record) -> None:
        """Hand in a record without waiting for it; `flush` waits.

        Raises:
            JournalError: JOURNAL_NOT_WRITTEN, where an earlier one could not be written.
            ValueError: where the record holds what cannot be given back to the bit.
        """
        self._batches.put(self._lines([record]))

    def flush(self) -> None:
        """Wait until all that was handed in is on the disk.

        Raises:
            JournalError: JOURNAL_NOT_WRITTEN.
        """
        self._batches.put([], hurry=True).result()

    def append_all(self, records: Iterable[Record]) -> None:
        """Hand in records and wait until they are on the disk; raises like `append` and `flush`."""
        self._batches.put(self._lines(records), hurry=True).result()

    async def commit(self, records: Sequence[Record], *, hurry: bool = False) -> None:
        """Hand in records and wait until they are on the disk, together with those of others; raises like `append`.

        Whoever stops waiting does not take the records back.

        Args:
            records: none is allowed, to wait in a hurry for those that were handed in before.
            hurry: do not wait for more.
        """
        lines = self._lines(records)
        if lines or hurry:
            await asyncio.wrap_future(self._batches.put(lines, hurry=hurry))

    def _lines(self, records: Iterable[Record]) -> list[bytes]:
        began, lines = time.perf_counter(), []
        for record in records:
            if isinstance(record, OutcomeRecord):
                lines.append(encode(record.fields(embedding=self._embeddings)))
            elif not (isinstance(record, RowRecord) and self._has_row(record.nodule.number, record.key)):
                lines.append(encode(record.fields()))
        self.spent["lines"] += time.perf_counter() - began
        return lines

    def _write(self, lines: list[bytes]) -> None:
        offset, began = self._appender.end, time.perf_counter()
        try:
            self._appender.append(b"".join(lines))
        except OSError as error:
            raise not_written(self.path, error) from None
        on_disk = time.perf_counter()
        for line in lines:
            self._add(decode(line), offset)
            offset += len(line)
        self.spent["disk"] += on_disk - began
        self.spent["index"] += time.perf_counter() - on_disk

    def _let_go_in_child(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Let go of journals in a forked child: it would hold the lock after its parent's death."""
    for journal in list(_OPEN):
        journal._let_go_in_child()
    _OPEN.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
