"""Readers that read no files, for tests of what stands around them; at the top of the tests, since the processes
that run them must find them by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noduleserve.client.readers.series_reader import SeriesReader
from noduleserve.client.readers.work import Center, Cut, Place, Plan, Refusal
from noduleserve.preprocessing import Box, VolumeGeometry

_GEOMETRY = VolumeGeometry([100_000, 100, 100], np.eye(4))


class AirReader:
    """Every path is a series of air, every box `side` voxels wide."""

    side = 4

    def plan(self, place: Place, centers: Sequence[Center]) -> Plan:
        return Plan(f"1.2.{place.path.name}", [self.side**3 * 2] * len(centers))

    def cut(self, place: Place, center: Center) -> Cut | Refusal:
        start = np.zeros(3, np.int64)
        voxels = np.full((self.side,) * 3, -1000, np.int16)
        return Cut(voxels, Box(start, start + self.side), _GEOMETRY, center)

    def close(self) -> None:
        pass


class LargeBoxReader(AirReader):
    """Boxes of 1 MiB."""

    side = 80


class MortalReader(SeriesReader):
    """Reads real series, and dies as the name of a file beside the series tells it to.

    "x=5.crash": the nodule with that x kills it each time; "x=5.once": only once; "plan.crash": opening the series
    kills it; "x=5.hang": it never comes back; "pid" is where it writes its process id.
    """

    def plan(self, place: Place, centers: Sequence[Center]) -> Plan:
        (place.path.parent / f"pid-{os.getpid()}").touch()
        if (place.path.parent / f"{place.path.name}.plan.crash").exists():
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().plan(place, centers)

    def cut(self, place: Place, center: Center) -> Cut | Refusal:
        mark = place.path.parent / f"x={center[0]:g}"
        once, always, hang = (mark.with_name(f"{mark.name}.{word}") for word in ("once", "crash", "hang"))
        if once.exists():
            once.unlink()
            os._exit(1)
        if always.exists():
            with Path(f"{always}ed").open("a") as times:
                times.write("x")
            os._exit(1)
        if hang.exists():
            time.sleep(60)
        return super().cut(place, center)


class SlowReader(SeriesReader):
    """Takes its time over a box, and tells who it is by a file beside the series."""

    def cut(self, place: Place, center: Center) -> Cut | Refusal:
        (place.path.parent / f"pid-{os.getpid()}").touch()
        time.sleep(0.1)
        return super().cut(place, center)
