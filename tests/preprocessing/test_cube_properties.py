"""Cubes of random volumes are those of the plain way, wherever the nodule is and however the volume is stored."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from reference import plain
from scipy import ndimage

from noduleserve.preprocessing import VolumeGeometry, cube, cut_cube, required_box, views_of_request

Array = np.ndarray[Any, Any]


def examples(count: int) -> settings:
    """The same examples in every run; one that fails is shown as it is, since making it smaller takes minutes."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [Phase.explicit, Phase.generate]
    return settings(max_examples=count, derandomize=True, deadline=None, phases=phases, suppress_health_check=slow)


class Case(NamedTuple):
    """A volume [z, y, x] in HU, its affine to LPS mm, and a nodule's centre in LPS mm."""

    volume: Array
    affine: Array
    center: Array

    def __repr__(self) -> str:
        return f"<{self.volume.shape} voxels, affine {self.affine.tolist()}, centre {self.center.tolist()}>"

    @property
    def geometry(self) -> VolumeGeometry:
        return VolumeGeometry(self.volume.shape[::-1], self.affine)

    def cut(self, grow: int | None = 0) -> Array:
        """The cube from the required box, larger by some voxels on each side; None takes the whole volume."""
        if grow is None:
            return cut_cube(self.volume, (0, 0, 0), self.geometry, self.center)
        box = required_box(self.geometry, self.center)
        start = np.maximum(box.start - grow, 0)
        z, y, x = (slice(a, b) for a, b in zip(start[::-1], box.stop[::-1] + grow, strict=True))
        return cut_cube(self.volume[z, y, x].copy(), start, self.geometry, self.center)


# Numbers with few binary digits: what is computed from them is exact, also at the borders of voxels and lattice.
spacings = st.one_of(st.integers(26, 320), st.sampled_from([32, 64, 640])).map(lambda n: n / 64)  # 0.41..5, 10 mm
origins = st.integers(-4000, 4000).map(lambda n: n / 16)


@st.composite
def aligned_affines(draw: st.DrawFn) -> Array:
    """Voxel axes along the patient's, in any order and direction."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))[draw(st.permutations(range(3)))]
    affine[:3, :3] *= draw(st.tuples(spacings, spacings, spacings))
    affine[:3, 3] = draw(st.tuples(origins, origins, origins))
    return affine


@st.composite
def oblique_affines(draw: st.DrawFn) -> Array:
    """Voxel axes turned about all three axes of the patient, by a hair or by a lot; sheared at times, as a tilted
    gantry does or in all axes."""
    affine = draw(aligned_affines())
    turns = st.one_of(st.floats(-1.5, 1.5), st.sampled_from([0.0, 1e-7, 1e-4]))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        angle = draw(turns)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        affine[:3, :3] = turn @ affine[:3, :3]
    shears = st.sampled_from([0.0, 0.0, 0.2, -0.4])
    affine[:3, :3] @= np.array([[1, draw(shears), draw(shears)], [0, 1, draw(shears)], [0, 0, 1]])
    affine[:3, :3] *= min(1, 9.99 / np.linalg.norm(affine[:3, :3], axis=0).max())
    return affine


def borders(size: int) -> tuple[float, ...]:
    """Places along an axis: at the faces of the volume, just inside them, and at its outer voxels' centres."""
    return -0.5, -0.5 + 1e-6, 0.0, size - 1.0, size - 0.5 - 1e-6, size - 0.5


@st.composite
def cases(draw: st.DrawFn, affines: st.SearchStrategy[Array]) -> Case:
    """Noise over the whole range of CT; the centre anywhere, at times on a voxel, a border or a corner."""
    affine = draw(affines)
    sizes = st.one_of(st.integers(1, 60), st.sampled_from([1, 2, 3, 100]))
    shape = draw(st.tuples(sizes, sizes, sizes))  # along x, y, z
    seed = draw(st.integers(0, 2**32 - 1))
    volume = np.random.default_rng(seed).integers(-1024, 3072, shape[::-1]).astype(np.int16)
    voxel = []
    for size in shape:
        inside = st.integers(-4, 8 * size - 4).map(lambda n: n / 8)
        voxel.append(draw(st.one_of(inside, st.sampled_from(borders(size)))))
    exact = plain.stored_affine(affine)
    return Case(volume, affine, exact[:3, :3] @ voxel + exact[:3, 3])


def inexact(case: Case) -> Case:
    """Leave out centres where rounding decides between two lattice points, or between inside and outside."""
    coordinate = case.center - plain.lattice_of(case.volume.shape, case.affine)[0]
    voxel = case.geometry.voxel_of(case.center)
    assume((np.abs(coordinate - np.round(coordinate)) > 1e-6).all())
    assume((voxel > -0.5 + 1e-9).all() and (voxel < case.geometry.shape - 0.5 - 1e-9).all())
    return case


aligned = cases(aligned_affines())
oblique = cases(oblique_affines()).map(inexact)


@examples(11)
@given(aligned)
def test_aligned_volumes(case: Case) -> None:
    expected = plain.cube_of(*case)
    assert expected.any() or min(case.volume.shape) < 3
    with mock.patch.object(cube, "interpolate_any", side_effect=AssertionError("the slow way was taken")):
        np.testing.assert_allclose(case.cut(), expected, rtol=0, atol=1e-3)


@examples(8)
@given(oblique)
def test_oblique_volumes(case: Case) -> None:
    np.testing.assert_allclose(case.cut(), plain.cube_of(*case), rtol=0, atol=1e-3)


@examples(3)
@given(aligned)
def test_the_fast_and_the_general_way_agree(case: Case) -> None:
    fast = case.cut()
    with mock.patch.object(cube, "_voxel_axis_of_patient_axis", return_value=None):
        general = case.cut()
    np.testing.assert_allclose(fast, general, rtol=0, atol=1e-3)


@examples(40)
@given(aligned, st.integers(1, 30))
def test_more_voxels_than_needed_change_nothing_in_aligned_volumes(case: Case, grow: int) -> None:
    from_needed = case.cut()
    np.testing.assert_array_equal(case.cut(grow), from_needed)
    np.testing.assert_array_equal(case.cut(None), from_needed)


@examples(3)
@given(oblique, st.one_of(st.none(), st.integers(1, 30)))
def test_more_voxels_than_needed_change_nothing_in_oblique_volumes(case: Case, grow: int | None) -> None:
    np.testing.assert_array_equal(case.cut(grow), case.cut())


@examples(6)
@given(st.one_of(aligned, oblique), st.integers(0, 40), st.integers(60, 100))
def test_a_part_of_the_cube_is_that_part_of_the_whole(case: Case, first: int, stop: int) -> None:
    part = slice(first, stop)
    cut = cut_cube(case.volume, (0, 0, 0), case.geometry, case.center, part)
    np.testing.assert_allclose(cut, case.cut(None)[part, part, part], rtol=0, atol=1e-3)


@pytest.mark.parametrize("drift", [4.9e-10, 9e-9])
def test_volumes_that_are_aligned_but_for_a_hair(drift: float) -> None:
    """Below a bound they take the fast way; a chequered volume shows most what that neglects."""
    volume = np.where(np.indices((110, 110, 110)).sum(axis=0) % 2, 3071, -1024).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] += drift * (1 - np.eye(3))
    affine[:3, 3] = 0.5
    case = Case(volume, affine, np.array([55.3, 55.3, 55.3]))
    np.testing.assert_allclose(case.cut(), plain.cube_of(*case), rtol=0, atol=1e-3)


@examples(100)
@given(aligned)
def test_no_more_voxels_are_needed_than_the_cube_spans(case: Case) -> None:
    """99 mm from the first lattice point to the last, and at each end the rest of a voxel at most."""
    box = required_box(case.geometry, case.center)
    spacing = case.geometry.spacing
    across = np.abs(case.affine[:3, :3]).sum(axis=0)  # mm of each voxel axis, whichever patient axis it follows
    np.testing.assert_array_equal(across, spacing)
    assert ((box.shape - 1) * spacing < 99 + 2 * spacing).all()
    assert (box.start >= 0).all() and (box.stop <= case.geometry.shape).all() and (box.shape >= 1).all()


# ---------------------------------------------------------------- the same anatomy, stored in other ways


def smooth_volume() -> Array:
    noise = np.random.default_rng(5).standard_normal((40, 52, 48))
    smooth = ndimage.gaussian_filter(noise, 2)
    return (-300 + 500 * smooth / smooth.std()).astype(np.int16)


AFFINE = np.array([[1.25, 0, 0, -30.5], [0, 1.5, 0, 12.25], [0, 0, 2.5, -200.0], [0, 0, 0, 1]])
CENTER = np.array([3.25, 47.5, -148.75])
SIGNS = list(itertools.product((1, -1), repeat=3))


def stored(volume: Array, affine: Array, order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[Array, Array]:
    """The same anatomy with its axes in another order and direction, and the affine that says so.

    `order` and `signs` belong to the new axes x, y, z: which of the old ones each is, and whether it runs backwards.
    """
    by_xyz = volume.transpose(2, 1, 0).transpose(order)
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        to_old[old, new] = sign
        if sign < 0:
            by_xyz = np.flip(by_xyz, new)
            to_old[old, 3] = volume.shape[2 - old] - 1
    return np.ascontiguousarray(by_xyz.transpose(2, 1, 0)), affine @ to_old


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_and_direction_of_the_voxel_axes_do_not_matter(order: tuple[int, ...]) -> None:
    volume = smooth_volume()
    expected = plain.views_of(plain.cube_of(volume, AFFINE, CENTER))
    assert np.ptp(expected, axis=(1, 2)).min() > 0.5  # pictures, not planes of one value
    for signs in SIGNS:
        again, affine = stored(volume, AFFINE, order, signs)
        views = views_of_request(again, (0, 0, 0), again.shape[::-1], affine, CENTER)
        np.testing.assert_allclose(views, expected, rtol=0, atol=1e-5)
