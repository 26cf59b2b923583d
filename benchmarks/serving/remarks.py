"""Sentences without which the serving benchmark's figures would mislead."""

from __future__ import annotations

from collections.abc import Iterable

from noduleserve.protocol import ENSEMBLE

from ..load.figures import LATE_SHARE, calls_needed
from ..load.generator import MOST_OUTSTANDING
from ..load.triton_statistics import loads_between
from ..rivals.yardstick import TOLERANCE
from .found import Found, Point, is_right

_BROKEN_OFF = "Broken off: only turns and searches that had ended are here, of some ways more than of others."
_BUSY = 0.02  # processors that an idle server may keep busy


def remarks_of(found: Found) -> list[str]:
    """All that apply."""
    points = [*found.points("closed"), *found.points("open")]
    return [
        *([_BROKEN_OFF] if found.broken else []),
        found.yardstick.what,
        *found.left_out,
        *_wrong(found, points),
        *_unanswered(points),
        *_withheld(points),
        *_late(points),
        *_overloaded(found, points),
        *_miscounted(found),
        *_beside(found),
    ]


def _wrong(found: Found, points: list[Point]) -> Iterable[str]:
    searches = {name: difference for name, (_, difference) in found.searches.items()}
    for entrant in found.entrants:
        differences = [p.difference for p in points if p.entrant.name == entrant.name] + [searches.get(entrant.name)]
        largest = max((d for d in differences if d is not None), default=None)
        if largest is not None and not is_right(largest):
            yield (
                f"{entrant.name}: a probability is {largest:.2g} away from what it must be, and may be {TOLERANCE:g}; "
                "its rows with such a score do not count, and stand in no ratio, goal or plot."
            )


def _unanswered(points: list[Point]) -> Iterable[str]:
    failed = [point for point in points if point.figures.errors]
    if failed:
        yield (
            f"Calls without an answer: {_where(failed)}. In percentiles such a call ranks behind every answered one; a "
            "closed loop with one does not count."
        )


def _withheld(points: list[Point]) -> Iterable[str]:
    for percent in (90, 95, 99):
        few = [point for point in points if point.figures.calls < calls_needed(percent)]
        if few:
            yield (
                f"p{percent} is not given where fewer than {calls_needed(percent)} calls were made, since none would "
                f"lie beyond it: {_where(few)}."
            )
    if any(point.figures.p99.seconds is not None and point.figures.p99.high is None for point in points):
        yield (
            "An interval without an upper bound: so few calls leave it open how much larger the percentile may be; for "
            "p99 it takes 368 calls."
        )


def _late(points: list[Point]) -> Iterable[str]:
    starved = [point for point in points if point.load.kind == "open" and point.figures.starved]
    if starved:
        yield (
            f"The load generator itself was late by more than {LATE_SHARE:.0%} of the median latency in 1% of calls: "
            f"{_where(starved)}. Latencies there are those of a starved client as much as of the server."
        )


def _overloaded(found: Found, points: list[Point]) -> Iterable[str]:
    opened = [point for point in points if point.load.kind == "open"]
    ended = [point for point in opened if point.figures.overloaded]
    if ended:
        yield f"Ended as overloaded, more than {MOST_OUTSTANDING} calls waiting: {_where(ended)}."
    best = {entrant.name: found.best_rate(entrant.name) for entrant in found.entrants}
    over = [point for point in opened if point.load.amount > (best[point.entrant.name] or float("inf"))]
    if over:
        yield (
            f"Offered more than the way ever answered in a closed loop: {_where(over)}. The queue grows as long as the "
            "run goes on, and so do its latencies; they are no property of the way."
        )


def _miscounted(found: Found) -> Iterable[str]:
    for point in found.points("closed"):
        looks = [turn.looks for turn in point.turns if turn.looks is not None]
        for load in loads_between(*looks):
            counted = load.requests + load.failed
            if load.model == ENSEMBLE and counted != point.figures.calls:
                yield (
                    f"{point.entrant.name} at {point.load}: Triton counted {counted} requests, the load generator "
                    f"{point.figures.calls} calls; a call that is given up may reach Triton later, or never."
                )


def _beside(found: Found) -> Iterable[str]:
    busy = {name: cores for name, cores in found.idle.items() if cores > _BUSY}
    if busy:
        each = ", ".join(f"{name} up to {cores:.2f} processors" for name, cores in sorted(busy.items()))
        yield f"Servers that kept processors busy while another way was measured: {each}."
    if not found.together:
        yield "Memory did not allow all servers at once: each was started for its own turns only, and warmed up again."
    if found.entrants and not any(load.amount == 1 for _, load in found.turns if load.kind == "closed"):
        yield "The latency of a nodule alone was not measured: 1 is not among the concurrencies."


def _where(points: list[Point]) -> str:
    """The points by way, at most a few of each."""
    loads: dict[str, list[str]] = {}
    for point in points:
        loads.setdefault(point.entrant.name, []).append(str(point.load))
    return "; ".join(f"{name} at {', '.join(at)}" for name, at in loads.items())
