"""What is read all the same, but with a warning: wide spacing, a centre in air, views beyond the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, Lattice, VolumeGeometry
from noduleserve.preprocessing.views import VIEW

from .codes import WARNING_CODES

WIDE_MM, TOO_WIDE_MM = 2.5, 5.0
_ROUNDING_MM = 1e-3  # of spacings that are written with few decimals
# Airways measure -1000..-920 HU, lung -900..-500 HU. Emphysema reaches -950 HU and below, but with vessels and septa in
# it, and a nodule of 4 mm lifts the mean of 3 mm at its middle above -800 HU even there.
AIR_HU = -900.0
AIR_RADIUS_MM = 4.0
GRAIN_MM = 3.0  # edge of the little cubes that means are taken over
BEYOND_MM = 1.0  # the lattice itself ends up to a millimetre before the volume does


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
    """Warn of a centre with nothing but air around it, and of views that reach beyond the volume.

    Args:
        voxels: Hounsfield units of the box, int16 [z, y, x].
        box: where they lie in the volume, as `required_box` gives it.
        geometry: of the whole volume.
        center: LPS millimetres (x, y, z).
    """
    warnings = []
    if _densest(voxels, box, geometry, center) < AIR_HU:
        what = f"All that lies within {AIR_RADIUS_MM:g} mm of the centre is below {AIR_HU:g} HU."
        mend = "Check that the centre is in LPS millimetres of this series; `noduleserve look` shows the place."
        warnings.append(InputWarning("CENTER_IN_AIR", what, mend))
    beyond = _views_beyond(geometry, center)
    if beyond > BEYOND_MM:
        what = f"The views reach {beyond:.0f} mm beyond the volume, where the model sees 0 HU."
        mend = "Prefer a series that goes on beyond the nodule, if there is one."
        warnings.append(InputWarning("VIEWS_BEYOND_VOLUME", what, mend))
    return tuple(warnings)


def _densest(voxels: NDArray[np.int16], box: Box, geometry: VolumeGeometry, center: ArrayLike) -> float:
    """The highest mean of any little cube that has its middle within AIR_RADIUS_MM of a centre, HU.

    Means, since single voxels of air reach -900 HU by noise; the highest, since a nodule of 4 mm in emphysema is a
    few voxels among many that are air. It stands out of its own little cube all the same, as vessels and septa do,
    so that only what is air throughout stays low: the outside of the body, an airway, a bulla.
    """
    sizes = np.clip(np.round(GRAIN_MM / geometry.spacing), 1, box.shape).astype(int)
    to_middle = (sizes - 1) / 2
    center_voxel = geometry.voxel_of(center) - box.start
    reach = AIR_RADIUS_MM / geometry.spacing
    first = np.clip(np.ceil(center_voxel - to_middle - reach).astype(int), 0, box.shape - sizes)
    last = np.clip(np.floor(center_voxel - to_middle + reach).astype(int), first, box.shape - sizes)
    (x0, y0, z0), (x1, y1, z1) = first.tolist(), (last + sizes).tolist()
    means = voxels[z0:z1, y0:y1, x0:x1].astype(np.float32)
    for axis, size in enumerate(sizes[::-1].tolist()):
        means = sliding_window_view(means, size, axis=axis).mean(axis=-1)
    away = [
        (first[a] + np.arange(last[a] - first[a] + 1) + to_middle[a] - center_voxel[a]) * geometry.spacing[a]
        for a in range(3)
    ]
    distance = np.sqrt(away[2][:, None, None] ** 2 + away[1][:, None] ** 2 + away[0] ** 2)  # [z, y, x]
    return float(means[distance <= max(AIR_RADIUS_MM, float(distance.min()))].max())


def _views_beyond(geometry: VolumeGeometry, center: ArrayLike) -> float:
    """How many millimetres the field of the views, 25 mm to each side, reaches beyond the volume; 0 where it does not.

    A volume and the field are both convex: the one holds the other where it holds its corners.
    """
    lattice = Lattice.of(geometry)
    index = lattice.index_of(center)
    ends = np.stack([index - VIEW // 2, index + VIEW // 2 - 1]) + lattice.origin
    corners = np.array([[x, y, z] for x in ends[:, 0] for y in ends[:, 1] for z in ends[:, 2]])
    voxel = geometry.voxel_of(corners)
    beyond = np.maximum(-voxel, voxel - (geometry.shape - 1)) * geometry.spacing
    return max(float(beyond.max()), 0.0)
