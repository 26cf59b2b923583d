"""The 1-mm lattice of a volume: it belongs to the volume, not to the nodule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadRequest
from .geometry import VolumeGeometry


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points 1 mm apart along the patient's axes, index (x, y, z) running with L, P and S.

    Attributes:
        origin: LPS millimetres of the point (0, 0, 0), float64 [3].
        shape: number of points along x, y, z, int64 [3].
    """

    origin: NDArray[np.float64]
    shape: NDArray[np.int64]

    @classmethod
    def of(cls, geometry: VolumeGeometry) -> Lattice:
        """The lattice that spans the centres of a volume's corner voxels.

        It is laid out in RAS: per axis it starts at the lowest corner and has round(high - low + 1) points. Seen in
        LPS, whose x and y run the other way, the *high* end of x and y is therefore the one that is met exactly.
        """
        corners = geometry.corners()
        low, high = corners.min(axis=0), corners.max(axis=0)
        shape = np.round(high - low + 1).astype(np.int64)
        origin = np.array([high[0] - (shape[0] - 1), high[1] - (shape[1] - 1), low[2]])
        return cls(origin=origin, shape=shape)

    def index_of(self, center: ArrayLike) -> NDArray[np.int64]:
        """The lattice index (x, y, z) of a centre in LPS millimetres, truncated toward zero as int() does.

        Raises:
            BadRequest: CENTER_NOT_FINITE.
        """
        point = np.asarray(center, np.float64)
        if point.shape != (3,) or not np.isfinite(point).all():
            raise BadRequest("CENTER_NOT_FINITE", f"The nodule's centre is {point.tolist()}.")
        with np.errstate(invalid="ignore"):  # a centre beyond all bounds is no int64; `require_inside` refuses it
            return np.trunc(point - self.origin).astype(np.int64)

    def within(self, index: NDArray[np.int64], axis: int) -> NDArray[np.bool_]:
        """Which indices along one axis (0 x, 1 y, 2 z) are points of the lattice."""
        return (index >= 0) & (index < self.shape[axis])
