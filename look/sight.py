"""All that is shown of one nodule, read from its volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning, check_surroundings
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, required_box, views_of_request
from noduleserve.preprocessing.views import HIGH_HU, LOW_HU

from .facts import Facts, hounsfield_facts, nodule_facts, series_facts
from .planes import Plane, Progress, read_planes

BIN_HU = 25
_LOWEST_BIN, _HIGHEST_BIN = -1100, 600  # a little beyond the window, at both ends


@dataclass(frozen=True, eq=False)
class Sight:
    """What a person is shown of a nodule.

    Attributes:
        views: what the model sees, float32 [9, 50, 50], 0..1, in the order of VIEW_NAMES.
        planes: of the whole volume through the nodule; none where they were not asked for.
        facts: heading -> names and values.
        histogram: voxels of the box by Hounsfield units, int64 [n], in steps of BIN_HU from `histogram_from` on;
            what lies below or above counts in the first or the last.
        histogram_from: HU at the start of the first step.
        warnings: of the series and of the nodule.
        unread: why slices far from the nodule could not be shown, or "".
    """

    views: NDArray[np.float32]
    planes: tuple[Plane, ...]
    facts: dict[str, Facts]
    histogram: NDArray[np.int64]
    histogram_from: int
    warnings: tuple[InputWarning, ...]
    unread: str = ""


def see(
    volume: Volume,
    center: tuple[float, float, float],
    *,
    context: bool = True,
    progress: Progress = lambda done, of: None,
) -> Sight:
    """Read everything that is shown of a nodule; the views are those that the model gets.

    Args:
        volume: opened.
        center: LPS millimetres (x, y, z).
        context: also read the planes of the whole volume, which takes every slice of it.
        progress: is called with the slices of the planes that are read, and the slices to read.

    Raises:
        SeriesError: what keeps the nodule from being scored: the codes of `Volume.read_box`, and CENTER_OUTSIDE and
            CENTER_NOT_FINITE of the preprocessing.
    """
    geometry = volume.geometry
    try:
        box = required_box(geometry, center)
        voxels = volume.read_box(box)
        views = views_of_request(voxels, box.start, geometry.shape, geometry.affine, center)
    except BadRequest as refusal:
        raise SeriesError(refusal.code, refusal.what, refusal.mend) from None
    planes, unread = read_planes(volume, center, progress) if context else ((), None)
    bins = np.arange(_LOWEST_BIN, _HIGHEST_BIN + 1, BIN_HU)
    return Sight(
        views=views,
        planes=planes,
        facts={
            "Series": series_facts(volume),
            "Nodule": nodule_facts(geometry, center, box),
            "Hounsfield units": [*hounsfield_facts(voxels, box, geometry, center), _windowed(voxels)],
        },
        histogram=np.histogram(np.clip(voxels, bins[0], bins[-1]), bins)[0].astype(np.int64),
        histogram_from=int(bins[0]),
        warnings=volume.warnings + check_surroundings(voxels, box, geometry, center),
        unread=f"Slices away from the nodule cannot be read: {unread}" if unread else "",
    )


def _windowed(voxels: NDArray[np.int16]) -> tuple[str, str]:
    below, above = np.mean(voxels < LOW_HU), np.mean(voxels > HIGH_HU)
    value = f"{below:.1%} below {LOW_HU:.0f} HU, {above:.1%} above {HIGH_HU:.0f} HU"
    return "beyond the window", value
