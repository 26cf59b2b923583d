"""Nodules made by hand, for whoever has no worklist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from noduleserve.worklist.table import COLUMNS, Nodule


def nodule_at(
    image_path: Path | str,
    center: Sequence[float],
    *,
    nodule_id: str = "1",
    pid: str = "",
    series_uid: str = "",
    number: int = 0,
) -> Nodule:
    """A nodule of a CT.

    Args:
        image_path: a folder of DICOM files, an archive, a NIfTI, NRRD or MetaImage file.
        center: LPS millimetres (x, y, z), as in DICOM.
        nodule_id, pid: whatever helps to find the nodule again in its outcome.
        series_uid: which series, where image_path holds several.
        number: position in a list, where there is one.

    Raises:
        ValueError: where the centre is not three finite numbers.
    """
    numbers = tuple(float(millimetres) for millimetres in center)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"center is {center!r}, not three finite numbers (LPS millimetres)")
    x, y, z = numbers
    cells = (pid, nodule_id, str(image_path), *(repr(millimetres) for millimetres in numbers))
    return Nodule(
        number=number,
        columns=dict(zip(COLUMNS, cells, strict=True)),
        pid=pid,
        nodule_id=nodule_id,
        image_path=Path(image_path).absolute(),
        center=(x, y, z),
        series_uid=series_uid,
    )
