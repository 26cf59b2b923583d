"""DICOM RT Structure Set: the outlines of structures in LPS millimetres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from .base import Choice, Marked, Marking, clean, none_taken, unreadable
from .ct_series import CtFinder
from .outline import enclosed

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path, finder: CtFinder, choice: Choice) -> Marked:
    """Every structure that is taken: the centroid of what its closed outlines enclose, or its points as they are.

    A structure is taken where `--roi` matches its name; without --roi, where its name, its interpreted type or its
    label stands for a nodule. A structure is one nodule, however many pieces it has.

    Raises:
        WorklistError: WORKLIST_SOURCE_UNREADABLE, WORKLIST_SOURCE_NO_NODULE.
    """
    dataset = dcmread(path)
    structures = list(dataset.get("StructureSetROISequence") or [])
    types = {int(o.ReferencedROINumber): o for o in dataset.get("RTROIObservationsSequence") or []}
    contours = {int(c.ReferencedROINumber): c for c in dataset.get("ROIContourSequence") or []}
    if len(contours) < len(dataset.get("ROIContourSequence") or []):
        raise unreadable(path, "the outlines of a structure stand in two places")
    taken = [s for s in structures if choice.takes(*_names(s, types.get(int(s.ROINumber))))]
    if not taken:
        raise none_taken(path, "structures", len(structures))
    frames = {str(s.get("ReferencedFrameOfReferenceUID", "")) for s in taken}
    if len(frames) > 1:
        raise unreadable(path, "its structures lie in several frames of reference")
    markings: list[Marking] = []
    empty = 0
    for structure in taken:
        found = _markings(path, structure, contours.get(int(structure.ROINumber)))
        empty += not found
        markings += found
    return Marked(
        markings,
        pid=str(dataset.get("PatientID") or ""),
        series_uid=_series_uid(dataset),
        frame_of_reference=frames.pop(),
        left_out=[f"{empty} structures without outline or point"] if empty else [],
    )


def _names(structure: Dataset, observed: Dataset | None) -> list[str]:
    names = [str(structure.get("ROIName", "")), str(structure.get("ROIDescription", ""))]
    if observed is not None:
        names += [str(observed.get(keyword, "")) for keyword in ("RTROIInterpretedType", "ROIObservationLabel")]
    return names


def _markings(path: Path, structure: Dataset, contours: Dataset | None) -> list[Marking]:
    """The structure as one nodule; each of its points as one where it has no outline."""
    sequence = list((contours.get("ContourSequence") if contours is not None else None) or [])
    points = [p for c in sequence if c.get("ContourGeometricType") == "POINT" for p in _points(path, c)]
    outlines = [_points(path, c) for c in sequence if c.get("ContourGeometricType") in _CLOSED]
    number, label = str(structure.ROINumber), clean(structure.get("ROIName", ""))
    try:
        inside = enclosed(outlines)
    except ValueError as error:
        raise unreadable(path, f"a structure has {error}") from error
    if inside is not None:
        return [Marking(number, inside.center, label, inside.diameter_mm)]
    centers = [(float(x), float(y), float(z)) for x, y, z in points]
    ids = [number] if len(centers) == 1 else [f"{number}.{i}" for i in range(1, len(centers) + 1)]
    return [Marking(nodule_id, center, label) for nodule_id, center in zip(ids, centers, strict=True)]


def _points(path: Path, contour: Dataset) -> NDArray[np.float64]:
    numbers = np.array(list(contour.get("ContourData") or []), np.float64)
    if not len(numbers) or len(numbers) % 3 or not np.isfinite(numbers).all():
        raise unreadable(path, "an outline is not made of finite points")
    return numbers.reshape(-1, 3)


def _series_uid(dataset: Dataset) -> str:
    """The one CT series that the structures refer to, or "" where there are several."""
    uids = {
        str(series.get("SeriesInstanceUID", ""))
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    }
    return uids.pop() if len(uids) == 1 else ""
