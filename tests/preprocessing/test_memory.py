"""A request's box is read where it lies: no copy of it is made, in no layout of the volume."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from noduleserve.preprocessing import VolumeGeometry, required_box, views_of_request

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


@pytest.mark.parametrize("axes", [np.eye(3), np.eye(3)[:, [2, 0, 1]], TURN], ids=["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("spacing", [0.25, 0.4])
def test_memory_does_not_grow_with_the_box(axes: np.ndarray, spacing: float) -> None:
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    geometry = VolumeGeometry((600, 600, 600), affine)
    center = geometry.corners().mean(axis=0)
    box = required_box(geometry, center)
    voxels = np.zeros(box.shape[::-1], np.int16)  # of which nothing but what is read takes memory
    voxels.flags.writeable = False
    assert voxels.nbytes > 28e6
    tracemalloc.start()
    try:
        views_of_request(voxels, box.start, geometry.shape, affine, center)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
