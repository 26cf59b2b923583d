"""Ways to have a nodule scored that do what a test tells them to, and a yardstick that fits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.benchmarks.rivals.base import Case
from noduleserve.benchmarks.rivals.yardstick import Yardstick
from noduleserve.preprocessing import Box, VolumeGeometry

RIGHT = np.array([0.25, 0.75])


def case(name: str) -> Case:
    """A nodule of air."""
    box = Box(np.zeros(3, np.int64), np.ones(3, np.int64))
    geometry = VolumeGeometry((1, 1, 1), np.eye(4))
    return Case(name, np.zeros((1, 1, 1), np.int16), box, geometry, (0, 0, 0), np.zeros((9, 50, 50), np.float32))


CASES = [case(name) for name in "abc"]
YARDSTICK = Yardstick({case.name: RIGHT for case in CASES}, "Scores are held against what the test says.")


async def at_once(_number: int) -> None:
    """Answers without ado."""


class ScriptedRival:
    """See Rival.

    Attributes:
        act: is awaited before each answer, with the number of the call; it may raise.
        asked: names of the cases, in their order.
        in_flight, most_in_flight: calls.
        up: whether it is entered.
    """

    what = "does what a test tells it to"
    pids: list[int] = []  # noqa: RUF012

    def __init__(
        self,
        act: Callable[[int], Awaitable[None]] = at_once,
        raw: NDArray[np.float64] = RIGHT,
        name: str = "scripted",
    ) -> None:
        self.act, self.raw, self.name = act, raw, name
        self.asked: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self.up = False

    async def __aenter__(self) -> ScriptedRival:
        self.up = True
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.up = False

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        self.asked.append(case.name)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.act(len(self.asked))
        finally:
            self.in_flight -= 1
        return self.raw


async def forever(_number: int) -> None:
    """Never answers."""
    await asyncio.Event().wait()
