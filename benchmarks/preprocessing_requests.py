"""Requests to preprocess, in memory: noise in volumes of spacings that scanners deliver, the nodule in the middle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.preprocessing import VolumeGeometry, required_box, views_of_request

_EXTENT_MM = 240.0  # of the volume: the cube around its middle lies within it, however the volume is turned


@dataclass(frozen=True, eq=False)
class Request:
    """One nodule's request.

    Attributes:
        name: of the kind of volume.
        voxels: the box that the cube needs, HU, int16 [z, y, x].
        start: voxel index (x, y, z) of voxels[0, 0, 0].
        geometry: of the whole volume.
        center: LPS millimetres.
    """

    name: str
    voxels: NDArray[np.int16]
    start: NDArray[np.int64]
    geometry: VolumeGeometry
    center: NDArray[np.float64]

    def views(self) -> NDArray[np.float32]:
        """What nodule_preprocess computes for it, float32 [9, 50, 50]."""
        geometry = self.geometry
        return views_of_request(self.voxels, self.start, geometry.shape, geometry.affine, self.center)


def requests() -> list[Request]:
    """A request of each kind of volume."""
    # Turned about z, then x; as a gantry's tilt shears a volume.
    turned = _turn(0.3, 1, 2) @ _turn(0.2, 0, 1)
    sheared = np.array([[1, 0, 0], [0, 1, -0.25], [0, 0, 1]])
    return [
        _request("0.55 x 0.55 x 3 mm", (0.546875, 0.546875, 3.0)),
        _request("0.82 x 0.82 x 2.5 mm", (0.8203125, 0.8203125, 2.5)),
        _request("0.7 x 0.7 x 1 mm", (0.703125, 0.703125, 1.0)),
        _request("0.5 mm", (0.5, 0.5, 0.5)),
        _request("0.3 mm", (0.3, 0.3, 0.3)),
        _request("0.55 x 0.55 x 3 mm, oblique", (0.546875, 0.546875, 3.0), turned),
        _request("0.7 x 0.7 x 1 mm, oblique", (0.703125, 0.703125, 1.0), turned),
        _request("0.5 mm, oblique", (0.5, 0.5, 0.5), turned),
        _request("0.55 x 0.55 x 3 mm, sheared", (0.546875, 0.546875, 3.0), sheared),
    ]


def _request(name: str, spacing: tuple[float, float, float], axes: NDArray[np.float64] | None = None) -> Request:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if axes is None else axes) * spacing
    geometry = VolumeGeometry(np.ceil(_EXTENT_MM / np.array(spacing)).astype(int), affine)
    center = geometry.corners().mean(axis=0) + 0.3
    box = required_box(geometry, center)
    voxels = np.random.default_rng(1).integers(-1024, 1024, box.shape[::-1]).astype(np.int16)
    return Request(name, voxels, box.start, geometry, center)


def _turn(angle: float, first: int, second: int) -> NDArray[np.float64]:
    turn = np.eye(3)
    turn[[first, second], [first, second]] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn
