"""A night: a worklist scored into a journal; every outcome is on the disk before it counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from noduleserve.client.engine import Engine
from noduleserve.client.flow import Done
from noduleserve.client.options import EngineOptions
from noduleserve.client.retry import TRANSIENT
from noduleserve.client.status import EngineStatus
from noduleserve.errors import NoduleserveError
from noduleserve.journal.journal import Journal
from noduleserve.journal.key import worklist_digest
from noduleserve.journal.record import RunRecord
from noduleserve.journal.resume import Resume
from noduleserve.preprocessing import PREPROCESSING_VERSION
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import Nodule

# Outcomes that wait for the disk at once, at most: two batches of the journal, so that one fills while one is written.
_UNCOMMITTED = 128


@dataclass
class NightCounts:
    """What a night came to; one outcome a row of the worklist.

    Attributes:
        info: of the release that scored.
        rows: of the worklist.
        codes: "scored" or an error code -> rows.
        warned: warning code -> scored rows.
        resumed: rows whose outcome was in the journal already.
        seconds: wall time from the first nodule to the last.
    """

    info: ReleaseInfo
    rows: int
    codes: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome that is on the disk."""
        self.codes[outcome.error_code or "scored"] += 1
        self.resumed += outcome.resumed
        if outcome.score is not None:
            self.warned.update({warning.code for warning in outcome.warnings})

    def lines(self) -> list[str]:
        """The same for a person."""
        scored, parked = self.codes["scored"], self.codes.total() - self.codes["scored"]
        new = self.rows - self.resumed
        rate = f", {new / self.seconds:.2f} a second" if new and self.seconds > 0 else ""
        resumed = f" ({self.resumed} of them by an earlier run)" if self.resumed else ""
        lines = [
            f"{self.rows} nodules in, {self.codes.total()} out: {scored} scored, {parked} failed{resumed}, "
            f"in {self.seconds:.2f} s{rate}"
        ]
        lines += [f"  {count} x {code}" for code, count in self.codes.most_common() if code != "scored"]
        lines += [f"  {count} scored with {code}" for code, count in self.warned.most_common()]
        lines.append(f"release {self.info.release}" + (f": {self.info.notice}" if self.info.notice else ""))
        return lines


def score_night(
    nodules: Sequence[Nodule],
    options: EngineOptions,
    journal: Journal,
    *,
    worklist: str = "",
    retry_parked: bool = False,
    progress: Callable[[Outcome], None] = lambda _: None,
    watch: Callable[[EngineStatus], None] = lambda _: None,
) -> NightCounts:
    """Score a worklist into a journal.

    Rows that the journal has an outcome for are not scored again; those that failed for want of a server are.

    Args:
        nodules: as `read_worklist` gives them.
        options: of the engine, its servers among them.
        journal: open; every outcome is in it, on the disk, before `progress` hears of it.
        worklist: name of the worklist's file, for the record.
        retry_parked: try again what an earlier run could not score.
        progress: is called with each outcome.
        watch: is called once, when connected, with what changes while the run goes.

    Raises:
        ServerError: no run can begin, or SERVER_GONE, RELEASE_CHANGED where it breaks off.
        JournalError: JOURNAL_NOT_WRITTEN, JOURNAL_DAMAGED; the run breaks off. What is in the journal stays there.
    """
    return asyncio.run(_score(nodules, options, journal, worklist, retry_parked, progress, watch))


async def _score(
    nodules: Sequence[Nodule],
    options: EngineOptions,
    journal: Journal,
    worklist: str,
    retry_parked: bool,
    progress: Callable[[Outcome], None],
    watch: Callable[[EngineStatus], None],
) -> NightCounts:
    async with Engine(options) as engine:
        watch(engine.status)
        resume = Resume(journal, engine.info.release, PREPROCESSING_VERSION, retry_parked=retry_parked)
        await journal.commit([_beginning(nodules, worklist, engine.info, journal.cut_bytes)], hurry=True)
        counts = NightCounts(engine.info, len(nodules))
        began = time.perf_counter()

        def done(nodule: Nodule, series_uid: str) -> Outcome | None:
            outcome = resume.done(nodule, series_uid)
            # What failed for want of a server says nothing of the nodule.
            return None if outcome is not None and outcome.error_code in TRANSIENT else outcome

        async def keep(outcome: Outcome) -> None:
            await journal.commit([resume.record(outcome)])
            counts.add(outcome)
            progress(outcome)

        await _keep_all(engine, nodules, done, keep, lambda: journal.commit([], hurry=True))
        counts.seconds = time.perf_counter() - began
        return counts


def _beginning(nodules: Sequence[Nodule], worklist: str, info: ReleaseInfo, cut_bytes: int) -> RunRecord:
    columns = tuple(nodules[0].columns) if nodules else ()
    digest = worklist_digest(nodules)
    return RunRecord(worklist, digest, len(nodules), columns, info, PREPROCESSING_VERSION, cut_bytes)


async def _keep_all(
    engine: Engine,
    nodules: Sequence[Nodule],
    done: Done,
    keep: Callable[[Outcome], Coroutine[None, None, None]],
    flush: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Hand every outcome on as it comes; where the engine breaks off, what came is kept before its error goes on."""
    broken: NoduleserveError | None = None
    room = asyncio.Semaphore(_UNCOMMITTED)
    try:
        async with asyncio.TaskGroup() as keeping:
            try:
                async with contextlib.aclosing(engine.outcomes(nodules, done)) as outcomes:
                    async for outcome in outcomes:
                        await room.acquire()
                        keeping.create_task(keep(outcome)).add_done_callback(lambda _: room.release())
            except NoduleserveError as error:
                broken = error
            await asyncio.sleep(0)  # those of the last outcomes hand them in first
            keeping.create_task(flush())  # nothing more will come that would be worth waiting for
    except BaseExceptionGroup as group:  # of outcomes that could not be kept the first says why
        raise group.exceptions[0] from None
    if broken:
        raise broken
