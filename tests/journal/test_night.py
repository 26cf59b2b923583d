"""A night does not wait for the journal's half second where nothing more will come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from outcome_making import scored

from noduleserve.errors import ServerError
from noduleserve.journal.journal import Journal
from noduleserve.journal.record import OutcomeRecord
from noduleserve.night import _keep_all


class Scripted:
    """Stands where the engine does: outcomes, and perhaps an error behind them."""

    def __init__(self, records: list[OutcomeRecord], error: ServerError | None) -> None:
        self._records, self._error = records, error

    async def outcomes(self, *_: Any) -> AsyncGenerator[Any, None]:
        for record in self._records:
            yield record.outcome
        if self._error:
            raise self._error


@pytest.mark.parametrize("error", [None, ServerError("SERVER_GONE", "No server.")])
def test_the_last_outcomes_are_on_the_disk_at_once(tmp_path: Path, error: ServerError | None) -> None:
    records = [scored(number) for number in range(3)]
    kept = []

    async def night() -> None:
        with Journal.open(tmp_path / "journal", batch=1000, seconds=3600) as journal:

            async def keep(outcome: Any) -> None:
                await journal.commit([records[outcome.nodule.number]])
                kept.append(outcome.nodule.number)

            async with asyncio.timeout(60):
                engine: Any = Scripted(records, error)
                await _keep_all(engine, [], lambda *_: None, keep, lambda: journal.commit([], hurry=True))

    if error:
        with pytest.raises(ServerError, match="SERVER_GONE"):
            asyncio.run(night())
    else:
        asyncio.run(night())
    assert kept == [0, 1, 2]
