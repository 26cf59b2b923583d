"""What a run of the serving benchmark has found so far: points, each made of turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..load.call import Call
from ..load.figures import LoadFigures, figures_of, figures_of_turns
from ..load.search import Search
from ..load.usage import Used
from ..rivals.yardstick import TOLERANCE, Yardstick
from .entrants import Entrant


class Load(NamedTuple):
    """What a way is put under.

    Attributes:
        kind: of loop.
        amount: callers of a closed loop, or calls a second of an open one.
    """

    kind: Literal["closed", "open"]
    amount: float

    def __str__(self) -> str:
        return f"{self.amount:g} in flight" if self.kind == "closed" else f"{self.amount:.3g} per second"


@dataclass(frozen=True)
class Turn:
    """One run of one way under one load.

    Attributes:
        calls: that count.
        looks: Triton's statistics before and after, where the way has them.
        used: processor time and memory by process.
        difference: largest difference of any fold's probability from the yardstick; None where nothing was answered.
    """

    calls: list[Call]
    looks: tuple[Any, Any] | None
    used: list[Used]
    difference: float | None


@dataclass(frozen=True)
class Point:
    """One way under one load, all turns together.

    Attributes:
        entrant: the way.
        load: that it was put under.
        turns: finished ones.
        figures: of all their calls.
    """

    entrant: Entrant
    load: Load
    turns: list[Turn]
    figures: LoadFigures

    @property
    def difference(self) -> float | None:
        """Largest difference from the yardstick; None where nothing was answered."""
        return max((turn.difference for turn in self.turns if turn.difference is not None), default=None)

    @property
    def right(self) -> bool:
        """Whether every score is."""
        return is_right(self.difference)

    @property
    def counts(self) -> bool:
        """Whether its figures may be compared: every score is right and, in a closed loop, every call was answered."""
        return self.right and not (self.load.kind == "closed" and self.figures.errors)

    @property
    def rates(self) -> list[float]:
        """Answered calls a second, of each turn."""
        return [figures_of(turn.calls).rate for turn in self.turns]


def is_right(difference: float | None) -> bool:
    """Whether scores that differ so much from the yardstick are right; None: there are no scores."""
    return difference is not None and difference <= TOLERANCE


@dataclass
class Found:
    """Everything that was measured, in the order in which it was.

    Attributes:
        yardstick: that scores are held against.
        entrants: that took part.
        turns: (name of the way, load) -> finished turns.
        searches: name of the way -> its search; with the scores' largest difference.
        what: name of the way -> what it is.
        left_out: sentences on ways that could not be started.
        idle: name of the way -> most processors that it kept busy while another was measured.
        together: whether all servers were up at once.
        broken: whether the run was ended before it was through.
    """

    yardstick: Yardstick
    entrants: list[Entrant] = field(default_factory=list)
    turns: dict[tuple[str, Load], list[Turn]] = field(default_factory=dict)
    searches: dict[str, tuple[Search, float | None]] = field(default_factory=dict)
    what: Mapping[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    idle: dict[str, float] = field(default_factory=dict)
    together: bool = True
    broken: bool = False

    def add(self, entrant: Entrant, load: Load, turn: Turn) -> None:
        """Keep a finished turn."""
        self.turns.setdefault((entrant.name, load), []).append(turn)

    def points(self, kind: Literal["closed", "open"]) -> list[Point]:
        """All of one kind: loads in their order, ways in theirs."""
        loads = dict.fromkeys(load for _, load in self.turns if load.kind == kind)
        wanted = ((entrant, load) for load in loads for entrant in self.entrants)
        return [self._point(entrant, load) for entrant, load in wanted if (entrant.name, load) in self.turns]

    def best_rate(self, name: str) -> float | None:
        """The highest that a way reached in a closed loop; None where it has none that counts."""
        return max((p.figures.rate for p in self.points("closed") if p.entrant.name == name and p.counts), default=None)

    def reference(self) -> Entrant:
        """The way of ours that all others are compared with."""
        return next(entrant for entrant in self.entrants if entrant.role == "ours")

    def bare(self) -> Entrant | None:
        """The bare encoder, where it takes part."""
        return next((entrant for entrant in self.entrants if entrant.role == "bare"), None)

    def difference(self, calls: list[Call]) -> float | None:
        """Largest difference from the yardstick; None where nothing was answered."""
        return max((self.yardstick.difference(c.case, c.raw) for c in calls if c.raw is not None), default=None)

    def _point(self, entrant: Entrant, load: Load) -> Point:
        turns = self.turns[entrant.name, load]
        return Point(entrant, load, turns, figures_of_turns([turn.calls for turn in turns]))
