"""Processor time of a run by process: which of them took the cores from the encoder."""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from pathlib import Path

from ..triton_stub import model_of

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(triton: int | None) -> dict[str, float]:
    """Processor seconds so far, user and system: "client", "readers" (that have ended), "triton", and each model's.

    Args:
        triton: process id of a Triton that leads its session; None where there is none.
    """
    mine, ended = os.times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    found = defaultdict(float, client=mine.user + mine.system, readers=ended.ru_utime + ended.ru_stime)
    for stat in Path("/proc").glob("[0-9]*/stat") if triton is not None else ():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == triton:
                found[_role(stat.parent)] += (int(fields[11]) + int(fields[12])) / _TICKS
        except (OSError, ValueError):  # it has ended just now
            continue
    return dict(found)


def _role(process: Path) -> str:
    return model_of((process / "cmdline").read_text()) or "triton"
