"""What every reader of CT offers: the geometry of a volume, and boxes of its voxels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noduleserve.preprocessing import Box, VolumeGeometry

from .doubt import InputWarning


class Volume(Protocol):
    """An opened CT series: headers read once, voxels only when asked for.

    Attributes:
        geometry: shape and affine (LPS) of the whole volume.
        series_uid: SeriesInstanceUID, or "" where the format has none.
        warnings: what is doubtful about the series as a whole.
    """

    geometry: VolumeGeometry
    series_uid: str
    warnings: tuple[InputWarning, ...]

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous; reads only the slices that the box needs.

        Raises:
            SeriesError: where the pixel data cannot be read.
        """
        ...
