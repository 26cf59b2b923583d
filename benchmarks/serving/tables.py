"""The tables of the serving benchmark. Ratios, goals and plots leave out rows that do not count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ..load.figures import LoadFigures, Percentile
from ..load.triton_statistics import loads_between
from ..load.usage import joined
from ..record.record import Cell, Goal, Table
from .found import Found, Load, Point, is_right

ROOM_MS = 50.0  # that a nodule alone may take beside the encoder
ROOM_RATIO = 1.1  # of the encoder's own time
_LATENCIES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")
_BETTER: dict[str, Literal["higher", "lower"]] = {"nodules_per_s": "higher"}
_BETTER.update(dict.fromkeys(_LATENCIES, "lower"))

Row = tuple[Cell, ...]


def tables_of(found: Found) -> list[Table]:
    """Every table that there is something for, in the order in which a reader wants them."""
    makers: Sequence[Callable[[Found], Table]] = (
        ways,
        closed_loops,
        ahead,
        alone,
        open_loops,
        searches,
        intervals,
        errors,
        statistics,
        usage,
        search_steps,
    )
    return [table for table in (make(found) for make in makers) if table.rows]


def ways(found: Found) -> Table:
    """Who took part."""
    roles = {"ours": "this system", "bare": "upper bound", "rival": "rival"}
    rows = [(entrant.name, roles[entrant.role], found.what.get(entrant.name)) for entrant in found.entrants]
    return Table("ways", "Ways to have a nodule scored", ("way", "role", "what"), rows, keys=("way",))


def closed_loops(found: Found) -> Table:
    """So many callers, each waiting for its answer."""
    reference, bare = found.reference().name, found.bare()
    points = found.points("closed")
    by_place = _by_place(points)

    def against(point: Point, name: str | None) -> float | None:
        other = by_place.get((name or "", point.load))
        return point.figures.rate / other.figures.rate if other and point.counts and other.figures.rate else None

    rows: list[Row] = [
        (
            point.entrant.name,
            int(point.load.amount),
            point.figures.calls,
            point.figures.failed,
            point.figures.rate,
            *latencies_ms(point.figures),
            against(point, reference),
            against(point, bare.name if bare else None),
            point.difference,
            point.counts,
        )
        for point in points
    ]
    return Table(
        "closed-loop",
        "Closed loop: each caller sends its next nodule when it has its answer",
        (
            *("way", "in_flight", "calls", "errors", "nodules_per_s"),
            *_LATENCIES,
            *("rate_to_noduleserve", "rate_to_bare_encoder", "score_difference", "counts"),
        ),
        rows,
        keys=("way", "in_flight"),
        better=_BETTER,
    )


def ahead(found: Found) -> Table:
    """Our rate and p99 against every rival's; a rival that does not count has no row."""
    reference = found.reference().name
    by_place = _by_place(found.points("closed"), counting=False)
    rows: list[Row] = []
    for point in found.points("closed"):
        ours = by_place.get((reference, point.load))
        if point.entrant.role != "rival" or not point.counts or ours is None:
            continue
        rows.append((point.entrant.name, int(point.load.amount), *_lead(ours, point)))
    goals = [Goal("rate_ratio", at_least=1.0, row={"rival": row[0], "in_flight": row[1]}) for row in rows]
    goals += [
        Goal("p99_ratio", at_least=1.0, row={"rival": row[0], "in_flight": row[1]})
        for row in rows
        if row[-1] is not None
    ]
    return Table(
        "ahead",
        f"{reference} against its rivals: rate over theirs, their p99 over its own",
        ("rival", "in_flight", "rate_ratio", "rate_ratio_lowest_turn", "rate_ratio_highest_turn", "p99_ratio"),
        rows,
        keys=("rival", "in_flight"),
        better={"rate_ratio": "higher", "p99_ratio": "higher"},
        goals=tuple(goals),
    )


def _lead(ours: Point, rival: Point) -> tuple[float | None, ...]:
    if not ours.counts:
        return (None,) * 4
    turns = [mine / theirs for mine, theirs in zip(ours.rates, rival.rates, strict=False) if theirs]
    p99, other = ours.figures.p99.seconds, rival.figures.p99.seconds
    return (
        ours.figures.rate / rival.figures.rate if rival.figures.rate else None,
        min(turns, default=None),
        max(turns, default=None),
        other / p99 if p99 and other else None,
    )


def alone(found: Found) -> Table:
    """A nodule alone: what this system adds to the encoder."""
    bare, load = found.bare(), Load("closed", 1)
    by_place = _by_place(found.points("closed"))
    encoder = by_place.get((bare.name, load)) if bare else None
    rows: list[Row] = []
    for entrant in found.entrants:
        point = by_place.get((entrant.name, load))
        if entrant.role != "ours" or point is None or encoder is None:
            continue
        mine, theirs = point.figures.p50.seconds, encoder.figures.p50.seconds
        if mine and theirs:
            allowed = ROOM_RATIO * theirs * 1e3 + ROOM_MS
            rows.append((entrant.name, mine * 1e3, theirs * 1e3, allowed, allowed / (mine * 1e3)))
    return Table(
        "alone",
        f"A nodule alone: median latency within {ROOM_RATIO:g} x bare encoder + {ROOM_MS:g} ms",
        ("way", "p50_ms", "bare_encoder_p50_ms", "allowed_ms", "allowed_to_p50"),
        rows,
        keys=("way",),
        better={"p50_ms": "lower", "allowed_to_p50": "higher"},
        goals=(Goal("allowed_to_p50", at_least=1.0),) if rows else (),
    )


def open_loops(found: Found) -> Table:
    """Poisson arrivals, the same for every way."""
    points = found.points("open")
    best = {entrant.name: found.best_rate(entrant.name) for entrant in found.entrants}
    rows: list[Row] = []
    for point in points:
        own, figures = best[point.entrant.name], point.figures
        rows.append(
            (
                point.entrant.name,
                point.load.amount,
                point.load.amount / own if own else None,
                figures.calls,
                figures.failed,
                figures.overloaded,
                figures.rate,
                *latencies_ms(figures),
                figures.lateness_p99 * 1e3,
                point.difference,
                point.counts,
            )
        )
    return Table(
        "open-loop",
        "Open loop: Poisson arrivals, latency from when a nodule was to be sent",
        (
            *("way", "offered_per_s", "share_of_own_best_rate", "calls", "errors", "overloaded", "nodules_per_s"),
            *_LATENCIES,
            *("generator_late_p99_ms", "score_difference", "counts"),
        ),
        rows,
        keys=("way", "offered_per_s"),
        better=_BETTER,
    )


def searches(found: Found) -> Table:
    """The highest rate that keeps a bound; rows of wrong scores have no ratio."""
    reference = found.searches.get(found.reference().name)
    ours = reference[0].rate if reference and is_right(reference[1]) else None
    rows: list[Row] = []
    goals: list[Goal] = []
    for entrant in found.entrants:
        if entrant.name not in found.searches:
            continue
        search, difference = found.searches[entrant.name]
        counts, at_rate = is_right(difference), search.at_rate
        ratio = ours / search.rate if ours and search.rate and counts else None
        if entrant.role == "rival" and counts and search.rate:
            goals.append(Goal("noduleserve_to_it", at_least=1.0, row={"way": entrant.name}))
        measured = at_rate.percentile(search.bound.percent) if at_rate else None
        rows.append(
            (
                *(entrant.name, search.bound.percent, search.bound.seconds * 1e3, search.rate, search.above),
                *(_ms(measured), at_rate.calls if at_rate else None, len(search.steps), ratio, difference, counts),
            )
        )
    return Table(
        "highest-rate",
        "The highest rate of Poisson arrivals that keeps a percentile under a bound without an error, repeated",
        (
            *("way", "percentile", "bound_ms", "nodules_per_s", "not_kept_at_per_s", "percentile_there_ms"),
            *("calls_of_a_step", "steps", "noduleserve_to_it", "score_difference", "counts"),
        ),
        rows,
        keys=("way", "percentile", "bound_ms"),
        better={"nodules_per_s": "higher"},
        goals=tuple(goals),
    )


def search_steps(found: Found) -> Table:
    """Everything that the searches tried."""
    rows: list[Row] = [
        (
            *(entrant.name, number + 1, step.rate, step.pattern, step.figures.failed, step.figures.overloaded),
            *(_ms(step.figures.percentile(found.searches[entrant.name][0].bound.percent)), step.kept),
        )
        for entrant in found.entrants
        if entrant.name in found.searches
        for number, step in enumerate(found.searches[entrant.name][0].steps)
    ]
    return Table(
        "search-steps",
        "Steps of the searches; pattern 0 is the search, others repeat its result with other arrivals",
        ("way", "step", "offered_per_s", "pattern", "errors", "overloaded", "percentile_ms", "kept"),
        rows,
        keys=("way", "step"),
    )


def intervals(found: Found) -> Table:
    """How well p50 and p99 are known."""
    rows: list[Row] = []
    for point in [*found.points("closed"), *found.points("open")]:
        p50, p99 = point.figures.p50, point.figures.p99
        bounds = [bound and bound * 1e3 for p in (p50, p99) for bound in (p.low, p.seconds, p.high)]
        rows.append((point.entrant.name, str(point.load), point.figures.calls, *bounds))
    return Table(
        "intervals",
        "95% intervals of p50 and p99, by order statistics",
        (
            *("way", "load", "calls"),
            *("p50_low_ms", "p50_ms", "p50_high_ms", "p99_low_ms", "p99_ms", "p99_high_ms"),
        ),
        rows,
        keys=("way", "load"),
    )


def errors(found: Found) -> Table:
    """Calls without an answer."""
    rows: list[Row] = []
    for point in [*found.points("closed"), *found.points("open")]:
        figures = point.figures
        until = [seconds and seconds * 1e3 for seconds in (figures.failed_p50, figures.failed_max)]
        rows += [(point.entrant.name, str(point.load), code, count, *until) for code, count in figures.errors.items()]
    return Table(
        "errors",
        "Calls without an answer; time until the error is of all codes together",
        ("way", "load", "code", "calls", "until_error_p50_ms", "until_error_max_ms"),
        rows,
        keys=("way", "load", "code"),
    )


def statistics(found: Found) -> Table:
    """Where the time goes in Triton."""
    rows: list[Row] = []
    for point in found.points("closed"):
        looks = [turn.looks for turn in point.turns if turn.looks is not None]
        rows += [
            (
                *(point.entrant.name, int(point.load.amount), load.model, load.requests, load.failed),
                *(load.executions, load.batch, load.queue_ms, load.input_ms, load.infer_ms, load.output_ms),
                load.whole_ms,
            )
            for load in loads_between(*looks)
        ]
    return Table(
        "triton",
        "Triton's statistics: a request's time in each model, on average",
        (
            *("way", "in_flight", "model", "requests", "failed", "executions", "batch"),
            *("queue_ms", "input_ms", "infer_ms", "output_ms", "whole_ms"),
        ),
        rows,
        keys=("way", "in_flight", "model"),
    )


def usage(found: Found) -> Table:
    """What a nodule costs."""
    rows: list[Row] = []
    for point in found.points("closed"):
        for used in joined([turn.used for turn in point.turns]):
            cpu = used.cpu_s / point.figures.calls * 1e3
            memory = (used.start_mb, used.peak_mb, used.end_mb)
            rows.append((point.entrant.name, int(point.load.amount), used.process, cpu, used.cores, *memory))
    return Table(
        "usage",
        "Processor time a call and resident memory, by process; the client is the load generator",
        (
            *("way", "in_flight", "process", "cpu_a_call_ms", "busy_processors"),
            *("memory_start_mb", "memory_peak_mb", "memory_end_mb"),
        ),
        rows,
        keys=("way", "in_flight", "process"),
    )


def latencies_ms(figures: LoadFigures) -> tuple[float | None, ...]:
    """p50, p90, p95, p99 and max in milliseconds."""
    percentiles = (_ms(percentile) for percentile in (figures.p50, figures.p90, figures.p95, figures.p99))
    return (*percentiles, None if figures.max is None else figures.max * 1e3)


def _ms(percentile: Percentile | None) -> float | None:
    return None if percentile is None or percentile.seconds is None else percentile.seconds * 1e3


def _by_place(points: Sequence[Point], counting: bool = True) -> dict[tuple[str, Load], Point]:
    return {(point.entrant.name, point.load): point for point in points if point.counts or not counting}
