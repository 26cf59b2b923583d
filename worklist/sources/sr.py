"""DICOM SR of TID 1500: measurement groups with points and outlines, in the patient or on images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from noduleserve.errors import WorklistError

from .base import Choice, Marked, Marking, clean, unreadable
from .ct_series import CtFinder, CtSeries
from .outline import Enclosed, enclosed
from .seg import needs_package

_GROUP, _TRACKING_ID, _FINDING = "125007", "112039", "121071"  # DCM: Measurement Group, Tracking Identifier, Finding


def read_sr(path: Path, finder: CtFinder, choice: Choice) -> Marked:
    """Every measurement group with coordinates; `--roi` chooses by tracking identifier.

    The centre is the point, the middle of the circle, ellipse or ellipsoid, the centroid of what polygons and
    closed polylines enclose, or the mean of these. Coordinates on an image become LPS through the image of the
    CT series; in them, the centre of the first pixel is (0.5, 0.5). Coordinates of the group go before those of
    its single measurements (the ends of a diameter, say).

    Raises:
        WorklistError: WORKLIST_SOURCE_NEEDS_PACKAGE, WORKLIST_SOURCE_UNREADABLE, WORKLIST_SOURCE_NO_NODULE,
            WORKLIST_SOURCE_NEEDS_SERIES, WORKLIST_SOURCE_OTHER_SERIES.
    """
    try:
        from highdicom.sr import srread
    except ModuleNotFoundError as error:
        raise needs_package("highdicom") from error
    report = srread(path)
    groups = [item for item in _below(report) if _code(item) == _GROUP and item.ValueType == "CONTAINER"]
    chosen = [g for g in groups if choice.roi is None or choice.roi.search(_value(g, _TRACKING_ID))]
    placed = [(group, items) for group in chosen if (items := _coordinates(group))]
    if not placed:
        raise WorklistError(
            "WORKLIST_SOURCE_NO_NODULE",
            f"None of the {len(groups)} measurement groups of {path.name} is taken and has coordinates.",
            "Where the groups refer to a segmentation, give that file (SEG); check --roi.",
        )
    on_images = any(item.ValueType == "SCOORD" for _, items in placed for item in items)
    series_uid = _series_uid(report, [item for _, items in placed for item in items])
    series = finder.need(path, series_uid) if on_images else None
    frames = {str(item.get("ReferencedFrameOfReferenceUID", "")) for _, items in placed for item in items} - {""}
    if len(frames) > 1:
        raise unreadable(path, "its coordinates lie in several frames of reference")
    without = len(chosen) - len(placed)
    return Marked(
        [_marking(path, number, group, items, series) for number, (group, items) in enumerate(placed, 1)],
        pid=str(report.get("PatientID") or ""),
        series_uid=series_uid,
        frame_of_reference=frames.pop() if frames else "",
        left_out=[f"{without} measurement groups without coordinates"] if without else [],
    )


def _below(item: Dataset) -> list[Dataset]:
    """All content items below one, in the order of the document."""
    found: list[Dataset] = []
    waiting = list(item.get("ContentSequence") or [])
    while waiting:
        child = waiting.pop(0)
        found.append(child)
        waiting = list(child.get("ContentSequence") or []) + waiting
    return found


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence") or []
    return str(names[0].get("CodeValue", "")) if names else ""


def _value(group: Dataset, code: str) -> str:
    """The text or the meaning of the code that a group gives under a concept, or ""."""
    for item in group.get("ContentSequence") or []:
        if _code(item) == code:
            coded = item.get("ConceptCodeSequence") or []
            return clean(coded[0].get("CodeMeaning", "") if coded else item.get("TextValue", ""))
    return ""


def _coordinates(group: Dataset) -> list[Dataset]:
    own = [item for item in group.get("ContentSequence") or [] if item.ValueType in ("SCOORD", "SCOORD3D")]
    return own or [item for item in _below(group) if item.ValueType in ("SCOORD", "SCOORD3D")]


def _marking(path: Path, number: int, group: Dataset, items: list[Dataset], series: CtSeries | None) -> Marking:
    shapes = [(str(item.GraphicType), _lps(path, item, series)) for item in items]
    outlines = [points for kind, points in shapes if _is_outline(kind, points)]
    try:
        inside = enclosed(outlines) or _middle(shapes)
    except ValueError as error:
        raise unreadable(path, f"a measurement group has {error}") from error
    diameter = inside.diameter_mm or None
    identifier = _value(group, _TRACKING_ID) or str(number)
    return Marking(identifier, inside.center, _value(group, _FINDING), diameter)


def _is_outline(kind: str, points: NDArray[np.float64]) -> bool:
    closed = len(points) > 3 and bool(np.allclose(points[0], points[-1], atol=1e-3))
    return kind == "POLYGON" or (kind == "POLYLINE" and closed)


def _middle(shapes: list[tuple[str, NDArray[np.float64]]]) -> Enclosed:
    """The mean of the middles of shapes that are no outlines; the diameter of a single round one."""
    centers = [points[0] if kind == "CIRCLE" else points.mean(axis=0) for kind, points in shapes]
    x, y, z = np.mean(centers, axis=0).tolist()
    kind, points = shapes[0]
    diameter = 0.0
    if len(shapes) == 1 and kind == "CIRCLE":
        diameter = 2 * math.dist(points[0], points[1])
    elif len(shapes) == 1 and kind in ("ELLIPSE", "ELLIPSOID"):
        axes = np.linalg.norm(points[1::2] - points[::2], axis=1)
        diameter = float(np.prod(axes) ** (1 / len(axes)))
    return Enclosed((x, y, z), diameter)


def _lps(path: Path, item: Dataset, series: CtSeries | None) -> NDArray[np.float64]:
    """The points of a content item in LPS millimetres [n, 3]."""
    in_patient = item.ValueType == "SCOORD3D"
    data: Any = item.get("GraphicData")
    numbers = np.atleast_1d(np.array(data if data is not None else [], np.float64))
    axes = 3 if in_patient else 2
    if not numbers.size or numbers.size % axes or not np.isfinite(numbers).all():
        raise unreadable(path, "coordinates are not made of finite points")
    if in_patient:
        return numbers.reshape(-1, 3)
    images = [child for child in item.get("ContentSequence") or [] if child.ValueType == "IMAGE"]
    references = [str(image.ReferencedSOPSequence[0].get("ReferencedSOPInstanceUID", "")) for image in images]
    plane = series.planes.get(references[0]) if series is not None and len(references) == 1 else None
    if plane is None:
        raise WorklistError(
            "WORKLIST_SOURCE_OTHER_SERIES",
            f"{path.name} marks an image that is not in the CT series.",
            "Give the complete series that it was measured on as --series.",
        )
    return plane.lps(numbers.reshape(-1, 2) - 0.5)


def _series_uid(report: Dataset, items: list[Dataset]) -> str:
    """The series of the images that coordinates refer to, or the only one of the report's evidence."""
    images = {
        str(reference.get("ReferencedSOPInstanceUID", ""))
        for item in items
        for child in item.get("ContentSequence") or []
        for reference in child.get("ReferencedSOPSequence") or []
    }
    series_of = {
        str(reference.get("ReferencedSOPInstanceUID", "")): str(series.get("SeriesInstanceUID", ""))
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in report.get(keyword) or []
        for series in study.get("ReferencedSeriesSequence") or []
        for reference in series.get("ReferencedSOPSequence") or []
    }
    uids = {series_of[image] for image in images if image in series_of} or set(series_of.values())
    return uids.pop() if len(uids) == 1 else ""
