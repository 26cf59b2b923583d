"""What every writer of results has in common: what it is given, how it is driven, what it says when it is done."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Protocol

from noduleserve.errors import ResultsError
from noduleserve.preprocessing import PREPROCESSING_VERSION

from .outcome import Outcome, ReleaseInfo


@dataclass(frozen=True, eq=False)
class Head:
    """What all rows of a table share.

    Attributes:
        columns: names of the worklist's columns, in its order.
        info: of the release that scores.
        preprocessing: version of the preprocessing that made its views.
    """

    columns: tuple[str, ...]
    info: ReleaseInfo
    preprocessing: str = PREPROCESSING_VERSION


@dataclass(frozen=True)
class Written:
    """What a writer has put in its place.

    Attributes:
        target: the output as it was asked for.
        rows: outcomes that it was given.
        remarks: sentences about what is in it otherwise than one row a nodule: rows that share one record, series
            without an SR and why.
        lacking: how many series have no SR though they have a score.
    """

    target: str
    rows: int
    remarks: tuple[str, ...] = ()
    lacking: int = 0


class ResultsWriter(Protocol):
    """Takes outcomes in the worklist's order and leaves its output whole, or as it was before.

    Called in this order: `begin` once, `add` for every outcome, then `finish` or `abort`, once. Memory does not grow
    with the number of outcomes (but see `SrFolder`). Every method but `abort` raises ResultsError where the output
    cannot be written; `abort` must then follow, and leaves nothing behind.

    Attributes:
        target: the output as it was asked for.
    """

    target: str

    def check(self) -> None:
        """Try whether the output could be written, and leave nothing behind but its folder."""
        ...

    def begin(self) -> None:
        """Make ready to write; the output itself is not touched."""
        ...

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """Take the next outcome, and the time (with its zone) at which it came, where that is known."""
        ...

    def finish(self) -> Written:
        """Put the output in its place, on the disk."""
        ...

    def abort(self) -> None:
        """Take everything back; raises nothing, and does nothing after `finish`."""
        ...


def not_written(name: str, reason: str | None) -> ResultsError:
    """The error of an output that cannot be written.

    Args:
        name: of the output, as it was asked for.
        reason: in the words of the operating system or the library.
    """
    return ResultsError(
        "OUTPUT_NOT_WRITTEN",
        f"{name} cannot be written ({reason or 'no reason given'}).",
        "Make room on the disk, or name an output in a folder that may be written.",
    )
