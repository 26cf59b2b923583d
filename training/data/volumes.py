"""Nodules of whole CT series as training data: the nine views that serving makes of them, as they are or varied.

A varied nodule is the volume turned, mirrored and shifted about the nodule: only the voxels' place in the patient
changes, and the cube is then cut out of the native voxels as always, in one resampling.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError, TrainingError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry, cut_cube, views_of_request
from noduleserve.preprocessing.box import HALF_CUBE, require_inside, required_box
from noduleserve.preprocessing.views import BAND, views_of_band

from .augmentation import Variation, vary_values
from .base import Example

_BAND_MM = max(HALF_CUBE - BAND.start, BAND.stop - HALF_CUBE)  # how far the views reach from the centre along an axis
_SPARE_MM = 2.0  # the lattice's rounding of the centre, and a voxel's neighbour
_KEPT_BYTES = 4 * 2**30
_TOLD = 5  # nodules that an error names


@dataclass(frozen=True)
class Located:
    """A nodule and where it lies.

    Attributes:
        example: what is known of it.
        path: of the CT, as `open_volume` takes it.
        center: LPS millimetres (x, y, z).
        series_uid: of the series, where the path holds several; or "".
    """

    example: Example
    path: Path
    center: tuple[float, float, float]
    series_uid: str = ""


class VolumeNodules:
    """Nodules of CT series as a source of training data.

    Attributes:
        examples: in the order given.
    """

    examples: list[Example]

    def __init__(
        self, nodules: Sequence[Located], variation: Variation | None = None, *, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        """Open every series: headers only, so that one that cannot be read is told before a training begins.

        Args:
            nodules: names unique.
            variation: `slice_mm`, `plane` and `stretch` do not apply: these are real planes.
            kept_bytes: of voxels around nodules that are kept in memory; those used longest ago are read again.

        Raises:
            TrainingError: NODULES_UNREADABLE, with the names of some of the nodules and the reason of the first.
        """
        self.examples = [nodule.example for nodule in nodules]
        self._nodules = list(nodules)
        self._variation = variation or Variation()
        self._volumes = _opened(self._nodules)
        self._boxes: OrderedDict[int, tuple[Box, NDArray[np.int16]]] = OrderedDict()
        self._lock, self._left = Lock(), kept_bytes

    def views(self, number: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """The nine views as they are served, [9, 50, 50]; or some of them, varied."""
        box, voxels = self._box(number)
        center, geometry = np.array(self._nodules[number].center), self._volumes[number].geometry
        if rng is None:
            return views_of_request(voxels, box.start, geometry.shape, geometry.affine, center)
        views = views_of_band(self._varied_band(voxels, box, center, geometry, rng))
        count = self._variation.number_of_views(rng)
        return views[np.sort(rng.choice(len(views), count, replace=False))]

    def _varied_band(
        self,
        voxels: NDArray[np.int16],
        box: Box,
        center: NDArray[np.float64],
        geometry: VolumeGeometry,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """The part of the windowed cube that views are made of, turned, shifted and noisy."""
        variation = self._variation
        turn = _turn(np.deg2rad(rng.uniform(-variation.degrees, variation.degrees)), rng)
        if variation.flips:
            turn = turn @ np.diag(rng.choice([-1.0, 1.0], size=3))
        away = rng.standard_normal(3)
        shift = away / np.linalg.norm(away) * variation.jitter_mm * rng.random() ** (1 / 3)
        about = np.eye(4)
        about[:3, :3], about[:3, 3] = turn, center - turn @ center
        turned = VolumeGeometry(geometry.shape, about @ geometry.affine)
        return vary_values(cut_cube(voxels, box.start, turned, center + shift, BAND), variation, rng)

    def _box(self, number: int) -> tuple[Box, NDArray[np.int16]]:
        """Voxels around a nodule, enough for every view of it however it is turned."""
        with self._lock:
            if number in self._boxes:
                self._boxes.move_to_end(number)
                return self._boxes[number]
        volume = self._volumes[number]
        box = _ample_box(volume.geometry, self._nodules[number].center, self._variation.jitter_mm)
        voxels = volume.read_box(box)
        with self._lock:
            if number not in self._boxes:
                self._boxes[number] = box, voxels
                self._left -= voxels.nbytes
            while self._left < 0 and len(self._boxes) > 1:
                _, (_, oldest) = self._boxes.popitem(last=False)
                self._left += oldest.nbytes
        return box, voxels


def _opened(nodules: Sequence[Located]) -> list[Volume]:
    """The volume of each nodule, each series opened once."""
    volumes: dict[tuple[Path, str], Volume | Unreadable] = {}
    found: list[Volume] = []
    bad: list[tuple[str, str]] = []
    for nodule in nodules:
        key = nodule.path, nodule.series_uid
        if key not in volumes:
            volumes[key] = _open(nodule)
        volume = volumes[key]
        if isinstance(volume, Unreadable):
            bad.append((nodule.example.name, volume.why))
            continue
        try:
            require_inside(volume.geometry, nodule.center)
        except BadRequest as error:
            bad.append((nodule.example.name, error.what))
            continue
        found.append(volume)
    if bad:
        names = ", ".join(name for name, _ in bad[:_TOLD]) + (" and others" if len(bad) > _TOLD else "")
        raise TrainingError(
            "NODULES_UNREADABLE",
            f"{len(bad)} of {len(nodules)} nodules cannot be learned from: {names}. Of the first: {bad[0][1]}",
            "Mend these nodules, or leave them out.",
        )
    return found


@dataclass(frozen=True)
class Unreadable:
    """Why a series cannot be read."""

    why: str


def _open(nodule: Located) -> Volume | Unreadable:
    try:
        return open_volume(nodule.path, nodule.series_uid)
    except SeriesError as error:
        return Unreadable(error.what)


def _ample_box(geometry: VolumeGeometry, center: Sequence[float], jitter_mm: float) -> Box:
    """What serving needs, and a ball that holds every view of the nodule however it is turned."""
    needed = required_box(geometry, center)
    radius = _BAND_MM * np.sqrt(3) + jitter_mm + _SPARE_MM
    # Half the extent of a ball along each voxel axis.
    reach = radius * np.linalg.norm(geometry.to_voxel[:3, :3], axis=1)
    middle = geometry.voxel_of(center)
    start = np.clip(np.floor(middle - reach).astype(np.int64), 0, needed.start)
    stop = np.clip(np.ceil(middle + reach).astype(np.int64) + 1, needed.stop, geometry.shape)
    return Box(start, stop)


def _turn(angle: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation by an angle about a direction drawn at random, [3, 3]."""
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn
