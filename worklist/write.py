"""Writes a worklist that `read_worklist` reads back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from noduleserve.errors import WorklistError

from .collect import Row
from .table import COLUMNS, read_worklist

MORE_COLUMNS = ("series_uid", "source", "source_kind", "label", "diameter_mm", "readers")


def check_new(out: Path, force: bool) -> None:
    """Refuse to overwrite a file unless forced to.

    Raises:
        WorklistError: WORKLIST_EXISTS.
    """
    if out.exists() and not force:
        raise WorklistError(
            "WORKLIST_EXISTS", f"{out.name} is there already.", "Give another --out, or --force to replace it."
        )


def write_worklist(out: Path, rows: Sequence[Row], *, force: bool = False) -> None:
    """Write rows as a worklist, and read it back before it takes its name.

    `image_path` is relative where the CT lies below the worklist's folder, so that both can be moved together.
    Coordinates are LPS millimetres to 0.0001 mm.

    Raises:
        WorklistError: WORKLIST_EXISTS, WORKLIST_UNWRITABLE, WORKLIST_EMPTY.
    """
    check_new(out, force)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *MORE_COLUMNS])
            writer.writerows(_cells(row, out.absolute().parent) for row in rows)
        _check(part, rows)
        part.replace(out)
    except OSError as error:
        raise WorklistError(
            "WORKLIST_UNWRITABLE",
            f"{out.name} cannot be written ({error.strerror}).",
            "Check the folder and its space.",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _cells(row: Row, folder: Path) -> list[str]:
    marking = row.marking
    return [
        row.pid,
        marking.nodule_id,
        _image_path(row.image, folder),
        *(f"{millimetres:.4f}" for millimetres in marking.center),
        row.series_uid,
        row.source.name,
        row.kind,
        marking.label,
        "" if marking.diameter_mm is None else f"{marking.diameter_mm:.2f}",
        "" if marking.readers is None else str(marking.readers),
    ]


def _image_path(image: Path | None, folder: Path) -> str:
    if image is None:
        return ""
    absolute = image.absolute()
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)


def _check(part: Path, rows: Sequence[Row]) -> None:
    """Hold what was written against the rows: a centre that is not read back as it was must not be scored."""
    nodules = read_worklist(part)
    for nodule, row in zip(nodules, rows, strict=True):
        same = nodule.center is not None and nodule.nodule_id == row.marking.nodule_id
        same = same and all(abs(a - b) < 1e-3 for a, b in zip(nodule.center or (), row.marking.center, strict=True))
        if not same or (nodule.problem and row.image is not None):
            raise WorklistError(
                "WORKLIST_UNWRITABLE",
                f"Row {nodule.number + 1} would not be read back as it is ({nodule.problem or 'its numbers changed'}).",
                "Check the path of the CT and the names that the source gives.",
            )
