"""Processor time and memory that a server's processes and the client took during a load; needs psutil."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from ..triton_stub import model_of

if TYPE_CHECKING:
    import psutil

CLIENT = "client"
EVERY_S = 0.2
_LOOKS_A_SEARCH = 10  # for new processes, which reads all of this machine's
_MODULE = re.compile(r" -m (?:\w+\.)*(\w+)")  # in the command line of a Python that runs a module


@dataclass(frozen=True)
class Used:
    """What processes of one name took, all of them together.

    Memory is resident, MB (10^6 bytes); what several processes share counts in each of them.

    Attributes:
        process: "client" for this process, "tritonserver", the model's name for the process of a Python model, the
            module's for a Python that runs one, else the name of the executable.
        cpu_s: seconds of processor time, user and system, during the load.
        wall_s: seconds of the load.
        start_mb, end_mb: memory before and after.
        peak_mb: the most that was seen of all of them together, looked at five times a second.
    """

    process: str
    cpu_s: float
    wall_s: float
    start_mb: float
    peak_mb: float
    end_mb: float

    @property
    def cores(self) -> float:
        """Processors busy on average."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else 0.0


class Usage:
    """Watches processes while a load runs; a context manager.

    A process that begins during the load counts from its beginning, one that ends counts until it was last seen.

    Attributes:
        used: by name of the process, the client first; there once the block has ended.
    """

    def __init__(self, pids: Sequence[int], every: float = EVERY_S) -> None:
        """Name the processes of a server.

        Args:
            pids: their children, and theirs, are counted with them; this process is the client.
            every: seconds between two looks.
        """
        self._pids, self._every = [pid for pid in pids if pid != os.getpid()], every
        self._cpu_before: dict[int, float] = {}
        self._cpu: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._memory: list[dict[str, float]] = []  # of every look: name -> MB
        self._processes: list[psutil.Process] = []
        self._ended = threading.Event()
        self.used: list[Used] = []

    def __enter__(self) -> Usage:
        import psutil

        self._psutil = psutil
        self._look()
        self._cpu_before = dict(self._cpu)
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        wall = time.perf_counter() - self._began
        self._look()
        self.used = self._summed(wall)

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self._look()

    def _look(self) -> None:
        if len(self._memory) % _LOOKS_A_SEARCH == 0 or self._ended.is_set():
            self._processes = [self._psutil.Process(), *processes_of(self._pids)]
        memory: dict[str, float] = defaultdict(float)
        for process in self._processes:
            try:
                with process.oneshot():
                    cpu, size = process.cpu_times(), process.memory_info().rss
                    if process.pid not in self._names:
                        self._names[process.pid] = self._name(process)
            except self._psutil.Error:  # it ended just now
                continue
            self._cpu[process.pid] = cpu.user + cpu.system
            memory[self._names[process.pid]] += size / 1e6
        self._memory.append(memory)

    def _name(self, process: psutil.Process) -> str:
        if process.pid == os.getpid():
            return CLIENT
        line = " ".join(process.cmdline())
        module = _MODULE.search(line)
        return model_of(line) or (module[1] if module else process.name())

    def _summed(self, wall: float) -> list[Used]:
        cpu: dict[str, float] = defaultdict(float)
        for pid, seconds in self._cpu.items():
            cpu[self._names[pid]] += seconds - self._cpu_before.get(pid, 0.0)
        return [
            Used(
                process=name,
                cpu_s=cpu[name],
                wall_s=wall,
                start_mb=self._memory[0].get(name, 0.0),
                peak_mb=max(memory.get(name, 0.0) for memory in self._memory),
                end_mb=self._memory[-1].get(name, 0.0),
            )
            for name in sorted(cpu, key=lambda name: (name != CLIENT, name))
        ]


def processes_of(pids: Sequence[int]) -> list[psutil.Process]:
    """Processes of a server and everything that they started, as far as they live."""
    import psutil

    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            server = psutil.Process(pid)
            found |= {process.pid: process for process in [server, *server.children(recursive=True)]}
    return list(found.values())


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time, user and system, that a server's processes have taken so far."""
    import psutil

    seconds = 0.0
    for process in processes_of(pids):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def joined(turns: Sequence[Sequence[Used]]) -> list[Used]:
    """What several loads in succession took: times added up, memory from the first start to the last end."""
    together: dict[str, Used] = {}
    for turn in turns:
        for used in turn:
            before = together.get(used.process)
            together[used.process] = used if before is None else _after(before, used)
    return list(together.values())


def _after(before: Used, used: Used) -> Used:
    return replace(
        used,
        cpu_s=before.cpu_s + used.cpu_s,
        wall_s=before.wall_s + used.wall_s,
        start_mb=before.start_mb,
        peak_mb=max(before.peak_mb, used.peak_mb),
    )
