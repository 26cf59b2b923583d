"""The inside of a reader process."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from typing import TypeVar

from .work import Reader

_T = TypeVar("_T")
_reader: Reader


def begin(make_reader: Callable[[], Reader], folder: str) -> None:
    """What a process does first.

    Args:
        make_reader: makes what it reads with.
        folder: for everything that is unpacked here; the parent removes it.
    """
    global _reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us in its own order
    tempfile.tempdir = folder
    _reader = make_reader()
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()


def run(call: Callable[[Reader], _T]) -> _T:
    """Do something with this process's reader."""
    return call(_reader)


def _end_with_parent(folder: str) -> None:
    """Wait until the parent is gone, however it went, and go too."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    with contextlib.suppress(Exception):
        _reader.close()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
