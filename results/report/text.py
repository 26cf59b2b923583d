"""Numbers as the page shows them; what is not there shows as a dash."""

from __future__ import annotations

import math

DASH = "–"
_PROBABILITY_DIGITS = 3
_NO_BREAK = "\N{NO-BREAK SPACE}"


def probability(value: float) -> str:
    """Three digits; a number that is neither 0 nor 1 is never rounded to one of them."""
    if not math.isfinite(value):
        return DASH
    step = 10.0**-_PROBABILITY_DIGITS
    if 0 < value < step / 2:
        return f"<{step:.{_PROBABILITY_DIGITS}f}"
    if 1 - step / 2 < value < 1:
        return f">{1 - step:.{_PROBABILITY_DIGITS}f}"
    return f"{value:.{_PROBABILITY_DIGITS}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share of 1 in percent."""
    return f"{100 * value:,.{digits}f}{_NO_BREAK}%" if math.isfinite(value) else DASH


def duration(seconds: float) -> str:
    """Seconds as milliseconds, seconds, or from a minute on as hours and minutes."""
    if not math.isfinite(seconds):
        return DASH
    if seconds >= 7200:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours:,}{_NO_BREAK}h {minutes:02}{_NO_BREAK}min"
    if seconds >= 59.995:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{_NO_BREAK}min {rest:02}{_NO_BREAK}s"
    if seconds >= 0.9995:
        return f"{seconds:,.{2 if seconds < 100 else 0}f}{_NO_BREAK}s"
    return f"{1000 * seconds:.{1 if seconds < 0.00995 else 0}f}{_NO_BREAK}ms"


def count(number: int) -> str:
    """A number of things, thousands apart."""
    return f"{number:,}".replace(",", _NO_BREAK if number >= 10_000 else "")


def units(value: float, full: float = 1.0, width: float = 100.0) -> str:
    """A length in a drawing `width` wide in which `full` fills it."""
    share = value / full if full > 0 and math.isfinite(value) else 0.0
    return f"{min(max(share, 0.0), 1.0) * width:.2f}".rstrip("0").rstrip(".")


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
