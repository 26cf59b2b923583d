"""Decoded frames of a series, the last used kept: boxes of neighbouring nodules share most of their slices."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from numpy.typing import NDArray

from .codestream import Codestream

MOST_BYTES = 2**26  # 128 slices of 512 x 512


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        words: as the decoder gives them, read-only, [rows, columns].
        stream: what its header says; without data and scan.
    """

    words: NDArray[Any]
    stream: Codestream


class DecodedFrames:
    """Keeps what was decoded last, up to a number of bytes; threads may share it.

    A file that has changed since is decoded anew.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._frames: OrderedDict[tuple[Any, ...], Frame] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: BinaryIO, path: Path, number: int, decode: Callable[[], Frame]) -> Frame:
        """A frame of an open file, decoded unless it is there; raises what decoding raises, and keeps nothing then."""
        about = os.fstat(file.fileno())
        key = (path, number, about.st_mtime_ns, about.st_size, about.st_ino)
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        frame = decode()
        frame.words.flags.writeable = False
        with self._lock:
            if key not in self._frames and frame.words.nbytes <= self._most:
                self._frames[key] = frame
                self._held += frame.words.nbytes
                while self._held > self._most:
                    self._held -= self._frames.popitem(last=False)[1].words.nbytes
        return frame
