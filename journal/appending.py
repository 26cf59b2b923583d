"""Appending to a file so that a batch is on the disk whole when it counts, or is not there."""

from __future__ import annotations

import contextlib
import os


class Appender:
    """Appends to an open file.

    Attributes:
        end: length of what is on the disk for certain; nothing behind it counts.
    """

    def __init__(self, descriptor: int, end: int) -> None:
        """Append behind `end` bytes to a file opened with O_APPEND."""
        self._descriptor, self.end = descriptor, end

    def append(self, data: bytes) -> None:
        """Write and fsync; `end` moves only when both are done.

        Raises:
            OSError: as the system gives it. What was written of `data` is taken back as far as the disk allows. After a
                failed fsync nothing more may be appended: the kernel may have forgotten what it could not write.
        """
        try:
            rest = memoryview(data)
            while rest:  # a full disk, a limit or a signal makes a write short; the next one tells why
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.end)
                os.fsync(self._descriptor)
            raise
        self.end += len(data)
