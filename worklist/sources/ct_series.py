"""Finds the CT series that marks were made on, and where its images lie in the patient."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from noduleserve.ct.source import Source, open_source
from noduleserve.errors import SeriesError, WorklistError
from noduleserve.preprocessing import VolumeGeometry

_CT = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
]
_DICOM_MAGIC_AT = 128


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """Where one CT image lies.

    Attributes:
        to_lps: (column index, row index, 1) of a pixel's centre -> LPS millimetres, float64 [3, 3].
        columns, rows: of the image.
    """

    to_lps: NDArray[np.float64]
    columns: int
    rows: int

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector at right angles to the image."""
        normal = np.cross(self.to_lps[:, 0], self.to_lps[:, 1])
        return normal / np.linalg.norm(normal)

    def lps(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """LPS millimetres [n, 3] of pixel positions [n, 2] (column, row; whole numbers are centres of pixels)."""
        return np.asarray(pixels, np.float64) @ self.to_lps[:, :2].T + self.to_lps[:, 2]


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series as marks refer to it.

    Attributes:
        path: of its folder, or of its file.
        uid: SeriesInstanceUID, or "" where the format has none.
        frame_of_reference: FrameOfReferenceUID, or "".
        pid: PatientID, or "".
        planes: SOPInstanceUID -> where the image lies; empty where slices are no files of their own.
        geometry: of the volume, where it is a file of its own.
    """

    path: Path
    uid: str
    frame_of_reference: str = ""
    pid: str = ""
    planes: dict[str, ImagePlane] = field(default_factory=dict)
    geometry: VolumeGeometry | None = None

    @cached_property
    def _stack(self) -> tuple[ImagePlane, float, float] | None:
        """An image, and how far the stack reaches along its normal (LPS mm from the origin)."""
        planes = list(self.planes.values())
        if len(planes) < 2 or any(abs(plane.normal @ planes[0].normal) < 0.999 for plane in planes):
            return None
        along = np.unique([plane.to_lps[:, 2] @ planes[0].normal for plane in planes])
        half = float(np.median(np.diff(along))) / 2 if len(along) > 1 else 0.0
        return planes[0], float(along[0]) - half, float(along[-1]) + half

    def holds(self, center: ArrayLike) -> bool:
        """Whether a point (LPS mm) lies in a voxel of the series; True where that cannot be told."""
        tolerance = 0.01
        if self.geometry is not None:
            voxel = self.geometry.voxel_of(center)
            return bool(((voxel > -0.5 - tolerance) & (voxel < self.geometry.shape - 0.5 + tolerance)).all())
        if self._stack is None:
            return True
        plane, low, high = self._stack
        along = float(np.asarray(center) @ plane.normal)
        basis = np.column_stack([plane.to_lps[:, 0], plane.to_lps[:, 1], plane.normal])
        column, row, _ = np.linalg.solve(basis, np.asarray(center) - plane.to_lps[:, 2])
        inside = -0.5 - tolerance < column < plane.columns - 0.5 + tolerance
        inside &= -0.5 - tolerance < row < plane.rows - 0.5 + tolerance
        return bool(inside and low - tolerance < along < high + tolerance)


class CtFinder:
    """Finds the series of a source: where `--series` points, else in the source's own folder and below it."""

    def __init__(self, series: Path | None = None) -> None:
        self._given = series
        self._known: dict[Path, list[CtSeries]] = {}

    def find(self, source: Path, series_uid: str = "", frame_of_reference: str = "") -> CtSeries | None:
        """The CT series that a source refers to, or None where no --series is given and none lies beside it.

        A source that names a series gets that one. Where it is absent, another series in the same frame of
        reference (another reconstruction of the scan) has the same coordinates, and is taken.

        Raises:
            WorklistError: WORKLIST_SOURCE_OTHER_SERIES, WORKLIST_SOURCE_OTHER_FRAME, WORKLIST_SOURCE_AMBIGUOUS.
            SeriesError: --series cannot be opened.
        """
        if self._given is None and not series_uid and not frame_of_reference:
            return None
        known = self._series_below(self._given or source.absolute().parent)
        named = [series for series in known if series_uid and series.uid == series_uid]
        if named:
            if frame_of_reference and named[0].frame_of_reference not in ("", frame_of_reference):
                raise _other_frame(source)
            return named[0]
        same_frame = [s for s in known if frame_of_reference and s.frame_of_reference == frame_of_reference]
        silent = [s for s in known if not s.uid or not (series_uid or frame_of_reference)]
        found = same_frame or silent
        if len(found) > 1:
            raise WorklistError(
                "WORKLIST_SOURCE_AMBIGUOUS",
                f"{source.name} does not say which of {len(found)} CT series it was marked on.",
                "Give the folder of that series as --series.",
            )
        if not found and self._given is not None and frame_of_reference and not series_uid:
            raise _other_frame(source)
        if not found and self._given is not None:
            raise WorklistError(
                "WORKLIST_SOURCE_OTHER_SERIES",
                f"{source.name} was marked on the CT series {series_uid or '(not named)'}, which "
                f"{self._given.name} does not hold.",
                "Give the folder of that series as --series.",
            )
        return found[0] if found else None

    def need(self, source: Path, series_uid: str) -> CtSeries:
        """The CT series that a source names, which it cannot be read without.

        Raises:
            WorklistError: WORKLIST_SOURCE_NEEDS_SERIES, and as `find`.
        """
        found = self.find(source, series_uid)
        if found is None or not found.planes:
            raise WorklistError(
                "WORKLIST_SOURCE_NEEDS_SERIES",
                f"{source.name} counts in pixels of the CT series {series_uid or '(not named)'}, "
                "whose classic DICOM images (one slice a file) are not there.",
                "Give the folder of that series as --series, or put it beside the source.",
            )
        return found

    def _series_below(self, root: Path) -> list[CtSeries]:
        if root not in self._known:
            in_one_file = self._given is not None and not root.is_dir()
            self._known[root] = _inside(root) if in_one_file else _scan(root)
        return self._known[root]


def _other_frame(source: Path) -> WorklistError:
    return WorklistError(
        "WORKLIST_SOURCE_OTHER_FRAME",
        f"The coordinates of {source.name} are in another frame of reference than the CT series.",
        "Export source and series together; coordinates of another frame say nothing of where the nodule is.",
    )


def _inside(file: Path) -> list[CtSeries]:
    """The series in a file: an archive, or a volume."""
    with open_source(file) as source:
        if len(source.series) == 1:
            volume = source.volume()
            return [CtSeries(file, volume.series_uid, geometry=volume.geometry)]
        return [CtSeries(file, series.uid, geometry=_geometry(source, series.uid)) for series in source.series]


def _geometry(source: Source, uid: str) -> VolumeGeometry | None:
    """Of one series among several; None where it is unfit to be a volume, which is no fault of the others."""
    try:
        return source.volume(uid).geometry
    except SeriesError:
        return None


def _scan(root: Path) -> list[CtSeries]:
    """All CT series below a folder; localizers are left out."""
    images: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for parent, _, names in os.walk(root):
        for name in sorted(names):
            header = read_dicom_header(Path(parent, name), _TAGS)
            if (
                header is not None
                and header.get("SOPClassUID") in _CT
                and "LOCALIZER" not in header.get("ImageType", "")
            ):
                images[str(header.get("SeriesInstanceUID", ""))].append((Path(parent, name), header))
    return [_series(uid, found) for uid, found in sorted(images.items())]


def _series(uid: str, images: list[tuple[Path, Dataset]]) -> CtSeries:
    planes = {str(header.get("SOPInstanceUID", "")): plane for _, header in images if (plane := _plane(header))}
    frames = {str(header.get("FrameOfReferenceUID", "")) for _, header in images}
    return CtSeries(
        path=Path(os.path.commonpath([path.parent for path, _ in images])),
        uid=uid,
        frame_of_reference=frames.pop() if len(frames) == 1 else "",
        pid=str(images[0][1].get("PatientID", "")),
        planes=planes,
    )


def _plane(header: Dataset) -> ImagePlane | None:
    """Where a classic CT image lies; None where it does not say so in finite numbers."""
    try:
        along_x, along_y = np.array(header.ImageOrientationPatient, np.float64).reshape(2, 3)
        between_rows, between_columns = (float(spacing) for spacing in header.PixelSpacing)
        position = np.array(header.ImagePositionPatient, np.float64).reshape(3)
        to_lps = np.column_stack([along_x * between_columns, along_y * between_rows, position])
        plane = ImagePlane(to_lps, int(header.Columns), int(header.Rows))
    except (AttributeError, TypeError, ValueError):
        return None
    with np.errstate(all="ignore"):
        return plane if np.isfinite(plane.normal).all() and np.isfinite(to_lps).all() else None


def read_dicom_header(path: Path, tags: list[str]) -> Dataset | None:
    """Some attributes of a DICOM file with preamble; None where it is no such file, or cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(_DICOM_MAGIC_AT + 4)[_DICOM_MAGIC_AT:] != b"DICM":
                return None
            file.seek(0)
            header = dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
            for tag in tags:  # values are converted when first asked for: a damaged one must fail here
                header.get(tag)
            return header
    except Exception:  # pydicom raises whatever a damaged file provokes
        return None
