"""Views drawn from a native 2-D crop: as they are, or varied the way one nodule varies from scan to scan.

Where a varied view takes its values is settled first (rotation, flips, jitter of the centre, slices of another plane);
then the native crop is resampled once. Nothing is resampled twice, so a varied view is as sharp as a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.preprocessing.views import VIEW, window

_CENTER = VIEW // 2  # index of the view's row and column where the nodule's centre lies
_FINE = 2  # samples a millimetre that the thickness of a slice is averaged over
_NARROWEST = 0.05  # mm; slices closer than this are no slices


@dataclass(frozen=True)
class Variation:
    """How far views are varied.

    Attributes:
        degrees: rotation within the plane, up to this either way; 180: any.
        jitter_mm: distance of the view's centre from the nodule's, at most.
        noise_hu: standard deviation of added noise, at most.
        gamma: of the windowed values, from exp(-gamma) to exp(gamma).
        shift_hu: added to every value, up to this either way.
        flips: whether rows, columns and the two axes are exchanged at random.
        plane: share of views that are made to look like a plane across the slices.
        slice_mm: thickness of those slices, from and to.
        stretch: of those views along the slices' normal, from exp(-stretch) to exp(stretch): a nodule is no ball.
        fewest, most: number of views of a nodule.
        orientations: of a crop's view that is not varied: 1, as it is; 8, mirrored and turned by quarters as well, so
            that figures are of several views, as serving's are.
    """

    degrees: float = 20.0
    jitter_mm: float = 5.0
    noise_hu: float = 40.0
    gamma: float = 0.15
    shift_hu: float = 20.0
    flips: bool = True
    plane: float = 0.5
    slice_mm: tuple[float, float] = (0.6, 3.5)
    stretch: float = 0.2
    fewest: int = 1
    most: int = 3
    orientations: int = 1

    def number_of_views(self, rng: np.random.Generator) -> int:
        """How many views of a nodule are to be drawn."""
        return int(rng.integers(self.fewest, self.most + 1))


@dataclass(frozen=True)
class Pose:
    """Where a view's values lie in the crop.

    Attributes:
        turn: (row, column) steps of the view, in its pixels of 1 mm, to (row, column) millimetres in the crop, [2, 2].
        center_mm: (row, column) of the view's centre from the crop's.
        slice_mm: distance of the slices that the view's rows cross, or 0 where it lies within a slice.
        phase: place of the first slice between two, 0..1.
    """

    turn: NDArray[np.float64]
    center_mm: tuple[float, float] = (0.0, 0.0)
    slice_mm: float = 0.0
    phase: float = 0.0


PLAIN = Pose(np.eye(2))
# All ways to lay a square on itself, as it is first.
ORIENTATIONS = tuple(
    Pose(np.diag([down, right])[order]) for order in ([0, 1], [1, 0]) for down in (1.0, -1.0) for right in (1.0, -1.0)
)


def resample(hu: NDArray[np.int16], spacing: float, pose: Pose = PLAIN) -> NDArray[np.float32]:
    """A 50 x 50 view of 1-mm pixels out of a native crop, in Hounsfield units.

    Values are bilinear, as serving's are trilinear. Beyond its border the crop is mirrored. Rows and columns stay what
    they are in the crop.

    Args:
        hu: int16 [rows, columns], the nodule's centre at index (rows // 2, columns // 2).
        spacing: millimetres from row to row and from column to column.
        pose: where the view lies.

    Returns:
        float32 [50, 50], the centre at index (25, 25).
    """
    from scipy.ndimage import map_coordinates

    steps = np.arange(VIEW) - float(_CENTER)
    rows, mix = (steps, None) if pose.slice_mm < _NARROWEST else _slices(steps, pose)
    grid = np.stack(np.meshgrid(rows, steps, indexing="ij"))  # [2, rows, columns], steps of the view
    place = np.tensordot(pose.turn, grid, axes=1) + np.reshape(pose.center_mm, (2, 1, 1))
    middle = np.array(hu.shape)[:, None, None] // 2
    values = map_coordinates(hu.astype(np.float32), place / spacing + middle, order=1, mode="mirror")
    if mix is None:
        return np.asarray(values, np.float32)
    # Not by BLAS: waking its threads for so small a product costs more than the product.
    return np.einsum("rf,fc->rc", mix, values)


def plain_view(hu: NDArray[np.int16], spacing: float, pose: Pose = PLAIN) -> NDArray[np.float32]:
    """The view of a crop as serving's axial view has it: float32 [50, 50], 0..1."""
    return window(resample(hu, spacing, pose))


def varied_view(
    hu: NDArray[np.int16], spacing: float, variation: Variation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A view of a crop, varied at random: float32 [50, 50], 0..1."""
    return vary_values(resample(hu, spacing, draw_pose(variation, rng)), variation, rng)


def draw_pose(variation: Variation, rng: np.random.Generator) -> Pose:
    """Draw where a view lies: rotated, flipped, off the centre, and for some views across the slices."""
    turn = _rotation(np.deg2rad(rng.uniform(-variation.degrees, variation.degrees)))
    across = rng.random() < variation.plane
    thickness = rng.uniform(*variation.slice_mm) if across else 0.0
    if across:  # the axis that rows cross need not be the crop's rows: any direction in the body will do
        turn = (
            turn @ _rotation(rng.uniform(0, 2 * np.pi)) @ np.diag([np.exp(-rng.uniform(-1, 1) * variation.stretch), 1])
        )
    if variation.flips:
        turn = turn @ np.diag(rng.choice([-1.0, 1.0], size=2))
        if rng.random() < 0.5:
            turn = turn[::-1]
    radius, direction = variation.jitter_mm * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    center = (radius * np.cos(direction), radius * np.sin(direction))
    return Pose(turn, center, thickness, rng.random())


def vary_values(hu: NDArray[np.float32], variation: Variation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add noise and a shift to Hounsfield units, window them, and bend the result by a gamma; any shape, 0..1."""
    noise = rng.standard_normal(hu.shape, np.float32) * np.float32(rng.uniform(0, variation.noise_hu))
    values = window(hu + noise + np.float32(rng.uniform(-variation.shift_hu, variation.shift_hu)))
    bent: NDArray[np.float32] = values ** np.float32(np.exp(rng.uniform(-variation.gamma, variation.gamma)))
    return bent


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _slices(steps: NDArray[np.float64], pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Rows to sample finely, and how they mix into rows that lie between slices.

    A slice is the mean over its thickness; a row between two slices is their linear mix, as in serving's cube.

    Returns:
        Places of the fine rows, [fine], in steps; weights, [50, fine].
    """
    thickness = pose.slice_mm
    first = steps[0] - (1 + pose.phase) * thickness
    places = first + thickness * np.arange(int(np.ceil((steps[-1] - first) / thickness)) + 2)
    fine = np.arange(places[0] - thickness / 2, places[-1] + thickness / 2 + 1 / _FINE, 1 / _FINE)
    within = np.abs(fine[None] - places[:, None]) <= thickness / 2
    within[np.arange(len(places)), np.abs(fine[None] - places[:, None]).argmin(axis=1)] = True
    of_slice = within / within.sum(axis=1, keepdims=True)  # [slices, fine]
    between = np.maximum(0, 1 - np.abs(steps[:, None] - places[None]) / thickness)  # [50, slices]
    return fine, np.asarray(between @ of_slice, np.float32)
