"""The pictures of the serving benchmark; ways whose scores are wrong are not drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..record.record import Line, Plot
from .found import Found, Point

_IN_FLIGHT, _LATENCY = "nodules in flight", "latency (ms)"


def plots_of(found: Found) -> list[Plot]:
    """Rate and latency over concurrency, latency over the offered rate; only what there are figures for."""
    closed = [point for point in found.points("closed") if point.counts]
    opened = [point for point in found.points("open") if point.counts]
    rate = Plot(
        "rate-over-concurrency",
        "Closed loop: rate, with the slowest and the fastest turn",
        _IN_FLIGHT,
        "nodules per second",
        [_line(name, points, _rate, _turns) for name, points in _by_way(closed)],
    )
    plots = [rate, *(_latency(closed, percent, "closed") for percent in (50, 99))]
    plots += [_latency(opened, percent, "open") for percent in (50, 99)]
    return [plot for plot in plots if any(line.x for line in plot.lines)]


def _latency(points: list[Point], percent: int, kind: str) -> Plot:
    def value(point: Point) -> float | None:
        return _ms(point.figures.percentile(percent).seconds)

    def interval(point: Point) -> tuple[float, float]:
        """Where a bound lies beyond what was measured, the bar ends at the figure itself or at the largest latency."""
        found, largest = point.figures.percentile(percent), point.figures.max or 0.0
        low = (found.seconds or 0.0) if found.low is None else found.low
        return low * 1e3, (largest if found.high is None else found.high) * 1e3

    lines = [_line(name, mine, value, interval) for name, mine in _by_way(points)]
    if kind == "closed":
        name, title, x_label = f"p{percent}-over-concurrency", f"Closed loop: p{percent} of the latency", _IN_FLIGHT
    else:
        name, title = f"p{percent}-over-rate", f"Open loop: p{percent} of the latency, from when it was to be sent"
        x_label = "offered nodules per second"
    return Plot(name, f"{title}, 95% interval", x_label, _LATENCY, lines, y_log=True)


def _by_way(points: list[Point]) -> Iterable[tuple[str, list[Point]]]:
    """The points of each way, from the lowest load to the highest."""
    ways: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.load.amount):
        ways.setdefault(point.entrant.name, []).append(point)
    return ways.items()


def _line(
    name: str,
    points: list[Point],
    value: Callable[[Point], float | None],
    ends: Callable[[Point], tuple[float, float]],
) -> Line:
    there = [(point, y) for point in points if (y := value(point)) is not None]
    bars = [ends(point) for point, _ in there]
    return Line(
        name,
        [point.load.amount for point, _ in there],
        [y for _, y in there],
        [low for low, _ in bars],
        [high for _, high in bars],
    )


def _rate(point: Point) -> float | None:
    return point.figures.rate


def _turns(point: Point) -> tuple[float, float]:
    rates = [*point.rates, point.figures.rate]
    return min(rates), max(rates)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
