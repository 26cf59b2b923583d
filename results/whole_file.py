"""A file that is there whole or not at all: written beside its place, put into it when it is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from noduleserve.errors import ResultsError

from .base import not_written

PART = ".part"


class WholeFile:
    """A file that is written as `<name>.part` in its own folder, and renamed when it is on the disk.

    A run that is killed leaves the file as it was, and a part file that the next run begins anew. A lock on the part
    file keeps two runs apart, where the file system has locks.

    Attributes:
        path: of the finished file; where the one asked for is a link, of what it points to.
        part: of the file until then.
    """

    def __init__(self, target: str) -> None:
        """Name the file; nothing is touched."""
        self.target = target
        self.path = Path(os.path.realpath(target))
        self.part = self.path.with_name(self.path.name + PART)
        self._file: BinaryIO | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a part file that is neither in its place nor removed."""
        return self._file is not None

    def check(self) -> None:
        """Try whether the file could be written; its folder is made where it is missing.

        Raises:
            ResultsError: OUTPUT_NOT_WRITTEN, OUTPUT_IN_USE.
        """
        try:
            self.open().write(b"?")
            assert self._file is not None
            self._file.flush()
        except OSError as error:
            raise not_written(self.target, error.strerror) from None
        finally:
            self.abort()

    def open(self) -> BinaryIO:
        """The part file, empty, open for writing in bytes.

        Raises:
            ResultsError: OUTPUT_NOT_WRITTEN, OUTPUT_IN_USE.
        """
        with self.writing():
            if self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
                kind = errno.EISDIR if self.path.is_dir() else errno.EINVAL  # a device must not be replaced by a file
                raise OSError(kind, os.strerror(kind))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked()
            self._file.truncate(0)
            if self.path.exists():  # who may read the old file, and nobody else, may read the new one
                os.fchmod(self._file.fileno(), stat.S_IMODE(self.path.stat().st_mode))
        return self._file

    def commit(self) -> None:
        """Put the file in its place, on the disk.

        Raises:
            ResultsError: OUTPUT_NOT_WRITTEN.
        """
        assert self._file is not None
        with self.writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self.part.replace(self.path)
            self._close()
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def abort(self) -> None:
        """Remove the part file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.part.unlink(missing_ok=True)  # before the lock goes, so that it is never another run's
            self._close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the operating system says into ResultsError OUTPUT_NOT_WRITTEN."""
        try:
            yield
        except OSError as error:
            raise not_written(self.target, error.strerror or str(error)) from None

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # its buffer is empty, or of no use any more
                file.close()

    def _locked(self) -> BinaryIO:
        while True:
            file = os.fdopen(os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise ResultsError(
                    "OUTPUT_IN_USE",
                    f"Another run is writing {self.target}.",
                    "Wait until it has ended, or name another output.",
                ) from None
            except OSError:  # no locks on this file system
                return file
            if self._is_part(file):
                return file
            file.close()  # another run put it in its place, or removed it, between opening and locking

    def _is_part(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.part.stat())
        except FileNotFoundError:
            return False
