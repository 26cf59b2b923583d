"""Every bad request gets its own code and a sentence, costs no memory, and no good one is refused."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from reference import plain

from noduleserve.preprocessing import BadRequest, parse_refusal, required_box, views_of_request
from noduleserve.preprocessing.errors import MENDS
from noduleserve.preprocessing.geometry import VolumeGeometry

Array = np.ndarray[Any, Any]
Request = dict[str, Any]

INT32_LOW, INT32_HIGH = -(2**31), 2**31 - 1
FIELDS = ("voxels", "box_start", "volume_shape", "volume_affine", "nodule_center")


def good() -> Request:
    """A whole volume of 6 x 5 x 4 voxels of 2 mm."""
    voxels = np.random.default_rng(1).integers(-1000, 500, (4, 5, 6)).astype(np.int16)
    return {
        "voxels": voxels,
        "box_start": np.array([0, 0, 0], np.int32),
        "volume_shape": np.array([6, 5, 4], np.int32),
        "volume_affine": np.diag([2.0, 2.0, 2.0, 1.0]),
        "nodule_center": np.array([5.0, 4.0, 3.0]),
    }


def affine(row: int, column: int, value: float) -> Array:
    changed = np.diag([2.0, 2.0, 2.0, 1.0])
    changed[row, column] = value
    return changed


def axes(*columns: tuple[float, float, float]) -> Array:
    changed = np.eye(4)
    changed[:3, :3] = np.array(columns).T
    return changed


def not_finite() -> Iterator[tuple[str, Request]]:
    """NaN and infinity in every place of every field that can hold them."""
    for value in (np.nan, np.inf, -np.inf):
        for row, column in np.ndindex(4, 4):
            yield "AFFINE_NOT_FINITE", {"volume_affine": affine(row, column, value)}
        for place in range(3):
            for code, field in (
                ("CENTER_NOT_FINITE", "nodule_center"),
                ("BOX_OUTSIDE", "box_start"),
                ("VOLUME_SHAPE_INVALID", "volume_shape"),
            ):
                array = good()[field].astype(float)
                array[place] = value
                yield code, {field: array}


WRONG: list[tuple[str, Request]] = [
    ("AXES_NOT_THREE", {"voxels": np.zeros((5, 6), np.int16)}),
    ("AXES_NOT_THREE", {"voxels": np.zeros((1, 4, 5, 6), np.int16)}),
    ("AXES_NOT_THREE", {"voxels": np.zeros((), np.int16)}),
    ("AXES_NOT_THREE", {"voxels": np.zeros((0, 5, 6), np.int16)}),
    ("AXES_NOT_THREE", {"voxels": np.zeros((4, 5, 0), np.int16)}),
    ("VOLUME_SHAPE_INVALID", {"volume_shape": np.array([0, 5, 4], np.int32)}),
    ("VOLUME_SHAPE_INVALID", {"volume_shape": np.array([6, 5, INT32_LOW], np.int32)}),
    ("VOLUME_SHAPE_INVALID", {"volume_shape": np.array([6, 5], np.int32)}),
    ("VOLUME_SHAPE_INVALID", {"volume_shape": np.array([[6, 5, 4]], np.int32)}),
    ("AFFINE_NOT_FINITE", {"volume_affine": affine(0, 0, 1e39)}),  # finite, but not in float32
    ("AFFINE_NOT_AFFINE", {"volume_affine": np.eye(3)}),
    ("AFFINE_NOT_AFFINE", {"volume_affine": np.eye(4)[:3]}),
    ("AFFINE_NOT_AFFINE", {"volume_affine": np.eye(4).ravel()}),
    ("AFFINE_NOT_AFFINE", {"volume_affine": affine(3, 0, 1e-3)}),
    ("AFFINE_NOT_AFFINE", {"volume_affine": affine(3, 3, 0.0)}),
    ("AFFINE_NOT_AFFINE", {"volume_affine": affine(0, 3, 7.0).T}),  # the translation in the last row
    ("AFFINE_SINGULAR", {"volume_affine": affine(1, 1, 0.0)}),
    ("AFFINE_SINGULAR", {"volume_affine": np.diag([0.0, 0.0, 0.0, 1.0])}),
    ("AFFINE_SINGULAR", {"volume_affine": axes((1, 0, 0), (1, 0, 0), (0, 0, 1))}),
    ("AFFINE_SINGULAR", {"volume_affine": axes((1, 0, 0), (0, 1, 0), (1, 1, 0))}),
    ("AFFINE_SINGULAR", {"volume_affine": axes((1, 2, 3), (4, 5, 6), (7, 8, 9))}),
    ("AFFINE_SINGULAR", {"volume_affine": affine(2, 2, 1e-44)}),
    ("VOXEL_TOO_LARGE", {"volume_affine": affine(0, 0, 10.01)}),
    ("VOXEL_TOO_LARGE", {"volume_affine": affine(2, 2, -10.01)}),
    ("VOXEL_TOO_LARGE", {"volume_affine": axes((8, 8, 0), (-1, 1, 0), (0, 0, 1))}),
    ("VOXEL_TOO_LARGE", {"volume_affine": affine(1, 1, 3e38)}),
    ("CENTER_NOT_FINITE", {"nodule_center": np.array([5.0, 4.0])}),
    ("CENTER_NOT_FINITE", {"nodule_center": np.array(5.0)}),
    ("CENTER_NOT_FINITE", {"nodule_center": np.array([[5.0, 4.0, 3.0]])}),
    ("CENTER_OUTSIDE", {"nodule_center": np.array([-1.001, 4.0, 3.0])}),
    ("CENTER_OUTSIDE", {"nodule_center": np.array([11.001, 4.0, 3.0])}),
    ("CENTER_OUTSIDE", {"nodule_center": np.array([5.0, 4.0, 7.001])}),
    ("CENTER_OUTSIDE", {"nodule_center": np.array([-5.0, -4.0, 3.0])}),  # RAS
    ("CENTER_OUTSIDE", {"nodule_center": np.array([1e300, 4.0, 3.0])}),
    ("CENTER_OUTSIDE", {"nodule_center": np.array([1e308, -1e308, 1e308])}),
    (
        "CENTER_OUTSIDE",  # where an infinity less an infinity is no number, greater than nothing
        {"volume_affine": axes((0.1, 0.1, 0), (0.1, -0.1, 0), (0, 0, 1)), "nodule_center": np.full(3, 1.7e308)},
    ),
    ("BOX_OUTSIDE", {"box_start": np.array([-1, 0, 0], np.int32)}),
    ("BOX_OUTSIDE", {"box_start": np.array([0, 0, 1], np.int32)}),
    ("BOX_OUTSIDE", {"box_start": np.array([INT32_LOW] * 3, np.int32)}),
    ("BOX_OUTSIDE", {"box_start": np.array([INT32_HIGH] * 3, np.int32)}),
    ("BOX_OUTSIDE", {"voxels": np.zeros((4, 5, 7), np.int16)}),
    ("BOX_OUTSIDE", {"box_start": np.array([0, 0], np.int32)}),
    ("BOX_OUTSIDE", {"box_start": np.array(0, np.int32)}),
    ("BOX_OUTSIDE", {"box_start": np.array([-0.5, 0, 0])}),
    ("BOX_TOO_SMALL", {"voxels": np.zeros((4, 5, 5), np.int16)}),
    ("BOX_TOO_SMALL", {"voxels": np.zeros((4, 5, 5), np.int16), "box_start": np.array([1, 0, 0], np.int32)}),
    ("BOX_TOO_SMALL", {"voxels": np.zeros((3, 5, 6), np.int16)}),
    ("BOX_TOO_SMALL", {"voxels": np.zeros((1, 1, 1), np.int16)}),
    ("BOX_TOO_SMALL", {"volume_shape": np.array([INT32_HIGH] * 3, np.int32)}),
    (
        "BOX_TOO_SMALL",
        {"volume_shape": np.array([INT32_HIGH] * 3, np.int32), "nodule_center": np.full(3, 2.0 * (INT32_HIGH - 1))},
    ),
]


def refusal(changes: Request) -> BadRequest:
    with warnings.catch_warnings(), pytest.raises(BadRequest) as caught:
        warnings.simplefilter("error")  # a warning would end up in the server's log
        views_of_request(**good() | changes)
    return caught.value


@pytest.mark.parametrize(("code", "changes"), WRONG, ids=[f"{n}-{code}" for n, (code, _) in enumerate(WRONG)])
def test_refused(code: str, changes: Request) -> None:
    error = refusal(changes)
    assert error.code == code, error
    assert error.mend == MENDS[code]
    assert error.what.endswith(".") and len(error.what) > 20


def test_nan_and_infinity_are_refused_in_every_place_of_every_field() -> None:
    tried = list(not_finite())
    assert len(tried) == 3 * (16 + 9)
    assert [refusal(changes).code for _, changes in tried] == [code for code, _ in tried]


def test_every_code_of_the_table_is_reached() -> None:
    assert {code for code, _ in WRONG} == set(MENDS)


def test_the_good_request_is_not_refused() -> None:
    request = good()
    views = views_of_request(**request)
    cube = plain.cube_of(request["voxels"], request["volume_affine"], request["nodule_center"])
    np.testing.assert_allclose(views, plain.views_of(cube), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- the text of a refusal


@pytest.mark.parametrize(
    "prefix", ["", "in ensemble 'nodule_score', ", "[StatusCode.INTERNAL] ", "[request id: 7-3] in ensemble 'x', "]
)
@pytest.mark.parametrize("code", MENDS)
def test_a_refusal_is_found_again_in_a_server_s_message(code: str, prefix: str) -> None:
    error = BadRequest(code, "The shape is [1, 2] [X] y.")
    assert parse_refusal(f"{prefix}{error}") == (code, f"The shape is [1, 2] [X] y. Mend: {MENDS[code]}")


@pytest.mark.parametrize("message", ["", "socket closed", "[request id: 1] failed", "[ab] x", "VOXEL_TOO_LARGE"])
def test_other_messages_hold_no_refusal(message: str) -> None:
    assert parse_refusal(message) is None


def test_the_sentence_of_a_small_box_names_the_voxels_needed() -> None:
    error = refusal({"voxels": np.zeros((3, 2, 5), np.int16), "box_start": np.array([1, 2, 0], np.int32)})
    assert "The box is x 1..5, y 2..3, z 0..2;" in error.what
    assert "needs x 0..5, y 0..4, z 0..3." in error.what


# ---------------------------------------------------------------- nothing good is refused


def accepted(affine: Array, shape: tuple[int, int, int], center: Any) -> None:
    """Not refused, with or without more than the voxels needed, and right."""
    volume = np.random.default_rng(2).integers(-1000, 500, shape[::-1]).astype(np.int16)
    expected = plain.views_of(plain.cube_of(volume, affine, center))
    box = required_box(VolumeGeometry(shape, affine), center)
    for voxels, start in ((volume, (0, 0, 0)), (volume[box.slices].copy(), box.start)):
        views = views_of_request(voxels, start, shape, affine, center)
        np.testing.assert_allclose(views, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 40, 1), (1, 40, 40), (40, 1, 40), (300, 1, 1)])
def test_volumes_of_one_slice(shape: tuple[int, int, int]) -> None:
    accepted(np.diag([0.75, 0.5, 2.5, 1.0]), shape, [0.25, 0.125, 0.5])


@pytest.mark.parametrize("corner", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1)])
def test_centres_exactly_at_the_border(corner: tuple[int, int, int]) -> None:
    shape = (12, 20, 7)
    voxel = [n - 0.5 if far else -0.5 for n, far in zip(shape, corner, strict=True)]
    accepted(np.diag([0.75, 0.5, 2.5, 1.0]), shape, np.array([0.75, 0.5, 2.5]) * voxel)


def turned(angle: float) -> Array:
    """Voxels of 10 mm, turned about x and z. Rounding makes some of their edges 10.0000002 mm long."""
    cos, sin = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = 10 * np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine[:3, :3] @= np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return affine


def test_voxels_of_exactly_10_mm_may_lie_any_way() -> None:
    for angle in np.linspace(0, np.pi, 50):
        VolumeGeometry((6, 5, 4), turned(angle))
    accepted(turned(2.0), (6, 5, 4), (turned(2.0) @ (2.3, 2.2, 1.9, 1))[:3])


def test_extreme_hounsfield_units() -> None:
    request = good()
    request["voxels"][:] = np.resize(np.array([-32768, 32767], np.int16), (4, 5, 6))
    views = views_of_request(**request)
    assert np.isfinite(views).all()
    assert views[:3].min() == 0 and views[:3].max() == 1


def test_a_huge_volume_costs_no_memory() -> None:
    """2**31 - 1 voxels along each axis: only what is sent is touched, refused or not."""
    shape, box = np.array([INT32_HIGH] * 3, np.int32), np.zeros((110, 110, 110), np.int16)
    center = np.array([2e9, 1e9, 5.0])
    start = np.array([2e9 - 55, 1e9 - 55, 0], np.int32)
    tracemalloc.start()
    try:
        views = views_of_request(box, start, shape, np.eye(4), center)
        assert refusal({"volume_shape": shape}).code == "BOX_TOO_SMALL"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert views.shape == (9, 50, 50)
    assert peak < 100e6
