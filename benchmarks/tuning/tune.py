"""A run of the tuner: two servers side by side, the release's own settings on one of them all the time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from noduleserve.client.options import TransportName
from noduleserve.errors import BenchmarkError, NoduleserveError
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings

from ..load.figures import figures_of
from ..load.usage import processes_of
from ..record.machine import machine
from ..record.record import Record
from ..record.recording import Recording, release_facts
from ..rivals.base import Case, Rival
from ..rivals.ours import Ours
from .choices import Place
from .duel import Goal, Load, Scores, block, confirmation, duel
from .search import Search, Trial
from .written import settings_text, trials_plot, trials_table, verdict

_MOST_CALLS = 2000  # of a block


@dataclass(frozen=True)
class TuneOptions:
    """How to tune.

    Attributes:
        goal: see Load.
        in_flight: callers, where the goal is throughput; one where it is latency.
        budget: seconds, for everything; what has begun is ended.
        transport: of the client.
        turns: of a trial.
        confirm_turns: of the winner's confirmation.
        block: seconds that a block of calls should take.
        deadline: seconds for an answer.
    """

    goal: Goal = "throughput"
    in_flight: int = 8
    budget: float = 1200.0
    transport: TransportName = "stream"
    turns: int = 2
    confirm_turns: int = 5
    block: float = 5.0
    deadline: float = 300.0


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        record: of the run.
        text: a file for `--settings`, or "" where the release's own settings are the best.
    """

    record: Record
    text: str


def tune(release: Release, cases: Sequence[Case], options: TuneOptions, tell: Callable[[str], None]) -> Tuned:
    """Look for better settings on this machine; call it in the main thread.

    Args:
        release: to serve.
        cases: nodules that are asked about.
        options: see TuneOptions.
        tell: is called with a line for each trial.

    Raises:
        ServerError, EngineError: the release cannot be served with its own settings.
        BenchmarkError: TUNING_IMPOSSIBLE, it does not answer with them.
    """
    place = Place.of(release)
    parameters = {"release": release_facts(release), "cases": len(cases)} | {
        name: getattr(options, name) for name in ("goal", "in_flight", "budget", "transport", "turns", "confirm_turns")
    }
    with Recording("tune", parameters) as recording:
        run = _Run(release, cases, options, place, tell)
        asyncio.run(run.run())
        recording.parameter("calls", run.load.calls)
        recording.table(trials_table(run.search.trials, run.confirmed, run.load))
        if plot := trials_plot(run.search.trials):
            recording.plot(plot)
        for remark in run.remarks():
            recording.remark(remark)
    found = run.confirmed.duel if run.confirmed else None
    text = settings_text(run.best, found, run.load, release, machine()) if found and found.better else ""
    return Tuned(recording.record, text)


class _Run:
    """The state of one run.

    Attributes:
        load: what servers are measured under.
        search: the trials.
        best: of them.
        confirmed: the best, measured once more; None where nothing was better than the release's own.
    """

    def __init__(
        self, release: Release, cases: Sequence[Case], options: TuneOptions, place: Place, tell: Callable[[str], None]
    ) -> None:
        self._release, self._cases, self._options, self._tell = release, cases, options, tell
        self._end = time.monotonic() + options.budget
        self._reserve = 0.0  # seconds that the confirmation takes
        self._scores = Scores()
        callers = options.in_flight if options.goal == "throughput" else 1
        self.load = Load(options.goal, callers, max(2 * callers, len(cases)), options.deadline)
        self.search = Search(place, self._tried, self._is_over)
        self.best = ServerSettings()
        self.confirmed: Trial | None = None

    async def run(self) -> None:
        began = time.monotonic()
        async with Ours(self._release, self._options.transport) as own:
            start = time.monotonic() - began
            self._own = own
            await self._size_blocks(start)
            self.best = await self.search.run()
            if self.best.chosen:
                self.confirmed = await self._tried("confirmation", self.best)

    async def _size_blocks(self, start: float) -> None:
        """How many calls a block takes; the first one tells the server's speed."""
        began = time.monotonic()
        calls = await block(self._own, self._cases, self.load)
        figures = figures_of(calls)
        if figures.failed:
            raise BenchmarkError(
                "TUNING_IMPOSSIBLE",
                f"With its own settings the server answered {figures.answered} of {figures.calls} calls "
                f"({', '.join(figures.errors)}).",
                "See what it says with `noduleserve serve` and `noduleserve score`; a higher --deadline may help.",
            )
        self._scores.learn(calls)
        wanted = math.ceil(figures.rate * self._options.block)
        count = min(_MOST_CALLS, max(self.load.calls, wanted))
        seconds = (time.monotonic() - began) * count / self.load.calls
        self._reserve = start + 3 * self._options.confirm_turns * seconds
        self.load = replace(self.load, calls=count)
        self._tell(f"the release's own: {figures.rate:.3g} nodules/s; {count} calls a block, {seconds:.0f} s")

    def _is_over(self) -> bool:
        return time.monotonic() > self._end - self._reserve

    async def _tried(self, stage: str, settings: ServerSettings) -> Trial:
        last = stage == "confirmation"
        compare, turns = (confirmation, self._options.confirm_turns) if last else (duel, self._options.turns)
        try:
            async with Ours(self._release, self._options.transport, settings) as other:
                found = await compare(self._own, other, self._cases, self.load, turns, self._scores)
                trial = Trial(stage, settings, found, resident_mb(other))
        except NoduleserveError as error:
            trial = Trial(stage, settings, None, error=f"[{error.code}] {error.what}")
        self._tell(f"{stage}: {settings}: {_shown(trial)}")
        return trial

    def remarks(self) -> list[str]:
        """Sentences for the record."""
        found = [verdict(self.best, self.confirmed)]
        if self.search.left:
            names = "; ".join(map(str, self.search.left[:6])) + ("; ..." if len(self.search.left) > 6 else "")
            found.append(f"The time did not suffice for {len(self.search.left)} settings ({names}): raise --budget.")
        if self._scores.own > 0:
            found.append(
                f"The release's own answers about one nodule differ by {self._scores.own:.1e} at most; settings may "
                f"differ from them by {self._scores.tolerance:.1e}."
            )
        return found


def resident_mb(rival: Rival) -> float:
    """Memory of a server's processes in MB (10^6 bytes); what several of them share counts once for each."""
    return sum(process.memory_info().rss for process in processes_of(rival.pids)) / 1e6


def _shown(trial: Trial) -> str:
    if trial.duel is None:
        return trial.error
    ratios = trial.duel.ratios
    text = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return text if trial.counts else f"{text}, which does not count (errors, or other scores)"
