"""DICOM Segmentation: segments drawn voxel by voxel, with a geometry of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset

from noduleserve.ct.limits import check_size
from noduleserve.errors import WorklistError

from .base import Choice, Marked, Marking, clean, none_taken, unreadable
from .components import components, connected
from .ct_series import CtFinder

_HALF = 0.5  # of a fractional segmentation: from here on a voxel belongs to the segment


def read_seg(path: Path, finder: CtFinder, choice: Choice) -> Marked:
    """Every connected component of every segment that is taken; voxels that share a corner are connected.

    A segment is taken where `--roi` matches its label; without --roi, where its label, description, type or
    category stands for a nodule. Centroids are in LPS by the segmentation's own geometry, oblique ones included.

    Raises:
        WorklistError: WORKLIST_SOURCE_NEEDS_PACKAGE, WORKLIST_SOURCE_UNREADABLE, WORKLIST_SOURCE_NO_NODULE,
            WORKLIST_SOURCE_TOO_MANY.
        SeriesError: SERIES_TOO_LARGE.
    """
    try:
        from highdicom.seg import segread
    except ModuleNotFoundError as error:
        raise needs_package("highdicom") from error
    dataset = segread(path)
    numbers = set(dataset.segment_numbers)  # those of a label map leave out its background
    segments = [segment for segment in dataset.SegmentSequence if int(segment.SegmentNumber) in numbers]
    taken = [segment for segment in segments if choice.takes(*_names(segment))]
    if not taken:
        raise none_taken(path, "segments", len(segments))
    geometry = dataset.get_volume_geometry(allow_missing_positions=True)
    if geometry is None:
        raise unreadable(path, "its frames form no regular stack")
    check_size(path.name, geometry.spatial_shape)
    markings: list[Marking] = []
    empty = 0
    for segment in taken:
        number = int(segment.SegmentNumber)
        volume = dataset.get_volume(segment_numbers=[number], combine_segments=False)
        mask = np.asarray(volume.array)[..., 0] >= _HALF
        # highdicom's index runs (slice, row, column); the affine of a CT here (column, row, slice).
        affine = np.array(volume.affine)[:, [2, 1, 0, 3]]
        found = components(connected(mask), affine, path)
        empty += not found
        ids = [str(number)] if len(found) == 1 else [f"{number}.{c.label}" for c in found]
        label = clean(segment.get("SegmentLabel", ""))
        markings += [Marking(i, c.center, label, c.diameter_mm) for i, c in zip(ids, found, strict=True)]
    referenced = dataset.get("ReferencedSeriesSequence") or []
    return Marked(
        markings,
        pid=str(dataset.get("PatientID") or ""),
        series_uid=str(referenced[0].get("SeriesInstanceUID", "")) if len(referenced) == 1 else "",
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        left_out=[f"{empty} segments without a voxel"] if empty else [],
    )


def needs_package(name: str) -> WorklistError:
    """The error for a package that reading this kind of source needs."""
    return WorklistError(
        "WORKLIST_SOURCE_NEEDS_PACKAGE",
        f"This kind of source is read with the Python package {name}, which is not installed.",
        "Run `pip install 'noduleserve[formats]'`.",
    )


def _names(segment: Dataset) -> list[str]:
    names = [str(segment.get("SegmentLabel", "")), str(segment.get("SegmentDescription", ""))]
    for keyword in ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyCategoryCodeSequence"):
        names += [str(code.get("CodeMeaning", "")) for code in segment.get(keyword) or []]
    return names
