"""Views and cubes are those of the plain way over whole volumes: resampled, cropped, windowed, rotated with scipy."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import plain

from noduleserve.preprocessing import VolumeGeometry, cut_cube, required_box, views_of_request

Array = np.ndarray[Any, Any]
TURNED = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]])
SHEARED = np.array([[1, 0.125, 0], [0, 1, -0.375], [0.25, 0, 1]])
AXES = {
    "aligned": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": TURNED,
    "sheared": SHEARED,
    "both": TURNED @ SHEARED,
}
NEAR = slice(20, 80)  # of the cube: all that a volume of 25 mm can reach


class Volume(NamedTuple):
    """Noise [z, y, x] in HU and the affine that places it."""

    voxels: Array
    affine: Array

    def lps(self, voxel: Any) -> Array:
        """LPS millimetres of a voxel index (x, y, z)."""
        exact = plain.stored_affine(self.affine)
        return exact[:3, :3] @ voxel + exact[:3, 3]

    def lattice_index(self, center: Array) -> tuple[int, int, int]:
        """Index (x, y, z) of the cube's middle in the plain, whole resampled volume."""
        return plain.center_index_of(self.voxels.shape, self.affine, center)


def volume_of(axes: str, spacing: Any, shape: Any, origin: float = -31.7) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = AXES[axes] * spacing
    affine[:3, 3] = origin, 2 * origin, 41.3
    voxels = np.random.default_rng(9).integers(-1024, 3072, tuple(shape)[::-1]).astype(np.int16)
    return Volume(voxels, affine)


def places(size: int) -> tuple[float, float, float]:
    """Along an axis: at the first face of the volume, in the middle, at the last face; no lattice point is near."""
    return -0.5 + 1e-6, (size - 1) / 2 + 0.013, size - 0.5 - 1e-6


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(("spacing", "shape"), [((0.7, 0.7, 2.5), (3, 2, 1)), ((0.6, 2.6, 1.3), (31, 1, 15))])
def test_centres_at_every_face_edge_and_corner(axes: str, spacing: Any, shape: Any) -> None:
    volume = volume_of(axes, spacing, shape)
    geometry = VolumeGeometry(shape, volume.affine)
    lattice = np.pad(plain.resample_whole(*volume), 40)  # NEAR begins 30 points before the middle
    for voxel in itertools.product(*map(places, shape)):
        center = volume.lps(voxel)
        box = required_box(geometry, center)
        cube = cut_cube(volume.voxels[box.slices].copy(), box.start, geometry, center, NEAR)
        expected = lattice[tuple(slice(c + 10, c + 70) for c in volume.lattice_index(center)[::-1])]
        np.testing.assert_allclose(cube, expected, rtol=0, atol=1e-3, err_msg=str(voxel))


@st.composite
def volumes(draw: st.DrawFn) -> tuple[Volume, Array]:
    """A volume at most 120 mm long, and a centre in it."""
    axes = draw(st.sampled_from(sorted(AXES)))
    spacing = draw(st.tuples(*[st.floats(0.3, 5.0)] * 3))
    shape = [draw(st.integers(1, min(200, int(120 / step)))) for step in spacing]
    volume = volume_of(axes, spacing, shape, draw(st.floats(-200, 200)))
    voxel = [draw(st.one_of(st.sampled_from(places(n)), st.floats(-0.49, n - 0.51))) for n in shape]
    return volume, volume.lps(voxel)


@settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(volumes())
def test_views(drawn: tuple[Volume, Array]) -> None:
    volume, center = drawn
    expected = plain.views_of(plain.crop_lattice(plain.resample_whole(*volume), volume.lattice_index(center)))
    shape = volume.voxels.shape[::-1]
    views = views_of_request(volume.voxels, (0, 0, 0), shape, volume.affine, center)
    np.testing.assert_allclose(views, expected, rtol=0, atol=1e-5)
