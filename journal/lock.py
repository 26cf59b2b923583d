"""One writer a journal: a lock on the journal's own file, which the kernel takes back from a process that is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from noduleserve.errors import JournalError


def lock(descriptor: int, name: str) -> None:
    """Take the lock on an open journal, or refuse at once.

    It goes when the descriptor is closed, or with the process, however that ends.

    Raises:
        JournalError: JOURNAL_IN_USE, JOURNAL_NO_LOCK.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(
            "JOURNAL_IN_USE",
            f"{_holder(descriptor)} is writing {name}.",
            "Wait until that run has ended, or end it, or give this run a journal of its own.",
        ) from None
    except OSError as error:
        raise JournalError(
            "JOURNAL_NO_LOCK",
            f"{name} lies on a file system without locks ({error.strerror}).",
            "Put the journal on a local disk.",
        ) from None


def _holder(descriptor: int) -> str:
    """The process that holds the lock, as far as the kernel tells; not where it is in another container or machine."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for row in Path("/proc/locks").read_text().splitlines():
            words = row.split()  # 1: FLOCK ADVISORY WRITE pid device:inode 0 EOF
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == place and int(words[4]) > 0:
                return "This process" if int(words[4]) == os.getpid() else f"Process {words[4]}"
    return "Another process"
