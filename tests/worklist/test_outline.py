import numpy as np
import pytest
from numpy.typing import NDArray

from noduleserve.worklist.sources.outline import enclosed, thickness


def square(half: float, z: float, at: tuple[float, float] = (0, 0)) -> NDArray[np.float64]:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + at
    return np.column_stack([corners, np.full(4, z)])


def ring(radius: float, z: float) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(400, z)])


@pytest.mark.parametrize("turn", [np.eye(3), np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0, 0.8, 0.6]])])
def test_a_sphere_in_any_direction(turn: NDArray[np.float64]) -> None:
    center = np.array([12.0, -7, 30])
    heights = np.arange(-9.5, 10, 1.0)
    outlines = [ring(np.sqrt(100 - z**2), z) @ turn.T + center for z in heights]
    found = enclosed(outlines[::-1])
    assert found is not None
    np.testing.assert_allclose(found.center, center, atol=1e-6)
    assert found.diameter_mm == pytest.approx(20, abs=0.05)


def test_a_polygon_has_the_centroid_of_its_area_not_of_its_points() -> None:
    triangle = np.array([[0.0, 0, 5], [6, 0, 5], [6, 0, 5], [6, 1e-9, 5], [0, 3, 5]])
    found = enclosed([triangle])
    assert found is not None
    np.testing.assert_allclose(found.center, (2, 1, 5), atol=1e-6)
    assert found.diameter_mm == pytest.approx(2 * np.sqrt(9 / np.pi))  # of the circle of the same area


def test_a_contour_within_a_contour_is_a_hole_and_one_within_that_is_not() -> None:
    found = enclosed([square(4, 0), square(2, 0, (1, 0)), square(1, 0, (1, 0))])
    assert found is not None
    area = 64 - 16 + 4
    assert found.center[0] == pytest.approx((0 * 64 - 1 * 16 + 1 * 4) / area)
    assert found.diameter_mm == pytest.approx(2 * np.sqrt(area / np.pi))


def test_a_keyhole_and_two_overlapping_pieces() -> None:
    outer, inner = square(4, 0), square(2, 0)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    found = enclosed([keyhole])
    assert found is not None and found.diameter_mm == pytest.approx(2 * np.sqrt(48 / np.pi))
    overlapping = enclosed([square(2, 0), square(2, 0, (2, 2))])  # the overlap belongs to neither
    assert overlapping is not None and overlapping.diameter_mm == pytest.approx(2 * np.sqrt(24 / np.pi))


def test_planes_count_with_their_thickness() -> None:
    found = enclosed([square(1, z) for z in (0.0, 1.0, 2.0, 4.0, 6.0, 8.0)])
    assert found is not None
    weights = np.array([1, 1, 1.5, 2, 2, 2])
    assert found.center[2] == pytest.approx(weights @ (0, 1, 2, 4, 6, 8) / weights.sum())
    np.testing.assert_allclose(thickness(np.array([0.0, 1, 2, 30, 31])), 1)  # a gap is no thickness


def test_what_encloses_nothing() -> None:
    line = np.array([[0.0, 0, 0], [5, 0, 0], [0, 0, 0]])
    assert enclosed([]) is None
    assert enclosed([line]) is None
    assert enclosed([line[:1]]) is None
    assert enclosed([square(1, 0), line + np.array([0.0, 0, 1])]) is not None


def test_outlines_that_form_no_stack() -> None:
    with pytest.raises(ValueError, match="parallel"):
        enclosed([square(3, 0), square(2, 0)[:, [2, 0, 1]]])
    bent = square(3, 0)
    bent[0, 2] = 4
    with pytest.raises(ValueError, match="flat"):
        enclosed([bent])


def test_many_points_take_bounded_memory() -> None:
    angle = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    found = enclosed([np.column_stack([5 * np.cos(angle), 5 * np.sin(angle), np.zeros(3000)])])
    assert found is not None and found.diameter_mm == pytest.approx(10, abs=1e-3)
