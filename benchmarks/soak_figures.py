"""The figures of a soak: rate by the minute, memory at the quarters, and what was proved; as tables, plots and JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .record.record import Cell, Goal, Line, Plot, Table
from .soak_proof import Check
from .soak_watch import READERS, Sample, kinds_of

_QUARTERS = (("start", 0.0), ("quarter", 0.25), ("half", 0.5), ("three_quarters", 0.75), ("end", 1.0))
_POINTS = 500  # of a plot, at most
_AROUND_S = 3.0  # a kind of process that is not there at a quarter is looked for so long after it


@dataclass(frozen=True)
class Kill:
    """Something that was killed with SIGKILL: "client" or "server", seconds from the beginning, outcomes by then."""

    what: str
    seconds: float
    outcomes: int


@dataclass(frozen=True)
class Soak:
    """A soak that has ended.

    Attributes:
        release: id of the release.
        nodules: rows of the worklist.
        series: folders that it names.
        scored: rows with a score.
        lost: rows without an outcome in the journal.
        journal_bytes: its size at the end.
        samples: one a second.
        kills: in their order.
        checks: what was proved, or was not.
    """

    release: str
    nodules: int
    series: int
    scored: int
    lost: int
    journal_bytes: int
    samples: list[Sample]
    kills: list[Kill]
    checks: list[Check]

    @property
    def good(self) -> bool:
        """Whether nothing was lost and everything that must hold does."""
        return not self.lost and all(check.good for check in self.checks)

    @property
    def rates(self) -> Rates:
        """Nodules a second."""
        return rates_of(self.samples, [kill.seconds for kill in self.kills])

    def tables(self) -> list[Table]:
        """Figures, rates, kills, memory and proof for a record."""
        kills = [self._kills()] if self.kills else []
        return [self._night(), self._rates(), *kills, memory_table(self.samples, self.nodules), self._proof()]

    def plots(self) -> list[Plot]:
        """Memory and outcomes over the seconds of the run."""
        few = self.samples[:: len(self.samples) // _POINTS + 1]
        seconds = [sample.seconds for sample in few]
        memory = [Line(kind, seconds, [s.mb.get(kind, math.nan) for s in few]) for kind in kinds_of(self.samples)]
        outcomes = [Line("outcomes", seconds, [float(sample.outcomes) for sample in few])]
        return [
            Plot("memory", "Resident memory", "s", "MB", memory),
            Plot("outcomes", "Outcomes in the journal", "s", "nodules", outcomes),
        ]

    def _night(self) -> Table:
        seconds = self.samples[-1].seconds if self.samples else 0.0
        client, server = (sum(kill.what == what for kill in self.kills) for what in ("client", "server"))
        row: dict[str, Cell] = {
            "nodules": self.nodules,
            "series": self.series,
            "scored": self.scored,
            "parked": self.nodules - self.lost - self.scored,
            "lost": self.lost,
            "client_kills": client,
            "server_kills": server,
            "run_s": seconds,
            "journal_mb": self.journal_bytes / 1e6,
            "journal_bytes_per_nodule": self.journal_bytes / max(self.nodules, 1),
        }
        return Table(
            name="night",
            title="The night; killed with SIGKILL",
            columns=tuple(row),
            rows=[tuple(row.values())],
            better={"lost": "lower"},
            goals=(Goal("lost", at_most=0),),
        )

    def _rates(self) -> Table:
        rates = self.rates
        rows = [
            ("whole run", rates.whole),
            ("median minute", rates.median),
            ("lowest minute", rates.lowest),
            ("lowest minute without a kill", rates.lowest_undisturbed),
        ]
        better: dict[str, Literal["higher", "lower"]] = {"nodules_per_s": "higher"}
        return Table("rates", "Rates", ("over", "nodules_per_s"), rows, keys=("over",), better=better)

    def _kills(self) -> Table:
        """How long each kill held the run up; a client that is started again first finds out what is done."""
        rows = [(kill.what, kill.outcomes, kill.seconds, pause_after(self.samples, kill)) for kill in self.kills]
        columns = ("killed", "after_nodules", "at_s", "to_next_outcome_s")
        return Table("kills", "From a kill to the next outcome", columns, rows)

    def _proof(self) -> Table:
        return Table(
            name="proof",
            title="Proved from the journal",
            columns=("what", "found", "holds"),
            rows=[(check.what, check.found, check.good) for check in self.checks],
            keys=("what",),
            better={"holds": "higher"},
            goals=(Goal("holds", at_least=True),),
        )

    def facts(self) -> dict[str, Any]:
        """Everything but the samples, as JSON has it."""
        facts = asdict(self)
        del facts["samples"]
        return facts | {"good": self.good, "rates": asdict(self.rates), "peak_mb": peaks_of(self.samples)}


@dataclass(frozen=True)
class Rates:
    """Nodules a second.

    Attributes:
        whole: from the first outcome to the last.
        median, lowest: of the minutes after the first outcome; `whole` where the run has no whole minute.
        lowest_undisturbed: of the minutes in which, and before which, nothing was killed; None for none.
    """

    whole: float
    median: float
    lowest: float
    lowest_undisturbed: float | None


def rates_of(samples: Sequence[Sample], disturbed: Sequence[float], minute: float = 60.0) -> Rates:
    """Rates by the minute.

    Args:
        samples: in their order.
        disturbed: seconds at which something was killed.
        minute: how long one is, seconds.
    """
    working = [sample for sample in samples if sample.outcomes]
    if len(working) < 2 or working[-1].outcomes == working[0].outcomes:
        return Rates(0.0, 0.0, 0.0, None)
    last = next(sample for sample in working if sample.outcomes == working[-1].outcomes)
    began = working[0].seconds
    whole = (last.outcomes - working[0].outcomes) / (last.seconds - began)
    minutes: list[float] = []
    quiet: list[float] = []
    for number in range(int((last.seconds - began) / minute)):
        start, end = began + number * minute, began + (number + 1) * minute
        minutes.append((outcomes_at(working, end) - outcomes_at(working, start)) / minute)
        if not any(start - minute < moment < end for moment in disturbed):
            quiet.append(minutes[-1])
    if not minutes:
        return Rates(whole, whole, whole, None)
    return Rates(whole, statistics.median(minutes), min(minutes), min(quiet, default=None))


def pause_after(samples: Sequence[Sample], kill: Kill) -> float:
    """Seconds from a kill to the first sample with another outcome; infinite where none came."""
    return next((s.seconds for s in samples if s.outcomes > kill.outcomes), float("inf")) - kill.seconds


def outcomes_at(samples: Sequence[Sample], seconds: float) -> float:
    """Outcomes at a moment, on the line between the samples around it."""
    before = max((s for s in samples if s.seconds <= seconds), key=lambda s: s.seconds, default=samples[0])
    after = min((s for s in samples if s.seconds > seconds), key=lambda s: s.seconds, default=before)
    if after.seconds == before.seconds:
        return before.outcomes
    part = max(0.0, seconds - before.seconds) / (after.seconds - before.seconds)
    return before.outcomes + part * (after.outcomes - before.outcomes)


def memory_table(samples: Sequence[Sample], nodules: int) -> Table:
    """Resident memory of each kind of process at the quarters of the worklist, and at its peak."""
    peaks = peaks_of(samples)
    rows = []
    for kind in kinds_of(samples):
        cells = [memory_at(samples, kind, part * nodules) for _, part in _QUARTERS]
        count = max(sample.readers for sample in samples) if kind == READERS else 1
        rows.append((kind, count, *cells, peaks[kind]))
    return Table(
        name="memory",
        title="Resident memory over the worklist",
        columns=("process", "processes", *(f"{name}_mb" for name, _ in _QUARTERS), "peak_mb"),
        rows=rows,
        keys=("process",),
        better={"peak_mb": "lower"},
    )


def memory_at(samples: Sequence[Sample], kind: str, outcomes: float) -> float | None:
    """Memory of a kind when so many outcomes were there: of the next sample that has it, or else of the last before.

    None where a kind was not there around that time: it had been killed, or had ended.
    """
    reached = next((s for s in samples if s.outcomes >= max(outcomes, 1)), samples[-1])
    near = [s for s in samples if kind in s.mb and abs(s.seconds - reached.seconds) <= _AROUND_S]
    after = [s for s in near if s.seconds >= reached.seconds]
    return after[0].mb[kind] if after else near[-1].mb[kind] if near else None


def peaks_of(samples: Sequence[Sample]) -> dict[str, float]:
    """The most memory of each kind, MB."""
    return {kind: max(s.mb.get(kind, 0.0) for s in samples) for kind in kinds_of(samples)}
