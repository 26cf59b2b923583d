"""Three planes of the whole volume through a nodule, in the patient's own directions, with what is drawn on them.

Planes are read a slice at a time, and only the slices that they cross.  Where the voxel axes run along the patient's,
a pixel is a voxel; where they are oblique or sheared, a pixel is the voxel nearest to its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import Box, Lattice, VolumeGeometry
from noduleserve.preprocessing.box import HALF_CUBE
from noduleserve.preprocessing.views import VIEW

# Letters of the low and the high end of the patient's axes x, y, z (LPS).
ENDS = (("R", "L"), ("A", "P"), ("F", "H"))
# Of each plane: the patient axis that its columns run along, and that of its rows; z is shown from head to feet, so
# that R is on the left of the screen, A on top or on the left, H on top, as radiologists hang pictures.
LAYOUT: dict[str, tuple[int, int]] = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
_DOWNWARD = (1, 1, -1)  # the sign with which x, y, z grow to the right or down the screen
_FINEST = 700  # pixels along a side of a plane through an oblique volume, at most
_EDGE = 1e-6  # voxels; rounding error alone puts no point outside the volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rectangle:
    """A rectangle on the screen in millimetres: x to the right, y down.

    Each is the patient's coordinate (LPS) that the plane has along it, with the sign turned where that runs from head
    to feet.
    """

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The y of the lower edge."""
        return self.top + self.height


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through the nodule.

    Attributes:
        name: axial, coronal or sagittal.
        hu: Hounsfield units as they lie on the screen, int16 [rows, columns].
        known: which pixels lie in the volume and could be read, bool [rows, columns].
        picture: what the pixels cover, to their outer edges.
        cube, field: the outlines of the 100-mm cube and of the 50-mm field of the views.
        center: the nodule's centre on the screen, (x, y) in mm.
        left, right, top, bottom: letters of the patient's directions at the edges.
    """

    name: str
    hu: NDArray[np.int16]
    known: NDArray[np.bool_]
    picture: Rectangle
    cube: Rectangle
    field: Rectangle
    center: tuple[float, float]
    left: str
    right: str
    top: str
    bottom: str

    @property
    def canvas(self) -> Rectangle:
        """What is drawn: the picture, and the cube where it reaches beyond it."""
        left, top = min(self.picture.left, self.cube.left), min(self.picture.top, self.cube.top)
        right, bottom = max(self.picture.right, self.cube.right), max(self.picture.bottom, self.cube.bottom)
        return Rectangle(left, top, right - left, bottom - top)


def read_planes(
    volume: Volume, center: ArrayLike, progress: Progress = lambda done, of: None
) -> tuple[tuple[Plane, ...], SeriesError | None]:
    """Read the three planes through a nodule.

    Args:
        volume: opened.
        center: of the nodule, LPS millimetres (x, y, z); in the volume.
        progress: is called with the slices read so far and the slices to read.

    Returns:
        the planes in the order of LAYOUT, and the first error of a slice that could not be read, if there was one:
        its pixels are unknown.
    """
    point = np.asarray(center, np.float64)
    along = patient_grid(volume.geometry)
    places = [_voxels_of(volume.geometry, along, point, *axes) for axes in LAYOUT.values()]
    pictures = [np.zeros(index.shape[:2], np.int16) for index, _ in places]
    error = _read(volume, places, pictures, progress)
    planes = [
        _plane(volume.geometry, name, hu, known, along, point)
        for name, hu, (_, known) in zip(LAYOUT, pictures, places, strict=True)
    ]
    return tuple(planes), error


def axes_along_patient(geometry: VolumeGeometry) -> list[int] | None:
    """For patient axes x, y, z the voxel axis that runs along it; None where a plane of voxels is none of the patient.

    A plane of voxels counts as one where it strays less than half a voxel over the whole volume.
    """
    to_voxel = geometry.to_voxel[:3, :3]  # rows: voxel axes, columns: patient axes
    axis_of = np.abs(to_voxel).argmax(axis=0).tolist()
    if sorted(axis_of) != [0, 1, 2]:
        return None
    stray = np.abs(to_voxel) * np.ptp(geometry.corners(), axis=0)
    stray[axis_of, range(3)] = 0
    return axis_of if stray.sum(axis=1).max() < 0.5 else None


def patient_grid(geometry: VolumeGeometry) -> list[NDArray[np.float64]]:
    """Coordinates of the planes' pixels along the patient's axes x, y, z (LPS mm), each rising evenly.

    They are those of the voxels where the volume is aligned with the patient.
    """
    corners = geometry.corners()
    low, high = corners.min(axis=0), corners.max(axis=0)
    axis_of = axes_along_patient(geometry)
    if axis_of is None:
        step = max(float(geometry.spacing.min()), float((high - low).max()) / (_FINEST - 1))
        counts = (np.floor((high - low) / step) + 1).astype(int)
        return [low[axis] + step * np.arange(counts[axis]) for axis in range(3)]
    middle = (geometry.shape - 1) / 2
    grid = []
    for axis, voxel_axis in enumerate(axis_of):
        index = np.tile(middle, (int(geometry.shape[voxel_axis]), 1))
        index[:, voxel_axis] = np.arange(geometry.shape[voxel_axis])
        grid.append(np.sort(index @ geometry.affine[axis, :3] + geometry.affine[axis, 3]))
    return grid


def _voxels_of(
    geometry: VolumeGeometry, along: Sequence[NDArray[np.float64]], center: NDArray[np.float64], across: int, down: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The voxel of each pixel of a plane, [rows, columns, 3] (x, y, z), and which of them the volume has."""
    columns, rows = (along[axis][:: _DOWNWARD[axis]] for axis in (across, down))
    points = np.tile(center, (len(rows), len(columns), 1))
    points[..., across], points[..., down] = columns[None, :], rows[:, None]
    voxel = geometry.voxel_of(points)
    known = ((voxel >= -0.5 - _EDGE) & (voxel <= geometry.shape - 0.5 + _EDGE)).all(axis=-1)
    return np.clip(np.floor(voxel + 0.5).astype(np.int64), 0, geometry.shape - 1), known


def _read(
    volume: Volume,
    places: Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]],
    pictures: Sequence[NDArray[np.int16]],
    progress: Progress,
) -> SeriesError | None:
    """Fill the pictures, each slice being read once for all of them, and mark as unknown what cannot be read."""
    wanted = [_by_slice(index, known) for index, known in places]
    slices = sorted(set().union(*wanted))
    first_error: SeriesError | None = None
    for done, z in enumerate(slices):
        progress(done, len(slices))
        pixels = [(number, by_slice[z]) for number, by_slice in enumerate(wanted) if z in by_slice]
        columns_rows = np.concatenate([places[number][0].reshape(-1, 3)[flat, :2] for number, flat in pixels])
        (x0, y0), (x1, y1) = columns_rows.min(axis=0), columns_rows.max(axis=0) + 1
        try:
            voxels = volume.read_box(Box(np.array([x0, y0, z]), np.array([x1, y1, z + 1])))[0]
        except SeriesError as error:  # far from the nodule it may not matter: the views are read by themselves
            first_error = first_error or error
            for number, flat in pixels:
                places[number][1].reshape(-1)[flat] = False
            continue
        for number, flat in pixels:
            x, y = places[number][0].reshape(-1, 3)[flat, :2].T
            pictures[number].reshape(-1)[flat] = voxels[y - y0, x - x0]
    progress(len(slices), len(slices))
    return first_error


def _by_slice(index: NDArray[np.int64], known: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
    """Slice -> the known pixels of a plane that lie in it, as flat indices."""
    flat = np.flatnonzero(known)
    z = index.reshape(-1, 3)[flat, 2]
    order = np.argsort(z, kind="stable")
    numbers, starts = np.unique(z[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(flat[order], starts[1:]), strict=True))


def _plane(
    geometry: VolumeGeometry,
    name: str,
    hu: NDArray[np.int16],
    known: NDArray[np.bool_],
    along: Sequence[NDArray[np.float64]],
    center: NDArray[np.float64],
) -> Plane:
    axes = LAYOUT[name]
    lattice = Lattice.of(geometry)
    middle = lattice.origin + lattice.index_of(center)
    picture = _rectangle([(along[axis][0], along[axis][-1], _step(geometry, along[axis], axis)) for axis in axes], axes)
    cube, field = (
        _rectangle([(middle[axis] - half, middle[axis] + half - 1, 1.0) for axis in axes], axes)
        for half in (HALF_CUBE, VIEW // 2)
    )
    x, y = (float(center[axis]) * _DOWNWARD[axis] for axis in axes)
    (left, right), (top, bottom) = (ENDS[axis][:: _DOWNWARD[axis]] for axis in axes)
    return Plane(name, hu, known, picture, cube, field, (x, y), left, right, top, bottom)


def _step(geometry: VolumeGeometry, coordinates: NDArray[np.float64], axis: int) -> float:
    """Millimetres from a pixel to the next; of a single one, the size of its voxel."""
    if len(coordinates) > 1:
        return float(coordinates[-1] - coordinates[0]) / (len(coordinates) - 1)
    return float(np.abs(geometry.affine[axis, :3]).max())


def _rectangle(sides: Sequence[tuple[float, float, float]], axes: tuple[int, int]) -> Rectangle:
    """The rectangle of a grid: for both axes the first and the last middle of a pixel, and a pixel's size."""
    starts, lengths = [], []
    for (first, last, size), axis in zip(sides, axes, strict=True):
        ends = (first - size / 2, last + size / 2)
        starts.append(float(ends[0] if _DOWNWARD[axis] == 1 else -ends[1]))
        lengths.append(float(ends[1] - ends[0]))
    return Rectangle(starts[0], starts[1], lengths[0], lengths[1])
