"""What is read all the same, but with a warning: spacing that blurs small nodules, a centre in air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, VolumeGeometry

from .codes import WARNING_CODES

WIDE_MM, TOO_WIDE_MM = 2.5, 5.0
_ROUNDING_MM = 1e-3  # of spacings that are written with few decimals
AIR_HU = -950.0  # lung is -900..-500 HU, and a nodule in it well above; air outside the body is -1000 HU
AIR_RADIUS_MM = 4.0


@dataclass(frozen=True)
class InputWarning:
    """A doubt that does not keep a nodule from being scored.

    Attributes:
        code: a key of `WARNING_CODES`; stable over releases.
        what: what is doubtful, one sentence without patient data.
        mend: what to look at.
    """

    code: str
    what: str
    mend: str

    def __post_init__(self) -> None:
        if self.code not in WARNING_CODES:
            raise ValueError(f"{self.code} is not in the table of warnings")


def check_spacing(geometry: VolumeGeometry) -> tuple[InputWarning, ...]:
    """Warn of a volume whose voxels are far apart.

    Raises:
        SeriesError: SPACING_TOO_WIDE.
    """
    widest = float(geometry.spacing.max())
    if widest > TOO_WIDE_MM + _ROUNDING_MM:
        raise SeriesError(
            "SPACING_TOO_WIDE",
            f"Voxels are {widest:.3g} mm apart; the limit is {TOO_WIDE_MM:g} mm.",
            "Use a thinner reconstruction of the scan.",
        )
    if widest > WIDE_MM + _ROUNDING_MM:
        mend = f"Prefer a reconstruction of {WIDE_MM:g} mm or less, if there is one."
        return (InputWarning("SPACING_WIDE", f"Voxels are {widest:.3g} mm apart.", mend),)
    return ()


def check_surroundings(
    voxels: NDArray[np.int16], box: Box, geometry: VolumeGeometry, center: ArrayLike
) -> tuple[InputWarning, ...]:
    """Warn of a centre with nothing but air around it.

    Args:
        voxels: Hounsfield units of the box, int16 [z, y, x].
        box: where they lie in the volume.
        geometry: of the whole volume.
        center: LPS millimetres (x, y, z).
    """
    middle = geometry.voxel_of(center) - box.start
    reach = np.maximum(AIR_RADIUS_MM / geometry.spacing, 0.5)
    low = np.maximum(np.ceil(middle - reach), 0).astype(int)
    high = np.minimum(np.floor(middle + reach), box.shape - 1).astype(int)
    (x0, y0, z0), (x1, y1, z1) = low.tolist(), (high + 1).tolist()
    near = voxels[z0:z1, y0:y1, x0:x1]
    if near.size and float(np.median(near)) < AIR_HU:
        what = f"Half of the voxels within {AIR_RADIUS_MM:g} mm of the centre are below {AIR_HU:g} HU."
        return (InputWarning("CENTER_IN_AIR", what, "Look at the nodule with `noduleserve look`."),)
    return ()
