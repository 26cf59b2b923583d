"""A synthetic chest CT with five lung nodules of known place, size and kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.demo import phantom_chest as anatomy
from noduleserve.demo.phantom_canvas import Array, Grid, Mottle, Point, fill, join, oval, tube
from noduleserve.demo.phantom_dicom import write_dicom, write_worklist

__all__ = ["Phantom", "PhantomNodule", "make_phantom", "write_dicom", "write_worklist"]

SOLID, GROUND_GLASS = 35.0, -610.0

# A patient never lies with the middle of the chest at the scanner's origin; readers must not assume it.
CHEST_MIDDLE_LPS = np.array([4.5, -21.0, -186.0])


@dataclass(frozen=True)
class PhantomNodule:
    """One nodule: its identity, kind, centre (x, y, z) in LPS mm, diameter in mm, and a sentence about it."""

    nodule_id: str
    kind: str
    center_lps: Point
    diameter_mm: float
    description: str


@dataclass(frozen=True)
class Phantom:
    """A chest CT and the nodules in it.

    voxels: int16 [z, y, x], Hounsfield units.
    affine: float64 [4, 4], voxel index (x, y, z, 1) to patient LPS mm.
    """

    voxels: NDArray[np.int16]
    affine: NDArray[np.float64]
    nodules: tuple[PhantomNodule, ...]


def make_phantom(
    seed: int = 7,
    shape_xyz: tuple[int, int, int] = (384, 288, 120),
    spacing_xyz: Point = (0.9, 0.9, 2.0),
) -> Phantom:
    """Draw the chest of one imaginary patient; the seed decides vessels, texture, noise and nodules.

    The anatomy keeps its size in mm whatever the sampling: a coarser grid over the same field shows the same
    patient. A field too small to hold the nodules raises ValueError.
    """
    grid = Grid.centred(shape_xyz, spacing_xyz)
    placing, texture, growing, drawing, noise = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(5)
    )
    lesions = [_place(finding, placing) for finding in _FINDINGS]
    _require_inside(grid, lesions)

    hu = anatomy.chest(grid, texture)
    # Vessels run past solid nodules; through ground glass too, but not through its middle, which stays pure.
    free = [(n.centre, 4.5 if n.kind == "ground_glass" else n.radius + 1.0) for n in lesions]
    anatomy.great_vessels(hu, grid)
    anatomy.lung_vessels(hu, grid, growing, free)
    anatomy.airways(hu, grid, growing, free)
    for lesion in lesions:
        _DRAW[lesion.kind](hu, grid, drawing, lesion)
    anatomy.add_noise(hu, noise)

    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    nodules = tuple(_describe(lesion, number) for number, lesion in enumerate(lesions, start=1))
    return Phantom(voxels, grid.affine(CHEST_MIDDLE_LPS), nodules)


# --------------------------------------------------------------------------------------------------
# Where the nodules are
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lesion:
    """A nodule as it is drawn: centre [3] and radius in mm around the middle of the chest."""

    kind: str
    centre: Array
    radius: float
    description: str


# kind, anchor around the middle of the chest (mm), usual diameter (mm), description
_FINDINGS: tuple[tuple[str, Point, float, str], ...] = (
    ("solid", (-92.0, -32.0, -12.0), 9.0, "Round solid nodule with a smooth margin, right middle lobe"),
    ("spiculated", (-66.0, 8.0, 52.0), 17.0, "Solid nodule with a spiculated margin, right upper lobe"),
    ("part_solid", (76.0, -22.0, 38.0), 21.0, "Ground-glass nodule with a solid core, left upper lobe"),
    ("ground_glass", (88.0, 28.0, -22.0), 16.0, "Pure ground-glass nodule, left lower lobe"),
    ("juxtapleural", (-84.0, 30.0, -34.0), 13.0, "Solid nodule on the costal pleura, right lower lobe"),
)
_TOWARD_PLEURA = np.array([-0.88, 0.47, 0.0])


def _place(finding: tuple[str, Point, float, str], rng: np.random.Generator) -> _Lesion:
    kind, anchor, usual_mm, description = finding
    centre = np.array(anchor) + rng.uniform(-4.0, 4.0, 3)
    radius = round(usual_mm * rng.uniform(0.92, 1.08), 1) / 2
    if kind == "juxtapleural":
        centre = _pleura_from(centre) - 0.45 * radius * _TOWARD_PLEURA
    return _Lesion(kind, np.round(centre, 2), radius, description)


def _pleura_from(start: Array) -> Array:
    """Walk from a point inside the lung outward, until the costal pleura."""
    steps = start + np.arange(0.0, 120.0, 0.25)[:, None] * _TOWARD_PLEURA
    return steps[int(np.argmax(anatomy.lung(*steps.T) > 0.0))]


def _require_inside(grid: Grid, lesions: list[_Lesion]) -> None:
    half = (np.array(grid.shape_zyx[::-1]) - 1) / 2 * np.array(grid.spacing)
    for lesion in lesions:
        if (np.abs(lesion.centre) + lesion.radius > half).any():
            raise ValueError(
                f"a field of {2 * half} mm (x, y, z) does not hold the {lesion.kind} nodule "
                f"at {lesion.centre} mm from its middle; take more voxels or a larger spacing"
            )


def _describe(lesion: _Lesion, number: int) -> PhantomNodule:
    x, y, z = (round(float(v), 2) for v in lesion.centre + CHEST_MIDDLE_LPS)
    return PhantomNodule(f"N{number}", lesion.kind, (x, y, z), 2 * lesion.radius, lesion.description)


# --------------------------------------------------------------------------------------------------
# What the nodules look like
# --------------------------------------------------------------------------------------------------


def _draw_solid(hu: Array, grid: Grid, rng: np.random.Generator, lesion: _Lesion) -> None:
    index, g = _around(grid, lesion, 3.0)
    fill(hu[index], _lobed(g, lesion.centre, lesion.radius, rng, depth=0.09), SOLID)


def _draw_spiculated(hu: Array, grid: Grid, rng: np.random.Generator, lesion: _Lesion) -> None:
    index, g = _around(grid, lesion, 8.0)
    mass = _lobed(g, lesion.centre, 0.8 * lesion.radius, rng, depth=0.5)
    _veil(hu[index], mass - 2.0, -700.0, softness=7.0)
    fill(hu[index], mass, SOLID)
    for direction in _all_round(52, rng):
        # Spikes grow from within the mass, so that none floats before a dent in its surface.
        reach = lesion.radius * rng.uniform(1.05, 1.9)
        bent = direction + rng.normal(0.0, 0.12, 3)
        points = lesion.centre + lesion.radius * np.outer([0.5, 0.0], direction)
        points[1] = lesion.centre + reach * bent / np.linalg.norm(bent)
        tube(hu, grid, points, (1.6, 0.3), SOLID - 15.0)


def _draw_part_solid(hu: Array, grid: Grid, rng: np.random.Generator, lesion: _Lesion) -> None:
    index, g = _around(grid, lesion, 6.0)
    part = hu[index]
    halo = _lobed(g, lesion.centre, lesion.radius, rng, depth=0.4)
    _veil(part, halo, GROUND_GLASS + 55.0 * Mottle(rng, g, scale_mm=2.5)(g), softness=3.0)
    core = _lobed(g, lesion.centre + rng.uniform(-1.0, 1.0, 3), 0.45 * lesion.radius, rng, depth=0.22)
    fill(part, core, SOLID - 10.0, softness=2.2)


def _draw_ground_glass(hu: Array, grid: Grid, rng: np.random.Generator, lesion: _Lesion) -> None:
    index, g = _around(grid, lesion, 6.0)
    cloud = _lobed(g, lesion.centre, lesion.radius, rng, depth=0.4)
    _veil(hu[index], cloud, GROUND_GLASS + 50.0 * Mottle(rng, g, scale_mm=2.5)(g), softness=3.0)


def _draw_juxtapleural(hu: Array, grid: Grid, rng: np.random.Generator, lesion: _Lesion) -> None:
    index, g = _around(grid, lesion, 10.0)
    lung = anatomy.lung(g.x, g.y, g.z)
    # It meets the chest wall at an obtuse angle; what lies behind the pleura stays as it is.
    seated = join(_lobed(g, lesion.centre, lesion.radius, rng, depth=0.06), -lung, 6.0)
    fill(hu[index], np.maximum(seated, lung - 1.0), SOLID)


_DRAW: dict[str, Callable[[Array, Grid, np.random.Generator, _Lesion], None]] = {
    "solid": _draw_solid,
    "spiculated": _draw_spiculated,
    "part_solid": _draw_part_solid,
    "ground_glass": _draw_ground_glass,
    "juxtapleural": _draw_juxtapleural,
}


def _around(grid: Grid, lesion: _Lesion, margin_mm: float) -> tuple[tuple[slice, slice, slice], Grid]:
    reach = 1.4 * lesion.radius + margin_mm
    return grid.around(lesion.centre - reach, lesion.centre + reach)


def _lobed(g: Grid, centre: Array, radius: float, rng: np.random.Generator, depth: float) -> Array:
    """A sphere with bosses and dents: `depth` is how far its surface strays, as a fraction of the radius."""
    x, y, z = g.x - np.float32(centre[0]), g.y - np.float32(centre[1]), g.z - np.float32(centre[2])
    distance = oval((x, radius), (y, radius), (z, radius))
    away = distance + radius + 1e-3
    for direction in _all_round(14, rng):
        a, b, c = direction.tolist()
        facing = np.maximum((a * x + b * y + c * z) / away, 0.0)
        distance = distance - radius * depth * rng.uniform(-1.0, 1.0) * facing**5
    return distance


def _veil(hu: Array, distance: Array, value: Array | float, softness: float) -> None:
    """Fill with something that lets denser things, such as vessels, show through."""
    fill(hu, distance, np.maximum(hu, value), softness)


def _all_round(count: int, rng: np.random.Generator) -> Array:
    """Unit vectors [count, 3] spread evenly over the sphere on a golden spiral, each jolted a little."""
    k = np.arange(count) + 0.5
    height, turn = 1.0 - 2.0 * k / count, np.pi * (1.0 + 5.0**0.5) * k + rng.uniform(0.0, 2.0 * np.pi)
    wide = np.sqrt(1.0 - height**2)
    spread = np.stack([wide * np.cos(turn), wide * np.sin(turn), height], axis=1) + rng.normal(0.0, 0.15, (count, 3))
    return spread / np.linalg.norm(spread, axis=1, keepdims=True)
