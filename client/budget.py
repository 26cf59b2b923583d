"""Bytes that may be held at one time."""

from __future__ import annotations

import asyncio
from collections import deque

from .status import EngineStatus


class ByteBudget:
    """Hands out bytes in the order in which they are asked for; `status.reserved` says how many are out.

    Whoever asks for more than there is gets it all, once nobody else holds any: a box may be larger than the budget.
    """

    def __init__(self, total: int, status: EngineStatus) -> None:
        self.total = total
        self._status = status
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, count: int) -> int:
        """Wait for so many bytes; what comes back is to be given to `release`."""
        count = min(count, self.total)
        if not self._waiting and self._status.reserved + count <= self.total:
            self._status.reserved += count
            return count
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came in the same moment
                self.release(count)
            else:
                self._waiting = deque(other for other in self._waiting if other[1] is not turn)
                self._hand_out()
            raise
        return count

    def release(self, count: int) -> None:
        """Give bytes back."""
        self._status.reserved -= count
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._status.reserved + self._waiting[0][0] <= self.total:
            count, turn = self._waiting.popleft()
            if not turn.done():
                self._status.reserved += count
                turn.set_result(None)
