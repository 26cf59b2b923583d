"""What every way to score a nodule offers, and what it is given."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noduleserve.preprocessing import Box, VolumeGeometry


@dataclass(frozen=True, eq=False)
class Case:
    """A real nodule, ready to be asked about: what a client has in memory once it has read the voxels.

    Attributes:
        name: of the nodule, unique among the cases.
        voxels: Hounsfield units of the box, int16 [z, y, x].
        box: where they lie in the volume.
        geometry: of the whole volume.
        center: LPS millimetres (x, y, z).
        views: the nine views, float32 [9, 50, 50], for ways that are given no voxels.
    """

    name: str
    voxels: NDArray[np.int16]
    box: Box
    geometry: VolumeGeometry
    center: tuple[float, float, float]
    views: NDArray[np.float32]


class Rival(Protocol):
    """A way to score nodules; an async context manager, started and warm within.

    Attributes:
        name: in tables.
        what: a sentence on what it is and how it is set up.
        pids: processes, besides this one, that belong to its server; their children are counted with them.
    """

    name: str
    what: str

    @property
    def pids(self) -> list[int]:
        """See the class."""
        ...

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """Each fold's probability of cancer, not calibrated, [F].

        May be called while other calls are waiting: whoever calls decides how many.

        Raises:
            Exception: whatever went wrong; it is counted as an error under its code or its type.
        """
        ...


RivalMaker = AbstractAsyncContextManager[Rival]
