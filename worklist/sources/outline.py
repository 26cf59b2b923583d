"""What closed outlines enclose: areas by the even-odd rule (one within another is a hole), stacked to a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_PLANE_MM = 0.05
FLAT_MM = 0.5  # how far a point may lie off the plane of its outline
_SLIVER_MM2 = 1.0  # rounding may turn the normal of a smaller outline anywhere
_GAP = 1.5  # a distance between planes longer than this many usual ones is no thickness but a gap
_MOST_CROSSINGS = 2_000_000  # numbers held at a time


@dataclass(frozen=True)
class Enclosed:
    """What outlines enclose.

    Attributes:
        center: centroid, LPS millimetres.
        diameter_mm: of the sphere of the same volume, or of the circle of the same area in case of one plane.
    """

    center: tuple[float, float, float]
    diameter_mm: float


def enclosed(outlines: Sequence[NDArray[np.float64]]) -> Enclosed | None:
    """What closed planar outlines [n, 3] in LPS millimetres enclose; None where they enclose nothing.

    All lie in parallel planes. Each plane counts with its area times its thickness: half the way to the plane
    above and to the one below.

    Raises:
        ValueError: an outline that is not flat, or planes that are not parallel.
    """
    vectors = [_area_vector(points) for points in outlines]
    areas = [float(np.linalg.norm(vector)) for vector in vectors]
    if not outlines or not np.isfinite(areas).all() or max(areas) <= 1e-6:
        return None
    normal = vectors[int(np.argmax(areas))] / max(areas)
    solid = [(points, v / a) for points, v, a in zip(outlines, vectors, areas, strict=True) if a > 1e-6]
    turned = abs(np.array([direction for _, direction in solid]) @ normal) < math.cos(math.radians(2))
    if (turned & (np.array([a for a in areas if a > 1e-6]) > _SLIVER_MM2)).any():
        raise ValueError("outlines in planes that are not parallel")
    along_u = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    along_u /= np.linalg.norm(along_u)
    basis = np.stack([along_u, np.cross(normal, along_u), normal])
    origin = outlines[int(np.argmax(areas))].mean(axis=0)
    flat = [(points - origin) @ basis.T for points, _ in solid]
    if any(np.ptp(points[:, 2]) > 2 * FLAT_MM for points in flat):
        raise ValueError("an outline that is not flat")
    return _stacked(flat, basis, origin)


def _stacked(
    flat: list[NDArray[np.float64]], basis: NDArray[np.float64], origin: NDArray[np.float64]
) -> Enclosed | None:
    flat = sorted(flat, key=lambda points: float(points[:, 2].mean()))
    heights = np.array([points[:, 2].mean() for points in flat])
    groups = np.split(np.arange(len(flat)), np.flatnonzero(np.diff(heights) > SAME_PLANE_MM) + 1)
    at = np.array([heights[group].mean() for group in groups])
    moments = np.array([_even_odd([flat[i][:, :2] for i in group]) for group in groups])
    weights = moments[:, 0] * thickness(at)
    if weights.sum() <= 0:
        return None
    held = moments[:, 0] > 0
    middle = np.zeros((len(at), 3))
    middle[held, :2] = moments[held, 1:] / moments[held, :1]
    middle[:, 2] = at
    center = origin + (weights @ middle / weights.sum()) @ basis
    if len(at) > 1:
        diameter = (6 * float(weights.sum()) / math.pi) ** (1 / 3)
    else:
        diameter = 2 * math.sqrt(float(moments[0, 0]) / math.pi)
    x, y, z = center.tolist()
    return Enclosed((x, y, z), diameter)


def thickness(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of planes at increasing heights: half the way to either neighbour, a gap counting as a usual distance."""
    if len(at) < 2:
        return np.ones(len(at))
    gaps = np.diff(at)
    usual = float(np.median(gaps))
    gaps = np.where(gaps > _GAP * usual, usual, gaps)
    return (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2


def _area_vector(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area times normal of a closed outline [n, 3]."""
    shifted = points - points[:1]
    return np.cross(shifted, np.roll(shifted, -1, axis=0)).sum(axis=0) / 2


def _even_odd(polygons: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Area, and area times centroid, of the points inside an odd number of closed polygons [n, 2].

    Between the heights of two vertices the inside is bounded by straight edges: two lines of Gauss and Legendre
    give the integrals exactly (but for strips in which edges cross).
    """
    start = np.concatenate(polygons)
    end = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    levels = np.unique(start[:, 1])
    if len(levels) < 2:
        return 0.0, 0.0, 0.0
    half = np.diff(levels) / 2
    nodes = np.concatenate([levels[:-1] + half * (1 - 3**-0.5), levels[:-1] + half * (1 + 3**-0.5)])
    weights = np.concatenate([half, half])
    total = np.zeros(3)
    step = max(1, _MOST_CROSSINGS // len(start))
    for first in range(0, len(nodes), step):
        y, weight = nodes[first : first + step], weights[first : first + step]
        left, right, inside = _crossings(start, end, y)
        width = np.where(inside, right - left, 0.0)
        total[0] += float(weight @ width.sum(axis=1))
        total[1] += float(weight @ (width * np.where(inside, left + right, 0.0) / 2).sum(axis=1))
        total[2] += float((weight * y) @ width.sum(axis=1))
    area, moment_u, moment_v = total.tolist()
    return area, moment_u, moment_v


def _crossings(
    start: NDArray[np.float64], end: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Where lines enter and leave the inside: for each line y, pairs of u and whether there is such a pair."""
    (u0, v0), (u1, v1) = start.T, end.T
    crossed = (np.minimum(v0, v1) <= y[:, None]) & (y[:, None] < np.maximum(v0, v1))
    rise = np.where(v1 == v0, 1.0, v1 - v0)
    u = np.where(crossed, u0 + (y[:, None] - v0) * (u1 - u0) / rise, np.inf)
    u = np.sort(u, axis=1)[:, : int(crossed.sum(axis=1).max(initial=0))]
    inside = np.isfinite(u[:, 1::2])
    return np.where(inside, u[:, 0::2][:, : inside.shape[1]], 0.0), np.where(inside, u[:, 1::2], 0.0), inside
