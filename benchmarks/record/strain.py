"""What strained the machine while a run went: other work, a hypervisor, a control group's limit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import throttled_s

_STEAL = 7  # place in the line of /proc/stat
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, interrupts


@dataclass(frozen=True)
class Strain:
    """The machine at one moment.

    Attributes:
        load: the load average of a minute.
        busy_s, stolen_s: of all cores since the machine began: at work, wanted by us and given to somebody else.
        throttled_s: that the control group was held back; None: not known.
        clock_mhz: of the slowest and the quickest core; () where not known.
    """

    load: float
    busy_s: float
    stolen_s: float
    throttled_s: float | None
    clock_mhz: tuple[float, ...]

    @classmethod
    def now(cls) -> Strain:
        """As it is."""
        ticks = [int(number) for number in _lines(Path("/proc/stat"))[0].split()[1:]]
        second = os.sysconf("SC_CLK_TCK")
        busy, stolen = sum(ticks[place] for place in _BUSY) / second, ticks[_STEAL] / second
        return cls(round(os.getloadavg()[0], 2), busy, stolen, throttled_s(), _clocks())


def strain_between(before: Strain, after: Strain) -> dict[str, Any]:
    """What a run was disturbed by, for a record's machine.

    Returns:
        load_before and load_after (of the minute before), busy_core_s (all processes), stolen_core_s (by the
        hypervisor), throttled_s (by the control group's limit), clock_before_mhz and clock_after_mhz (of the
        slowest and the quickest core).
    """
    throttled = None
    if before.throttled_s is not None and after.throttled_s is not None:
        throttled = round(after.throttled_s - before.throttled_s, 3)
    return {
        "load_before": before.load,
        "load_after": after.load,
        "busy_core_s": round(after.busy_s - before.busy_s, 2),
        "stolen_core_s": round(after.stolen_s - before.stolen_s, 2),
        "throttled_s": throttled,
        "clock_before_mhz": list(before.clock_mhz),
        "clock_after_mhz": list(after.clock_mhz),
    }


def _clocks() -> tuple[float, ...]:
    found = [
        float(line.partition(":")[2]) for line in _lines(Path("/proc/cpuinfo")) if line.lower().startswith("cpu mhz")
    ]
    return (min(found), max(found)) if found else ()


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()
