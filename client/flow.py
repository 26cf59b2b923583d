"""The way of a worklist's nodules: lanes read them, senders have them scored, outcomes come out; none is missed.

Everything on the way is bounded: a lane holds one box, the queue between lanes and senders as many as may be in
flight, the byte budget all of them together.  Whoever takes no outcomes stops the senders, these the lanes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule

from .budget import ByteBudget
from .grouping import Series
from .readers.lanes import Lane
from .readers.work import Place, Plan, Refusal
from .scorer import ReadNodule, Scorer
from .status import EngineStatus

# (nodule, SeriesInstanceUID or "" where there is none) -> what an earlier run made of it, or None
Done = Callable[[Nodule, str], Outcome | None]

_NO_PLAN = Plan("", [])


def nothing_done(_nodule: Nodule, _series_uid: str) -> Outcome | None:
    """There was no earlier run."""
    return None


@dataclass(frozen=True, eq=False)
class _End:
    """The last that comes out: why the flow broke off, or None where it is complete."""

    error: BaseException | None


class Flow:
    """One worklist on its way; `outcomes` may be taken once."""

    def __init__(
        self,
        series: Iterator[Series],
        lanes: Sequence[Lane],
        scorer: Scorer,
        budget: ByteBudget,
        senders: int,
        status: EngineStatus,
        done: Done = nothing_done,
        blocking: bool = False,
    ) -> None:
        """Prepare.

        Args:
            series: to be read.
            lanes: that read them.
            scorer: has boxes scored.
            budget: for boxes.
            senders: nodules that are being scored, at most.
            status: is kept up to date.
            done: is asked before anything is read.
            blocking: whether the next series may be long in coming, so that a thread waits for it.
        """
        self._series, self._lanes, self._scorer, self._budget = series, lanes, scorer, budget
        self._senders, self._status, self._done, self._blocking = senders, status, done, blocking
        self._ready: asyncio.Queue[ReadNodule | None] = asyncio.Queue(senders)
        self._out: asyncio.Queue[Outcome | _End] = asyncio.Queue(senders)
        self._next = asyncio.Lock()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """One outcome a nodule, as they come; what breaks the flow off is raised behind the last of them."""
        working = asyncio.create_task(self._work())
        try:
            while not isinstance(item := await self._out.get(), _End):
                yield item
            if item.error:
                raise item.error
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            while not self._ready.empty():  # boxes that nobody will send
                if left := self._ready.get_nowait():
                    self._budget.release(left.reserved)

    async def _work(self) -> None:
        error = None
        try:
            async with asyncio.TaskGroup() as senders:
                for _ in range(self._senders):
                    senders.create_task(self._send())
                async with asyncio.TaskGroup() as readers:
                    for lane in self._lanes:
                        readers.create_task(self._read(lane))
                for _ in range(self._senders):
                    await self._ready.put(None)
        except BaseExceptionGroup as group:
            error = _first(group)
        await self._out.put(_End(error))

    # ------------------------------------------------------------ sending

    async def _send(self) -> None:
        while await self._send_one():
            pass

    async def _send_one(self) -> bool:
        """In a function of its own, so that nothing holds a box that has been answered."""
        read = await self._ready.get()
        if read is None:
            return False
        try:
            outcome = await self._scorer.outcome(read)
        finally:
            self._budget.release(read.reserved)
        del read
        await self._out.put(outcome)
        return True

    # ------------------------------------------------------------ reading

    async def _read(self, lane: Lane) -> None:
        while (series := await self._next_series()) is not None:
            await self._read_series(lane, series)
            self._status.series_done += 1

    async def _next_series(self) -> Series | None:
        async with self._next:
            if self._blocking:
                return await asyncio.to_thread(next, self._series, None)
            return next(self._series, None)

    async def _read_series(self, lane: Lane, series: Series) -> None:
        wanted = [nodule for nodule in series.nodules if not await self._needs_no_reading(nodule)]
        if not wanted:
            return
        place = Place(series.path, series.series_uid)
        plan = await lane.plan(place, [nodule.center for nodule in wanted if nodule.center])
        opened: float | None = plan.seconds
        for number, nodule in enumerate(wanted):
            if await self._is_done(nodule, plan.series_uid):
                continue
            box = plan.boxes if isinstance(plan.boxes, Refusal) else plan.boxes[number]
            read = await self._read_nodule(lane, place, nodule, box, plan, opened)
            if isinstance(read, ReadNodule):
                await self._hand_on(read)
            else:
                await self._out.put(_refused(nodule, read, plan, opened))
            opened = None  # is counted for one nodule only

    async def _needs_no_reading(self, nodule: Nodule) -> bool:
        """Rows that cannot be used, and those of an earlier run whose series is named: no file has to be opened."""
        if nodule.problem or nodule.center is None:
            if not await self._is_done(nodule, ""):
                problem = f"{nodule.problem} Mend: Put this row of the worklist right."
                await self._out.put(_refused(nodule, Refusal("WORKLIST_ROW", problem)))
            return True
        return bool(nodule.series_uid) and await self._is_done(nodule, nodule.series_uid)

    async def _is_done(self, nodule: Nodule, series_uid: str) -> bool:
        outcome = self._done(nodule, series_uid)
        if outcome is None:
            return False
        await self._out.put(replace(outcome, nodule=nodule, series_uid=series_uid, resumed=True))
        return True

    async def _read_nodule(
        self, lane: Lane, place: Place, nodule: Nodule, box: int | Refusal, plan: Plan, opened: float | None
    ) -> ReadNodule | Refusal:
        if isinstance(box, Refusal):
            return box
        assert nodule.center is not None
        began = time.perf_counter()
        reserved = await self._budget.acquire(box)
        waited = time.perf_counter() - began
        read: ReadNodule | None = None
        try:
            cut = await lane.cut(place, nodule.center)
            if isinstance(cut, Refusal):
                return cut
            read = ReadNodule(nodule, cut, plan.series_uid, plan.scanner, opened, reserved, waited)
            return read
        finally:
            if read is None:
                self._budget.release(reserved)

    async def _hand_on(self, read: ReadNodule) -> None:
        try:
            await self._ready.put(read)
        except BaseException:
            self._budget.release(read.reserved)
            raise


def _refused(nodule: Nodule, refusal: Refusal, plan: Plan = _NO_PLAN, opened: float | None = None) -> Outcome:
    return Outcome(
        nodule,
        error_code=refusal.code,
        error=refusal.sentence,
        seconds={} if opened is None else {"open": opened},
        series_uid=plan.series_uid,
        scanner=plan.scanner,
    )


def _first(error: BaseException) -> BaseException:
    """Of errors that came together, the first; whatever ended the run ended the others with it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
