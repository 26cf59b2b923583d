"""How a run went over the night: outcomes a minute, and the pauses in which none came."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import ArrayLike

MOST_STEPS = 96  # of the line
MOST_PAUSES = 10  # in the table
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 86400)
_TICKS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
_MOST_TICKS = 5
_LEAST_PAUSE_S = 60.0
_PAUSE_OF_MEDIAN = 30.0  # so many times the usual distance of two outcomes is a pause
_MARGIN = 0.06  # of the width, at both ends, where no tick fits beside the times of start and end


@dataclass(frozen=True)
class Pause:
    """A time in which no outcome came, with its place in the line, shares of its width."""

    begin: datetime
    seconds: float
    left: float
    width: float


@dataclass(frozen=True)
class Throughput:
    """Outcomes over time.

    Attributes:
        begin, end: of the first and of the last outcome.
        step: seconds that one value of `rates` stands for.
        rates: outcomes a minute in each step, from `begin` on.
        counts: outcomes in each step.
        ticks: places (shares of the line's width) and times of marks between the ends.
        pauses: the longest, in the order of time.
        more_pauses: how many there are besides.
        shortest: seconds from which on a time without outcomes is a pause.
    """

    begin: datetime
    end: datetime
    step: float
    rates: tuple[float, ...]
    counts: tuple[int, ...]
    ticks: tuple[tuple[float, datetime], ...]
    pauses: tuple[Pause, ...]
    more_pauses: int
    shortest: float

    @property
    def seconds(self) -> float:
        """From the first outcome to the last."""
        return (self.end - self.begin).total_seconds()

    def start(self, number: int) -> datetime:
        """When a step begins, by its number from 0."""
        return self.begin + timedelta(seconds=number * self.step)

    @property
    def mean(self) -> float:
        """Outcomes a minute over the whole time."""
        return _ratio(sum(self.counts), self.seconds) * 60


def throughput(times: ArrayLike, zone: tzinfo | None) -> Throughput | None:
    """What times of outcomes tell, seconds since 1970, in any order; None where they span no time.

    Args:
        times: of each outcome; NaN where it is not known.
        zone: of the clock that times are shown by; None: this machine's.
    """
    known = np.asarray(times, float)
    known = np.sort(known[np.isfinite(known)])
    if len(known) < 2 or known[-1] - known[0] <= 0:
        return None
    first, last = float(known[0]), float(known[-1])
    span = last - first
    step = next((s for s in _STEPS_S if span / s <= MOST_STEPS), math.ceil(span / MOST_STEPS / 86400) * 86400)
    number = max(math.ceil(span / step), 1)
    counts = np.bincount(np.minimum((known - first) // step, number - 1).astype(int), minlength=number)
    # The last step is as long as is left of the time; a rate over a sliver of it would be any number.
    lengths = np.full(number, float(step))
    lengths[-1] = max(span - step * (number - 1), step / 4)
    pauses, more, shortest = _pauses(known, zone)
    return Throughput(
        begin=datetime.fromtimestamp(first, zone),
        end=datetime.fromtimestamp(last, zone),
        step=float(step),
        rates=tuple((counts / lengths * 60).tolist()),
        counts=tuple(counts.tolist()),
        ticks=_ticks(first, span, zone),
        pauses=pauses,
        more_pauses=more,
        shortest=shortest,
    )


def _pauses(times: np.ndarray, zone: tzinfo | None) -> tuple[tuple[Pause, ...], int, float]:
    between = np.diff(times)
    shortest = max(_LEAST_PAUSE_S, _PAUSE_OF_MEDIAN * float(np.median(between)))
    found = np.flatnonzero(between >= shortest)
    longest = np.sort(found[np.argsort(-between[found], kind="stable")][:MOST_PAUSES])
    first, span = times[0], times[-1] - times[0]
    pauses = tuple(
        Pause(
            datetime.fromtimestamp(float(times[i]), zone),
            float(between[i]),
            float((times[i] - first) / span),
            float(between[i] / span),
        )
        for i in longest
    )
    return pauses, len(found) - len(pauses), shortest


def _ticks(first: float, span: float, zone: tzinfo | None) -> tuple[tuple[float, datetime], ...]:
    """Round times of the clock within the line."""
    distance = next((t for t in _TICKS_S if span / t <= _MOST_TICKS), 0)
    if not distance:
        return ()
    shift = datetime.fromtimestamp(first, zone).astimezone(zone).utcoffset()
    offset = shift.total_seconds() if shift else 0.0
    start = math.ceil((first + offset) / distance) * distance - offset
    places = [(start + k * distance - first) / span for k in range(_MOST_TICKS + 1)]
    return tuple(
        (place, datetime.fromtimestamp(first + place * span, zone))
        for place in places
        if _MARGIN <= place <= 1 - _MARGIN
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
