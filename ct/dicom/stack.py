"""Slices put into one regular stack, or refused: a wrong stack would be scored like a right one.

Positions decide. SliceThickness, SpacingBetweenSlices, GantryDetectorTilt, PatientPosition, instance numbers and names
of files are not consulted: they are often missing, and sometimes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning
from noduleserve.ct.limits import check_size
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, VolumeGeometry

from .slices import COSINE_TOLERANCE, Slice

# How far a slice may lie from its place in the regular stack: these millimetres, and no more than this share
# of the spacing. Scanners write positions with as little as one decimal, which puts a slice, and the ends of
# the stack, up to 0.05 mm off; a missing slice puts others off by nearly half the spacing or more.
OFF_LINE_MM = 0.1
OFF_LINE_SPACINGS = 0.2
# Slices nearer to each other than this along the normal lie at one position.
DUPLICATE_MM = 0.01
# Between the direction of the stack and the normal of its slices; gantries tilt by half a degree or more, and by no
# more than 30 degrees: beyond that the slices are none of one acquisition.
TILT_DEGREES = 0.1
MOST_TILT_DEGREES = 30.0
# For the pixel spacings of the slices of one series.
SPACING_TOLERANCE_MM = 1e-4


def stacked(slices: Sequence[Slice]) -> tuple[list[Slice], VolumeGeometry, tuple[InputWarning, ...]]:
    """The slices in the order of their normal, the geometry of their volume, and what is doubtful about it.

    Voxel axes x, y, z are column, row and slice. z runs along the normal of the slices (the cross product of the
    directions of x and y), or up to 30 degrees off it where the gantry was tilted: then the affine is sheared.

    Raises:
        SeriesError: SERIES_TOO_FEW, SERIES_MIXED, SERIES_DUPLICATE, SERIES_UNEVEN, SERIES_TILTED_TOO_FAR,
            SERIES_TOO_LARGE, and VOXEL_TOO_LARGE, AFFINE_SINGULAR as `VolumeGeometry` has them.
    """
    _check_alike(slices)
    first = slices[0].pixels
    check_size(slices[0].name, (first.columns, first.rows, len(slices)))
    along_x, along_y = slices[0].cosines
    normal = np.cross(along_x, along_y)
    normal /= np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.stack([s.position for s in ordered])
    _check_distinct(ordered, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    off = positions - (positions[0] + np.arange(len(ordered))[:, None] * step)
    _check_even(ordered, positions @ normal, off @ normal)
    _check_sideways(ordered, off - np.outer(off @ normal, normal))
    warnings = _check_tilt(step, normal)
    between_rows, between_columns = ordered[0].spacing
    affine = np.eye(4)
    affine[:3] = np.stack([along_x * between_columns, along_y * between_rows, step, positions[0]], axis=1)
    try:
        geometry = VolumeGeometry(np.array([first.columns, first.rows, len(ordered)]), affine)
    except BadRequest as error:
        raise SeriesError(error.code, error.what, error.mend) from error
    return ordered, geometry, warnings


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse slices that cannot belong to one stack."""
    first = slices[0]
    if len(slices) < 2:
        raise SeriesError(
            "SERIES_TOO_FEW",
            f"The series has one slice only ({first.name}).",
            "Give the whole series; a volume needs at least two slices.",
        )
    differs: dict[str, Callable[[Slice], bool]] = {
        "Rows": lambda s: s.pixels.rows != first.pixels.rows,
        "Columns": lambda s: s.pixels.columns != first.pixels.columns,
        "FrameOfReferenceUID": lambda s: s.frame_of_reference != first.frame_of_reference,
        "ImageOrientationPatient": lambda s: bool(np.abs(s.cosines - first.cosines).max() > COSINE_TOLERANCE),
        "PixelSpacing": lambda s: any(
            abs(a - b) > SPACING_TOLERANCE_MM for a, b in zip(s.spacing, first.spacing, strict=True)
        ),
    }
    for keyword, differ in differs.items():
        other = next((s for s in slices if differ(s)), None)
        if other is not None:
            raise SeriesError(
                "SERIES_MIXED",
                f"{first.name} and {other.name} differ in {keyword}.",
                "Take out the files that do not belong to the stack (scouts, reformats, other acquisitions).",
            )


def _check_distinct(slices: list[Slice], along: NDArray[np.float64]) -> None:
    at = np.flatnonzero(np.diff(along) < DUPLICATE_MM)
    if len(at):
        names = " and ".join(sorted(s.name for s in slices[at[0] : at[0] + 2]))
        raise SeriesError(
            "SERIES_DUPLICATE",
            f"{names} lie at the same position ({len(at)} such pair{'s' if len(at) > 1 else ''}).",
            "Take out copies, or separate the acquisitions (time points, reconstructions) into folders.",
        )


def _check_even(slices: list[Slice], along: NDArray[np.float64], off: NDArray[np.float64]) -> None:
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if np.abs(off).max() <= min(OFF_LINE_MM, OFF_LINE_SPACINGS * usual):
        return
    widest = int(gaps.argmax())
    if gaps[widest] > 1.5 * usual:
        missing = round(gaps[widest] / usual) - 1
        what = f"{missing} slice{'s' if missing > 1 else ''} of {usual:.3g} mm seem to be missing"
    else:
        what = f"The distance between slices changes from {gaps.min():.3g} to {gaps.max():.3g} mm, the most"
    raise SeriesError(
        "SERIES_UNEVEN",
        f"{what} between {slices[widest].name} and {slices[widest + 1].name}.",
        "Fetch the missing slices again, or use a reconstruction with even spacing.",
    )


def _check_sideways(slices: list[Slice], off: NDArray[np.float64]) -> None:
    distance = np.linalg.norm(off, axis=1)
    worst = int(distance.argmax())
    if distance[worst] > OFF_LINE_MM:
        raise SeriesError(
            "SERIES_MIXED",
            f"{slices[worst].name} lies {distance[worst]:.2g} mm beside the stack of the other slices.",
            "Take out the files that do not belong to the stack (reformats, other acquisitions).",
        )


def _check_tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> tuple[InputWarning, ...]:
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    what = f"The stack runs at {tilt:.1f} degrees to the normal of its slices, as with a tilted gantry."
    mend = "Prefer a reconstruction without tilt, if there is one."
    if tilt > MOST_TILT_DEGREES + TILT_DEGREES:
        raise SeriesError("SERIES_TILTED_TOO_FAR", f"{what} The limit is {MOST_TILT_DEGREES:g} degrees.", mend)
    return (InputWarning("SERIES_TILTED", what, mend),) if tilt > TILT_DEGREES else ()
