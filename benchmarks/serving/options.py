"""What a run of `noduleserve bench serving` is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..load.search import Bound


@dataclass(frozen=True)
class ServingOptions:
    """What is measured of every way.

    Attributes:
        concurrency: callers of the closed loops.
        calls: of a point, all of its turns together.
        turns: that a point is split into; in each, all ways are measured one after another.
        rates: of the open loops: shares of the highest rate that noduleserve reached in a closed loop, so that all ways
            are offered the same; or calls a second.
        per_second: whether `rates` are the latter.
        bound: that the search for the highest rate keeps; None: no search.
        deadline: seconds for an answer.
        seed: of the arrivals.
    """

    concurrency: tuple[int, ...] = (1, 2, 4, 8)
    calls: int = 200
    turns: int = 2
    rates: tuple[float, ...] = (0.5, 0.8)
    per_second: bool = False
    bound: Bound | None = None
    deadline: float = 60.0
    seed: int = 1

    def calls_of_turn(self, turn: int) -> int:
        """Calls of one turn of a point, counted from 0."""
        return self.calls // self.turns + (turn < self.calls % self.turns)

    def facts(self) -> dict[str, Any]:
        """For a record's parameters."""
        return asdict(self)
