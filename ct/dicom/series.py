"""A CT series in a folder of DICOM files, one slice a file, opened without reading its pixels.

Files come in any order and under any name; what is no CT image is passed over. A series whose slices cannot
be placed in one regular stack without guessing is refused: a wrong stack would be scored like a right one.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from noduleserve.ct.doubt import InputWarning, check_spacing
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry

from .header import DicomHeader, read_header
from .pixels import SlicePixels

# How far a slice may lie from its place in the regular stack: these millimetres, and no more than this share
# of the spacing. Scanners write positions with as little as one decimal, which puts a slice, and the ends of
# the stack, up to 0.05 mm off; a missing slice puts others off by nearly half the spacing or more.
OFF_LINE_MM = 0.1
OFF_LINE_SPACINGS = 0.2
# Slices nearer to each other than this along the normal lie at one position.
DUPLICATE_MM = 0.01
# Between the direction of the stack and the normal of its slices; gantries tilt by half a degree or more.
TILT_DEGREES = 0.1
# For direction cosines, which are rounded, and differently from slice to slice.
COSINE_TOLERANCE = 1e-4
# For the pixel spacings of the slices of one series.
SPACING_TOLERANCE_MM = 1e-4

_ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_LISTED = 8  # series that a sentence names before it only counts


class DicomSeries:
    """A CT series opened from a folder; implements `Volume`. Threads may share it.

    Attributes:
        geometry: voxel axes x, y, z are column, row and slice; z runs along the normal of the slices (the
            cross product of the directions of x and y), whatever the order of the files.
        series_uid: SeriesInstanceUID.
    """

    geometry: VolumeGeometry
    series_uid: str
    warnings: tuple[InputWarning, ...]

    def __init__(self, geometry: VolumeGeometry, series_uid: str, pixels: list[SlicePixels]) -> None:
        self.geometry, self.series_uid = geometry, series_uid
        self.warnings = check_spacing(geometry)
        self._pixels = pixels

    @classmethod
    def open(cls, folder: Path) -> DicomSeries:
        """Read the headers of the only CT series in a folder and its subfolders.

        Raises:
            SeriesError:
                of the folder: SERIES_NOT_FOUND, SERIES_EMPTY (no DICOM file), NOT_CT (no CT image),
                SERIES_AMBIGUOUS (several CT series), ENHANCED_NOT_SUPPORTED (several slices a file);
                of one file: FILE_UNREADABLE, TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD;
                of the stack: SERIES_TOO_FEW (one slice), SERIES_MIXED (slices that differ in size, spacing,
                orientation or frame of reference, or lie beside the others), SERIES_DUPLICATE (two slices at
                one position), SERIES_UNEVEN (a slice missing, or spacing that changes), SERIES_TILTED (gantry
                tilt), and VOXEL_TOO_LARGE, AFFINE_SINGULAR as `VolumeGeometry` has them.
        """
        headers = _only_series(_ct_headers(folder), folder)
        slices = [_Slice.of(header) for header in headers]
        _check_alike(slices)
        slices, affine = _stacked(slices)
        first = slices[0].pixels
        try:
            geometry = VolumeGeometry(np.array([first.columns, first.rows, len(slices)]), affine)
        except BadRequest as error:
            raise SeriesError(error.code, error.what, error.mend) from error
        return cls(geometry, headers[0].text("SeriesInstanceUID"), [s.pixels for s in slices])

    def read_box(self, box: Box) -> NDArray[np.int16]:
        """Hounsfield units of a box, int16 [z, y, x], contiguous; reads only the slices that the box needs.

        Raises:
            SeriesError: FILE_UNREADABLE, PIXELS_UNREADABLE, PIXELS_TRUNCATED, DECODER_MISSING.
            ValueError: the box reaches beyond the volume.
        """
        if not Box(start=np.zeros(3, np.int64), stop=self.geometry.shape).covers(box):
            raise ValueError(f"The box ({box}) reaches beyond the volume.")
        along_z, along_y, along_x = box.slices
        voxels = np.empty(box.shape[::-1], np.int16)
        for plane, pixels in zip(voxels, self._pixels[along_z], strict=True):
            plane[...] = pixels.read_hounsfield(along_y, along_x)
        return voxels


@dataclass(frozen=True, eq=False)
class _Slice:
    """One slice: where it lies in the patient (LPS millimetres) and what it stores."""

    name: str
    position: NDArray[np.float64]  # of the centre of the first pixel
    cosines: NDArray[np.float64]  # [2, 3]: direction of increasing column index, of increasing row index
    spacing: tuple[float, ...]  # between rows, between columns
    frame_of_reference: str
    pixels: SlicePixels

    @classmethod
    def of(cls, header: DicomHeader) -> _Slice:
        cosines = np.array(header.numbers("ImageOrientationPatient", 6)).reshape(2, 3)
        spacing = header.numbers("PixelSpacing", 2)
        square = np.abs(cosines @ cosines.T - np.eye(2)).max() < 10 * COSINE_TOLERANCE
        if not square or min(spacing) <= 0:
            keyword = "PixelSpacing" if square else "ImageOrientationPatient"
            raise SeriesError(
                "TAG_INVALID",
                f"The {keyword} of {header.path.name} describes no grid of pixels.",
                "Export the series again from its source.",
            )
        return cls(
            name=header.path.name,
            position=np.array(header.numbers("ImagePositionPatient", 3)),
            cosines=cosines,
            spacing=spacing,
            frame_of_reference=header.text("FrameOfReferenceUID", required=False),
            pixels=SlicePixels.of(header),
        )


def _files(folder: Path) -> list[Path]:
    """All files below a folder, but those that file systems and desktops leave behind."""

    def refuse(error: OSError) -> None:
        raise SeriesError(
            "FILE_UNREADABLE",
            f"The folder {Path(error.filename).name} cannot be read ({error.strerror}).",
            "Check its permissions.",
        ) from error

    if not folder.is_dir():
        raise SeriesError(
            "SERIES_NOT_FOUND",
            f"There is no folder {folder.name}.",
            "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
        )
    walk = os.walk(folder, onerror=refuse)
    return sorted(Path(parent, name) for parent, _, names in walk for name in names if name[0] != ".")


def _ct_headers(folder: Path) -> list[DicomHeader]:
    """The headers of all CT images below a folder, in the order of their paths; localizers are left out."""
    headers = [header for path in _files(folder) if (header := read_header(path)) is not None]
    classes = [header.text("SOPClassUID", required=False) for header in headers]
    ct = [h for h, c in zip(headers, classes, strict=True) if c in (CTImageStorage, *_ENHANCED)]
    ct = [h for h in ct if "LOCALIZER" not in h.text("ImageType", required=False).split("\\")]
    if not headers:
        raise SeriesError(
            "SERIES_EMPTY",
            f"The folder {folder.name} holds no DICOM file.",
            "Give the folder with the DICOM files (PS3.10, with preamble) of one CT series, or a NIfTI file.",
        )
    if not ct:
        counts = Counter(UID(uid).name or "unknown" for uid in classes).most_common(_LISTED)
        found = ", ".join(f"{count} x {name}" for name, count in counts)
        raise SeriesError(
            "NOT_CT",
            f"The folder {folder.name} holds no CT slice, but {found}.",
            "Give the folder of a CT series.",
        )
    return ct


def _only_series(headers: list[DicomHeader], folder: Path) -> list[DicomHeader]:
    series: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        series[header.text("SeriesInstanceUID")].append(header)
    if len(series) > 1:
        listed = ", ".join(f"{uid} ({len(series[uid])} files)" for uid in sorted(series)[:_LISTED])
        more = f" and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
        raise SeriesError(
            "SERIES_AMBIGUOUS",
            f"The folder {folder.name} holds {len(series)} CT series: {listed}{more}.",
            "Put each series into a folder of its own.",
        )
    if any(header.text("SOPClassUID") in _ENHANCED for header in headers):
        raise SeriesError(
            "ENHANCED_NOT_SUPPORTED",
            f"The series in {folder.name} is an enhanced CT: several slices in one file.",
            "Convert it to classic CT images (one slice a file) or to NIfTI.",
        )
    return headers


def _check_alike(slices: list[_Slice]) -> None:
    """Refuse slices that cannot belong to one stack."""
    first = slices[0]
    if len(slices) < 2:
        raise SeriesError(
            "SERIES_TOO_FEW",
            f"The series has one slice only ({first.name}).",
            "Give the whole series; a volume needs at least two slices.",
        )
    differs: dict[str, Callable[[_Slice], bool]] = {
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


def _stacked(slices: list[_Slice]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """The slices in the order of their normal, and the affine of their stack (voxel x, y, z, 1 -> LPS mm)."""
    along_x, along_y = slices[0].cosines
    normal = np.cross(along_x, along_y)
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.stack([s.position for s in slices])
    _check_distinct(slices, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = positions - (positions[0] + np.arange(len(slices))[:, None] * step)
    _check_even(slices, positions @ normal, off @ normal)
    _check_sideways(slices, off - np.outer(off @ normal, normal))
    tilt = np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal))
    if tilt > TILT_DEGREES:
        raise SeriesError(
            "SERIES_TILTED",
            f"The stack runs at {tilt:.1f} degrees to the normal of its slices, as with a tilted gantry.",
            "Resample the series to a stack at right angles, or use a reconstruction without tilt.",
        )
    between_rows, between_columns = slices[0].spacing
    affine = np.eye(4)
    affine[:3] = np.stack([along_x * between_columns, along_y * between_rows, step, positions[0]], axis=1)
    return slices, affine


def _check_distinct(slices: list[_Slice], along: NDArray[np.float64]) -> None:
    at = np.flatnonzero(np.diff(along) < DUPLICATE_MM)
    if len(at):
        names = " and ".join(sorted(s.name for s in slices[at[0] : at[0] + 2]))
        raise SeriesError(
            "SERIES_DUPLICATE",
            f"{names} lie at the same position ({len(at)} such pair{'s' if len(at) > 1 else ''}).",
            "Take out copies, or separate the acquisitions (time points, reconstructions) into folders.",
        )


def _check_even(slices: list[_Slice], along: NDArray[np.float64], off: NDArray[np.float64]) -> None:
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


def _check_sideways(slices: list[_Slice], off: NDArray[np.float64]) -> None:
    distance = np.linalg.norm(off, axis=1)
    worst = int(distance.argmax())
    if distance[worst] > OFF_LINE_MM:
        raise SeriesError(
            "SERIES_MIXED",
            f"{slices[worst].name} lies {distance[worst]:.2g} mm beside the stack of the other slices.",
            "Take out the files that do not belong to the stack (reformats, other acquisitions).",
        )
