"""The verdict of a night: whether what went in came out, and which rows did not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from noduleserve.worklist.table import Nodule

from .night import LISTED, Named, Night
from .text import count, plural


@dataclass(frozen=True)
class Verdict:
    """What became of a worklist.

    Attributes:
        rows: of the worklist; None where that is not known.
        scored, parked: rows with a score, and with the reason why there is none.
        missing: rows without an outcome.
        named: the first LISTED of those, without ids where the worklist itself is not at hand.
        strangers: outcomes of no row of the worklist.
        known_by: what tells how many rows there are: "the worklist", "the journal", "the run", or "".
    """

    rows: int | None
    scored: int
    parked: int
    missing: int = 0
    named: tuple[Named, ...] = ()
    strangers: int = 0
    known_by: str = ""

    @property
    def state(self) -> str:
        """`complete`, `incomplete`, or `unchecked` where the number of rows is not known."""
        if self.rows is None:
            return "unchecked"
        return "incomplete" if self.missing else "complete"

    @property
    def ranges(self) -> str:
        """The rows that are named, "3, 7 to 9"; and how many more there are."""
        runs: list[list[int]] = []
        for number in sorted(one.number for one in self.named):
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        said = ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)
        more = self.missing - len(self.named)
        return f"{said} and {count(more)} more" if more else said

    @property
    def sentence(self) -> str:
        """In one sentence, in which the counts add up."""
        what = f"{count(self.scored)} scored, {count(self.parked)} parked"
        if self.rows is None:
            outcomes = plural(self.scored + self.parked, "outcome")
            return f"{outcomes}: {what}. How many nodules went in is not known here."
        if self.missing:
            lost = f"{count(self.missing)} without an outcome"
            return f"Not complete: {plural(self.rows, 'nodule')} in, {what}, {lost}."
        return f"Complete: {plural(self.rows, 'nodule')} in, {what}, none without an outcome."


def of_worklist(night: Night, nodules: Sequence[Nodule]) -> Verdict:
    """Hold a worklist against the outcomes, row by row; a row and an outcome belong together by their cells."""
    counts = {True: 0, False: 0}
    lost = []
    for nodule in nodules:
        scored = night.take(nodule)
        if scored is None:
            lost.append(nodule)
        else:
            counts[scored] += 1
    return Verdict(
        rows=len(nodules),
        scored=counts[True],
        parked=counts[False],
        missing=len(lost),
        named=tuple(Named.of(nodule) for nodule in lost[:LISTED]),
        strangers=night.total - counts[True] - counts[False],
        known_by="the worklist",
    )


def of_run(night: Night) -> Verdict:
    """The verdict where the outcomes are known to be those of every row."""
    return Verdict(night.total, night.scored, night.parked, known_by="the run")


def of_rows(night: Night, rows: int | None, known_by: str = "") -> Verdict:
    """The verdict where only the number of rows is known, or not even that."""
    if rows is None:
        return Verdict(None, night.scored, night.parked)
    missing = night.missing_numbers(rows)
    return Verdict(
        rows=rows,
        scored=night.scored,
        parked=night.parked,
        missing=len(missing),
        named=tuple(Named(number, "", "") for number in itertools.islice(missing, LISTED)),
        strangers=max(night.total - (rows - len(missing)), 0),
        known_by=known_by,
    )
