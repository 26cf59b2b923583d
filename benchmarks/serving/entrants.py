"""Who takes part, and how their servers are started: all at once where memory allows, else each for its own turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from noduleserve.errors import NoduleserveError

from ..load.usage import processes_of
from ..rivals.base import Rival, RivalMaker

Role = Literal["ours", "bare", "rival"]
_WAKING_S = 0.2  # for a server to close connections that were idle too long while it was suspended
_ROOM = 1.5  # of the memory that the largest way took, free before the next one is started


@dataclass(frozen=True)
class Entrant:
    """A way that takes part.

    Attributes:
        name: in tables.
        role: "ours", "bare" (the bare encoder, the upper bound) or "rival"; the first of ours is what others are
            compared with.
        make: a new one, not yet started.
    """

    name: str
    role: Role
    make: Callable[[], RivalMaker]


class Stage:
    """Starts entrants and lends them out; an async context manager, which ends what still runs.

    The processes of a rival's server are suspended while it is not lent: some servers look for work all the time, and
    would take processors from the one that is measured.  This system's own are not.

    Attributes:
        entrants: that take part; those that cannot be started are left out.
        left_out: a sentence for each of those.
        together: whether all of them are up at once.
        what: name -> the sentence that a way says of itself.
        running: name -> the way, of those that are up.
    """

    def __init__(
        self,
        entrants: Sequence[Entrant],
        tell: Callable[[str], None] = lambda _: None,
        available: Callable[[], float] | None = None,
    ) -> None:
        """Name who takes part.

        Args:
            entrants: in the order in which they are measured.
            tell: is called with a line of progress.
            available: bytes of memory that are free; default: as the system says.
        """
        self.entrants = list(entrants)
        self.left_out: list[str] = []
        self.together = True
        self.what: dict[str, str] = {}
        self.running: dict[str, Rival] = {}
        self._tell, self._available = tell, available or _available
        self._up = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Stage:
        try:
            await self._start_all()
        except BaseException:
            await self._up.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self._wake_all()
        await self._up.aclose()

    @contextlib.asynccontextmanager
    async def lend(self, entrant: Entrant) -> AsyncIterator[Rival]:
        """An entrant, up and warm."""
        if entrant.name in self.running:
            await self._wake(entrant)
            try:
                yield self.running[entrant.name]
            finally:
                self._suspend(entrant)
            return
        async with contextlib.AsyncExitStack() as up:
            self._tell(f"starting {entrant.name}")
            rival = await up.enter_async_context(entrant.make())
            self.running[entrant.name] = rival
            try:
                yield rival
            finally:
                del self.running[entrant.name]

    async def _start_all(self) -> None:
        """Start every entrant once, so that what cannot be started is known before anything is measured."""
        largest = 0.0
        for entrant in list(self.entrants):
            before = self._available()
            if self.together and before < _ROOM * largest:
                self._tell("memory is short: every way is started for its own turns only")
                self.together = False
                self._wake_all()
                await self._up.aclose()
                before = self._available()
            await self._start(entrant)
            largest = max(largest, before - self._available())

    async def _start(self, entrant: Entrant) -> None:
        self._tell(f"starting {entrant.name}")
        try:
            if self.together:
                rival = await self._up.enter_async_context(entrant.make())
                self.running[entrant.name] = rival
                self.what[entrant.name] = rival.what
                self._suspend(entrant)
            else:
                async with entrant.make() as rival:
                    self.what[entrant.name] = rival.what
        except Exception as error:
            if entrant.role == "ours":
                raise
            self.entrants.remove(entrant)
            why = error.sentence if isinstance(error, NoduleserveError) else f"{type(error).__name__}: {error}"
            self.left_out.append(f"Left out: {entrant.name}. {why}")
            self._tell(self.left_out[-1])

    def _suspend(self, entrant: Entrant) -> None:
        """Memory stays where it is; time limits of the server go on meanwhile."""
        if entrant.role == "rival":
            _signal(self.running[entrant.name], signal.SIGSTOP)

    async def _wake(self, entrant: Entrant) -> None:
        if entrant.role == "rival":
            _signal(self.running[entrant.name], signal.SIGCONT)
            await asyncio.sleep(_WAKING_S)

    def _wake_all(self) -> None:
        """So that they can end in good order."""
        for rival in self.running.values():
            _signal(rival, signal.SIGCONT)
        self.running.clear()


def _signal(rival: Rival, number: int) -> None:
    for process in processes_of(rival.pids):
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.kill(process.pid, number)


def _available() -> float:
    import psutil

    return float(psutil.virtual_memory().available)
