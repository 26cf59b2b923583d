"""Letting the system forget what it has read, so that a file comes from the disk again; needs no rights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def forget(files: Iterable[Path]) -> bool | None:
    """Take files out of the page cache as far as the system does as it is asked.

    What is not on the disk yet would stay in memory, and is written first.

    Returns:
        Whether the last of them is seen to be gone; None where the file system cannot tell, or there is no file.
    """
    last = None
    for last in files:
        descriptor = os.open(last, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    there = None if last is None else is_in_memory(last)
    return None if there is None else not there


def is_in_memory(path: Path) -> bool | None:
    """Whether the first byte of a file comes without waiting for the disk; None where the file system cannot tell.

    Asking makes the system read it: the next answer is yes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(descriptor)
