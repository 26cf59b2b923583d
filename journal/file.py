"""The journal's file: made, locked, put aside, checked to be one, and its torn end cut off."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from noduleserve import __version__
from noduleserve.errors import JournalError

from .appending import Appender
from .contents import begins_like_a_journal, not_a_journal
from .line import FORMAT, VERSION, encode, line_at
from .lock import lock
from .record import now

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_TORN = ".torn"
_LONGEST_HEADER = 2**10


def open_for_writing(path: Path, *, fresh: bool = False) -> int:
    """Open a journal, or make one with nothing but its header, and lock it.

    Args:
        path: of the journal; folders above it are made.
        fresh: put a journal that is there aside under the next free number, and make a new one.

    Returns:
        The descriptor, which is the caller's to close; the lock goes with it.

    Raises:
        JournalError: JOURNAL_IN_USE, JOURNAL_NO_LOCK, JOURNAL_NOT_A_JOURNAL, JOURNAL_NOT_WRITTEN.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path)
        if not fresh or os.fstat(descriptor).st_size == 0:
            return _with_header(descriptor, path)
        with _closing_on_error(descriptor):
            _check_kind(descriptor, path)
            put_aside(path)
            new = _open_locked(path)
        os.close(descriptor)  # the old one stays locked until the new one is
        return _with_header(new, path)
    except OSError as error:
        raise not_written(path, error) from None


def put_aside(path: Path) -> Path:
    """Rename a journal to its name and the next free number; the caller holds its lock."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists() or aside.is_symlink():
        number += 1
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def cut_torn_end(path: Path, descriptor: int, end: int) -> None:
    """Cut off what lies behind the last whole line; it is kept in "<name>.torn", behind what is there already.

    Raises:
        JournalError: JOURNAL_NOT_WRITTEN.
    """
    try:
        torn = os.pread(descriptor, os.fstat(descriptor).st_size - end, end)
        with path.with_name(path.name + _TORN).open("ab") as file:
            file.write(torn + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    except OSError as error:
        raise not_written(path, error) from None


def header() -> bytes:
    """The first line of a new journal."""
    time = now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return encode({"format": FORMAT, "version": VERSION, "time": time, "program": f"noduleserve {__version__}"})


def sync_folder(folder: Path) -> None:
    """Put names on the disk: a file that was made or renamed is else not sure to be found after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


def not_written(path: Path, error: OSError) -> JournalError:
    """The error for a journal that the system does not let us write."""
    mend = "Give the journal a place that may be written, or write permission there."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "Make space"
    elif error.errno == errno.EIO:
        mend = "Check the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        mend += " and start the run again: what is in the journal is kept, and the run goes on from there."
    return JournalError("JOURNAL_NOT_WRITTEN", f"{path.name} cannot be written ({error.strerror}).", mend)


def _open_locked(path: Path) -> int:
    """Open or create, and lock; until what is locked is what stands under the name."""
    while True:
        descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o666)
        with _closing_on_error(descriptor):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise not_a_journal(path)
            lock(descriptor, path.name)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        os.close(descriptor)  # put aside between opening and locking


def _with_header(descriptor: int, path: Path) -> int:
    with _closing_on_error(descriptor):
        if os.fstat(descriptor).st_size > 0:
            _check_kind(descriptor, path)
            first = line_at(descriptor, 0)
            if first.endswith(b"\n") or len(first) > _LONGEST_HEADER:
                return descriptor
            os.ftruncate(descriptor, 0)  # the end came while the header was written, and there is nothing else
        Appender(descriptor, 0).append(header())
        sync_folder(path.parent)
    return descriptor


def _check_kind(descriptor: int, path: Path) -> None:
    if not begins_like_a_journal(descriptor):
        raise not_a_journal(path)


@contextlib.contextmanager
def _closing_on_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise
