"""What travels to a reader and back. Errors travel as code and sentence, since exceptions may not survive the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry

Center = tuple[float, float, float]  # LPS millimetres (x, y, z)


@dataclass(frozen=True)
class Refusal:
    """Why a series or a nodule cannot be read: a stable code, and what is wrong with how to mend it."""

    code: str
    sentence: str

    @classmethod
    def of(cls, error: NoduleserveError | BadRequest) -> Refusal:
        """The same error, ready to travel."""
        if isinstance(error, NoduleserveError):
            return cls(error.code, error.sentence)
        return cls(error.code, f"{error.what} Mend: {error.mend}")


@dataclass(frozen=True)
class Place:
    """Where a series is: a folder, an archive or a file, and which series of it ("": the only one)."""

    path: Path
    series_uid: str = ""


@dataclass(frozen=True)
class Plan:
    """A series whose headers have been read.

    Attributes:
        series_uid: SeriesInstanceUID, or "" where the format has none or the series cannot be opened.
        boxes: for each centre the bytes of its box, or why there is none; one Refusal for all where the series cannot
            be opened.
        seconds: that it took.
        scanner: what made the series, see Outcome.
    """

    series_uid: str
    boxes: Sequence[int | Refusal] | Refusal
    seconds: float = 0.0
    scanner: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cut:
    """The box around a nodule.

    Attributes:
        voxels: Hounsfield units, int16 [z, y, x].
        box: where they lie in the volume.
        geometry: of the whole volume.
        center: of the nodule.
        warnings: what is doubtful about the series and about the nodule's place in it.
        seconds: that it took to read.
    """

    voxels: NDArray[np.int16]
    box: Box
    geometry: VolumeGeometry
    center: Center
    warnings: tuple[InputWarning, ...] = field(default=())
    seconds: float = 0.0


class Reader(Protocol):
    """Opens series and cuts boxes, one thing at a time."""

    def plan(self, place: Place, centers: Sequence[Center]) -> Plan:
        """Read a series' headers, and work out what the box around each centre takes."""
        ...

    def cut(self, place: Place, center: Center) -> Cut | Refusal:
        """Read the voxels of a box; the series is opened if it is not open already."""
        ...

    def close(self) -> None:
        """Let go of what is open, and remove what was unpacked."""
        ...
