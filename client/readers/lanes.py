"""Lanes: each runs one reader, one thing at a time, in a process or in a thread.

A process of its own for each lane, rather than one pool for all, has two uses: the nodules of a series meet the reader
that has it open, and when a process dies it is known what it was reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from operator import methodcaller
from typing import Any

from noduleserve.errors import NoduleserveError

from . import worker
from .work import Center, Cut, Place, Plan, Reader, Refusal

MOST_PROCESSES = 4
_FEW_SERIES = 16  # a process takes a second to start, and a series rarely as long to read
_TRIES = 2
_PATIENCE_S = 900.0  # for one thing that a process does; the largest archives take minutes to unpack
CRASHED = Refusal(
    "READER_CRASHED",
    "The process that read this nodule's series died or hung, twice. "
    "Mend: Read the series with another tool, copy it again, or see whether the machine ran out of memory.",
)


class Lane(ABC):
    """One reader at work."""

    async def plan(self, place: Place, centers: Sequence[Center]) -> Plan:
        """See Reader.plan; READER_CRASHED where the series kills its reader."""
        found = await self._run(methodcaller("plan", place, centers))
        return Plan("", found) if isinstance(found, Refusal) else found

    async def cut(self, place: Place, center: Center) -> Cut | Refusal:
        """See Reader.cut; READER_CRASHED where the nodule kills its reader."""
        return await self._run(methodcaller("cut", place, center))

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything; what is being read is given up."""

    @abstractmethod
    async def _run(self, call: Callable[[Reader], Any]) -> Any:
        """Do something with the reader, or say CRASHED."""


class ThreadLane(Lane):
    """A reader in a thread of this process."""

    def __init__(self, make_reader: Callable[[], Reader]) -> None:
        self._reader = make_reader()
        self._thread = ThreadPoolExecutor(1, "noduleserve-reader")

    async def close(self) -> None:
        """See Lane; waits for the box that is being read."""
        self._thread.submit(self._reader.close)
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, call: Callable[[Reader], Any]) -> Any:
        return await asyncio.wrap_future(self._thread.submit(call, self._reader))


class ProcessLane(Lane):
    """A reader in a process of its own, which is started anew when it dies."""

    def __init__(self, make_reader: Callable[[], Reader], patience: float = _PATIENCE_S) -> None:
        self._make_reader, self._patience = make_reader, patience
        self._folder = ""  # made with the first process, which removes it where we cannot
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    async def close(self) -> None:
        """See Lane."""
        await self._end()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _run(self, call: Callable[[Reader], Any]) -> Any:
        for _ in range(_TRIES):
            pool = self._pool or await self._start()
            try:
                async with asyncio.timeout(self._patience):
                    return await asyncio.wrap_future(pool.submit(worker.run, call))
            except TimeoutError:
                await self._end()
            except BrokenProcessPool:
                self._pid = 0  # it is dead, and its number may soon be another's
                await self._end()
        return CRASHED

    async def _start(self) -> ProcessPoolExecutor:
        """A new process, with an empty folder for what it unpacks.

        Raises:
            NoduleserveError: READERS_NOT_STARTED.
        """
        self._folder = self._folder or tempfile.mkdtemp(prefix="noduleserve-")
        for left in os.scandir(self._folder):
            shutil.rmtree(left.path, ignore_errors=True)
        context = multiprocessing.get_context("spawn")  # a fork would take gRPC's threads' locks along
        self._pool = ProcessPoolExecutor(1, context, worker.begin, (self._make_reader, self._folder))
        try:
            with _without_main():
                started: Future[int] = self._pool.submit(os.getpid)
            self._pid = await asyncio.wrap_future(started)
        except (BrokenProcessPool, OSError):
            self._pid = 0
            await self._end()
            raise NoduleserveError(
                "READERS_NOT_STARTED",
                "A process that reads series cannot be started.",
                "See the limits of memory and processes, or read in this process (no reader processes).",
            ) from None
        return self._pool

    async def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
        self._pid = 0
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module while a process is spawned: a reader needs nothing of it, and would run a script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def make_lanes(readers: int | None, series: int | None, make_reader: Callable[[], Reader]) -> list[Lane]:
    """Lanes for a run.

    Args:
        readers: processes; 0 for a thread; None decides by the length of the run.
        series: of the run, None where that is not known.
        make_reader: makes what each lane reads with; for processes it must be a name of a module.
    """
    if readers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        readers = min(max(1, cores - 1), MOST_PROCESSES) if (series or 0) > _FEW_SERIES else 0
    if readers == 0:
        return [ThreadLane(make_reader)]
    return [ProcessLane(make_reader) for _ in range(readers)]
