"""Regions of POSIX shared memory for voxels: who owns one, when it may be written again, what the dead left behind.

A region's name says whose it is: the PID namespace, the process, its start, and one transport of it.  So what a killed
client left is known from what a living one uses, and nothing of another container is touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIX = "noduleserve-voxels"
_GRAIN = 2**20  # a region's size is a multiple of it, so that boxes of about one size share regions
_NAME = re.compile(PREFIX + r"-(?P<space>\d+)-(?P<pid>\d+)-(?P<start>\d+)-(?P<token>[0-9a-f]{16})-\d+")

_living: set[str] = set()  # tokens of this process' transports that are not closed


class Region:
    """Shared memory of one name, which is never used twice.

    Attributes:
        name: in /dev/shm, and at the server.
        size: bytes.
        registered: whether the server was told of it; it has forgotten where it was started again since.
    """

    def __init__(self, name: str, size: int) -> None:
        """Make it, its memory included.

        Raises:
            OSError: there is no room; ENOSPC.
        """
        self.name, self.size, self.registered = name, size, False
        self._memory = SharedMemory(name, create=True, size=size)
        try:
            # Without memory behind it, the first write would end this process by SIGBUS where /dev/shm is full.
            descriptor = os.open(FOLDER / name, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
        except OSError:
            self.unlink()
            raise

    def write(self, content: bytes) -> None:
        """Put bytes at its beginning."""
        buffer = self._memory.buf
        assert buffer is not None, "only after unlink"
        buffer[: len(content)] = content

    def unlink(self) -> None:
        """Let go of it here; a server that has mapped it keeps the memory, with its content, until it unregisters."""
        self._memory.close()
        with contextlib.suppress(FileNotFoundError):
            self._memory.unlink()


class RegionPool:
    """Regions of one transport; each is lent to one request at a time.

    A region comes back only when its request has been answered.  One whose request may still be read by the server is
    given up instead: unlinked, never written again, and its name kept until the server lets go of it.

    Attributes:
        given_up: names that the server may still know of.
    """

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._owner = f"{PREFIX}-{_space()}-{os.getpid()}-{_start(os.getpid())}-{self._token}"
        self._made = 0
        self._idle: list[Region] = []
        self._lent: set[Region] = set()
        self._closed = False
        self.given_up: list[str] = []
        _living.add(self._token)

    def lend(self, size: int) -> Region:
        """A region of at least so many bytes; in the place of the smallest idle one where none is large enough.

        Raises:
            OSError: there is no room, or the pool is closed.
        """
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the pool is closed")
        fitting = min((region for region in self._idle if region.size >= size), key=lambda r: r.size, default=None)
        if fitting:
            self._idle.remove(fitting)
        else:
            if self._idle:
                self._drop(self._idle.pop(self._idle.index(min(self._idle, key=lambda region: region.size))))
            fitting = Region(f"{self._owner}-{self._made}", -(-size // _GRAIN) * _GRAIN)
            self._made += 1
        self._lent.add(fitting)
        return fitting

    def take_back(self, region: Region) -> None:
        """Nobody reads it any more: it may be written again."""
        if region in self._lent:  # not after close
            self._lent.remove(region)
            self._idle.append(region)

    def give_up(self, region: Region) -> None:
        """The server may still read it: it is never written again."""
        if region in self._lent:
            self._lent.remove(region)
            self._drop(region)

    def close(self) -> None:
        """Let go of all regions here, and lend no more; the names are in `given_up`."""
        self._closed = True
        for region in [*self._idle, *self._lent]:
            self._drop(region)
        self._idle.clear()
        self._lent.clear()

    def end(self) -> None:
        """No name of this pool counts as living any more."""
        _living.discard(self._token)

    def _drop(self, region: Region) -> None:
        region.unlink()
        self.given_up.append(region.name)


def is_stale(name: str) -> bool:
    """Whether a name is that of a region whose owner has ended; names of other PID namespaces are nobody's business."""
    found = _NAME.fullmatch(name)
    if found is None or found["space"] != _space():
        return False
    if int(found["pid"]) == os.getpid() and found["start"] == _start(os.getpid()):
        return found["token"] not in _living
    return _start(int(found["pid"])) != found["start"]


def sweep() -> None:
    """Unlink what clients of this machine left that were killed."""
    for file in FOLDER.glob(f"{PREFIX}-*"):
        if is_stale(file.name):
            with contextlib.suppress(OSError):  # another one's, or swept already
                file.unlink()


def _space() -> str:
    """The PID namespace of this process."""
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _start(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
