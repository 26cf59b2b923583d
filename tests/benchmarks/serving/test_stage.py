"""Servers are started together where memory allows, and idle rivals are suspended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted_rival import ScriptedRival
from serving import until

from noduleserve.benchmarks.load.usage import CLIENT, Usage, cpu_seconds
from noduleserve.benchmarks.serving.entrants import Entrant, Stage

pytest.importorskip("psutil", reason="tells processes and memory")


class Busy(ScriptedRival):
    """A server that never rests."""

    async def __aenter__(self) -> Busy:
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.process.terminate()
        assert self.process.wait(20) != 0

    @property
    def pids(self) -> list[int]:  # type: ignore[override]
        return [self.process.pid]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def test_a_rival_that_is_not_lent_is_suspended_and_ends_in_good_order() -> None:
    rival = Busy(name="busy")
    entrants = [Entrant("ours", "ours", lambda: ScriptedRival(name="ours")), Entrant("busy", "rival", lambda: rival)]

    async def go() -> None:
        async with Stage(entrants) as stage:
            assert until(lambda: state_of(rival.process.pid) == "T", 10)
            before = cpu_seconds(rival.pids)
            async with stage.lend(entrants[1]) as lent:
                assert lent is rival
                assert until(lambda: cpu_seconds(rival.pids) > before, 10)
            assert until(lambda: state_of(rival.process.pid) == "T", 10)

    asyncio.run(go())
    assert rival.process.returncode is not None


def test_where_memory_is_short_every_way_is_up_for_its_own_turns_only() -> None:
    made: list[ScriptedRival] = []
    free = [10e9]

    class Large(ScriptedRival):
        async def __aenter__(self) -> Large:
            free[0] -= 4e9
            return await super().__aenter__()  # type: ignore[return-value]

        async def __aexit__(self, *error: Any) -> None:
            free[0] += 4e9
            await super().__aexit__(*error)

    def make() -> Large:
        made.append(Large())
        return made[-1]  # type: ignore[return-value]

    entrants = [Entrant(name, "rival", make) for name in ("a", "b", "c", "d")]

    async def go() -> None:
        async with Stage(entrants, available=lambda: free[0]) as stage:
            assert not stage.together and not any(rival.up for rival in made)
            assert set(stage.what) == {"a", "b", "c", "d"}
            async with stage.lend(entrants[1]) as lent:
                assert [rival.up for rival in made].count(True) == 1 and lent is made[-1]
            assert not any(rival.up for rival in made)

    asyncio.run(go())
    assert free == [10e9]


def test_usage_tells_processor_time_and_memory_by_process() -> None:
    code = "held = b'1' * 50_000_000; print('held', flush=True); input()"
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout
    with server, Usage([server.pid], every=0.02) as usage:
        assert server.stdout.readline() == "held\n"
        assert until(lambda: cpu_seconds([server.pid]) > 0, 10)
    by_name = {used.process: used for used in usage.used}
    assert next(iter(by_name)) == CLIENT and len(by_name) == 2
    (used,) = [used for name, used in by_name.items() if name != CLIENT]
    assert used.peak_mb > 50 and used.peak_mb >= used.start_mb
    assert used.cpu_s > 0 and used.wall_s > 0
