"""A night in numbers: one pass over its outcomes that keeps counts, scores and names, and no array of an answer.

Only the nodules that are shown in full are held with everything that their answer says.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import COLUMNS, Nodule

from .distribution import Scores
from .scanners import Groups

LISTED = 500  # nodules that are named under one code
SMALL = 200  # nodules up to which a night is shown whole, in one table
TOP = 12
_MENDS = 20  # different sentences of mending that are kept for one code
_IDENTITY = (*COLUMNS, "series_uid")


@dataclass(frozen=True)
class Named:
    """A nodule as the worklist names it.

    Attributes:
        number: its row in the worklist, from 1.
        pid, nodule_id: as the worklist gives them.
        what: what is wrong with it, one sentence, or "".
    """

    number: int
    pid: str
    nodule_id: str
    what: str = ""

    @classmethod
    def of(cls, nodule: Nodule, what: str = "") -> Named:
        """The name of a worklist's row."""
        return cls(nodule.number + 1, nodule.pid, nodule.nodule_id, what)


@dataclass
class Coded:
    """The nodules of one code of an error or a warning.

    Attributes:
        code: stable.
        count: how many there are.
        named: the first LISTED of them.
        mends: what to do about them, and for how many.
    """

    code: str
    count: int = 0
    named: list[Named] = field(default_factory=list)
    mends: Counter[str] = field(default_factory=Counter)

    def add(self, nodule: Nodule, what: str, mend: str) -> None:
        """Count one nodule."""
        self.count += 1
        if len(self.named) < LISTED:
            self.named.append(Named.of(nodule, what))
        if mend and (mend in self.mends or len(self.mends) < _MENDS):
            self.mends[mend] += 1


class Night:
    """Outcomes, counted one by one; what is kept of 20,000 of them takes a few megabytes.

    Attributes:
        total, scored, parked: numbers of outcomes.
        parked_by, warned_by: nodules by code of their error or of their warnings (of scored nodules only).
        warned: scored nodules with a warning, whatever their number.
        releases: of how many scores each release is.
        folds: of the scores.
        groups: scores by scanner and by slice thickness.
        stages: seconds of each stage, summed over outcomes.
        times: when outcomes came, seconds since 1970, where known.
        small: every outcome, as long as there are no more than SMALL; then None.
    """

    def __init__(self, top: int = TOP) -> None:
        """Begin with nothing; the `top` nodules of highest malignancy will be kept whole."""
        self.total = self.scored = self.parked = self.warned = self.folds = 0
        self.parked_by: dict[str, Coded] = {}
        self.warned_by: dict[str, Coded] = {}
        self.releases: Counter[str] = Counter()
        self.groups = Groups()
        self.stages: dict[str, float] = {}
        self.times = array("d")
        self.small: list[Outcome] | None = []
        self._rows: dict[bytes, list[int]] = {}  # identity -> numbers of scored and of parked outcomes
        self._scores, self._calibrated = array("d"), Counter[bool]()
        self._top, self._heap = max(top, 0), list[tuple[float, int, Outcome]]()
        self._numbers = bytearray()

    def add(self, outcome: Outcome, at: float = math.nan) -> None:
        """Count one outcome, which came `at` seconds since 1970."""
        self.total += 1
        self._identify(outcome)
        if math.isfinite(at):
            self.times.append(at)
        for stage, seconds in outcome.seconds.items():
            if math.isfinite(seconds):
                self.stages[stage] = self.stages.get(stage, 0.0) + seconds
        value = math.nan if outcome.score is None else outcome.score.malignancy
        self.groups.add(outcome.scanner, value, parked=outcome.score is None)
        if self.total > SMALL:
            self.small = None
        elif self.small is not None:
            self.small.append(outcome)
        if outcome.score is None:
            self._add_parked(outcome)
        else:
            self._add_scored(outcome, value)

    def _identify(self, outcome: Outcome) -> None:
        counts = self._rows.setdefault(_identity(outcome.nodule), [0, 0])
        counts[outcome.score is None] += 1
        number = outcome.nodule.number
        self._numbers.extend(bytes(max(number + 1 - len(self._numbers), 0)))
        self._numbers[number] = 1

    def _add_parked(self, outcome: Outcome) -> None:
        self.parked += 1
        code = outcome.error_code or "NO_CODE"
        what, _, mend = (outcome.error or outcome.nodule.problem).partition("Mend: ")
        self.parked_by.setdefault(code, Coded(code)).add(outcome.nodule, what.strip(), mend.strip())

    def _add_scored(self, outcome: Outcome, value: float) -> None:
        score = outcome.score
        assert score is not None
        self.scored += 1
        self.folds = max(self.folds, len(score.raw))
        self.releases[score.release] += 1
        self._calibrated[bool(np.isfinite(score.calibrated).all())] += 1
        if math.isfinite(value):
            self._scores.append(value)
        self.warned += bool(outcome.warnings)
        for warning in outcome.warnings:
            self.warned_by.setdefault(warning.code, Coded(warning.code)).add(outcome.nodule, warning.what, warning.mend)
        if self._top:
            # The row's number decides between equals, and twins of one row never compare outcomes.
            entry = (value if math.isfinite(value) else -math.inf, -self.total, outcome)
            push = heapq.heappushpop if len(self._heap) >= self._top else heapq.heappush
            push(self._heap, entry)

    @property
    def top(self) -> list[Outcome]:
        """The nodules of highest malignancy, highest first; the earlier one of equals first."""
        return [outcome for _, _, outcome in sorted(self._heap, reverse=True)]

    @property
    def scores(self) -> Scores:
        """All finite scores, and what they are."""
        calibrated = next(iter(self._calibrated)) if len(self._calibrated) == 1 else None
        return Scores(np.frombuffer(self._scores.tobytes()), tuple(sorted(self.releases)), calibrated)

    @property
    def infinite(self) -> int:
        """Scored nodules whose malignancy is no number."""
        return self.scored - len(self._scores)

    def missing_numbers(self, rows: int) -> list[int]:
        """Which of `rows` rows, from 1, no outcome is of."""
        return [number + 1 for number in range(rows) if number >= len(self._numbers) or not self._numbers[number]]

    def take(self, nodule: Nodule) -> bool | None:
        """Whether a row of a worklist was scored; None where no outcome of it is left. Each outcome is taken once."""
        counts = self._rows.get(_identity(nodule))
        if counts is None or not any(counts):
            return None
        parked = int(not counts[0])
        counts[parked] -= 1
        return not parked


def gather(outcomes: Iterable[tuple[Outcome, float]], top: int = TOP) -> Night:
    """Count outcomes with the times when they came."""
    night = Night(top)
    for outcome, at in outcomes:
        night.add(outcome, at)
    return night


def highest_first(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Scored outcomes in descending order of malignancy, those without a finite one last."""

    def rank(outcome: Outcome) -> tuple[float, int]:
        value = outcome.score.malignancy if outcome.score else math.nan
        return (-value if math.isfinite(value) else math.inf, outcome.nodule.number)

    return iter(sorted((o for o in outcomes if o.score is not None), key=rank))


def info_of(night: Night, known: ReleaseInfo | None, labels: tuple[str, ...] = (), notice: str = "") -> ReleaseInfo:
    """What is known of the release that scored: as the run was told, or as the scores themselves show."""
    if known is not None:
        return known
    release = night.releases.most_common(1)[0][0] if night.releases else ""
    return ReleaseInfo(release, night.folds, night.scores.calibrated is not False, labels, notice)


def _identity(nodule: Nodule) -> bytes:
    """16 bytes for the cells that make a row what it is."""
    cells = [nodule.columns.get(name, "").strip() for name in _IDENTITY]
    return hashlib.blake2b("\0".join(cells).encode("utf-8", "surrogatepass"), digest_size=16).digest()
