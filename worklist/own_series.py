"""A series of one's own and the places of its nodules become a worklist: what `noduleserve demo --series` scores."""

from __future__ import annotations

import csv
from pathlib import Path

from noduleserve.errors import WorklistError

from .table import COLUMNS, is_result_column

_OF_ONE_SERIES = ("pid", "image_path", "series_uid")
_PLACES = ("nodule_id", "coordX", "coordY", "coordZ")


def own_worklist(series: Path, nodules: Path, out: Path) -> Path:
    """Write the worklist of a series into `out`.

    Args:
        series: folder of a DICOM series, or a volume in one file.
        nodules: CSV with nodule_id, coordX, coordY and coordZ (LPS millimetres), separated by commas, semicolons or
            tabs. `pid` may be left out, then it is the folder's name. Every row is taken to lie in `series`, so that
            all must be of one patient and one image_path. Columns of earlier results are dropped, all others kept.
        out: folder.

    Raises:
        WorklistError: WORKLIST_NOT_FOUND, WORKLIST_UNREADABLE, WORKLIST_COLUMNS, WORKLIST_SEVERAL.
    """
    try:
        with nodules.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
            rows, columns = list(reader), [name for name in reader.fieldnames or () if not is_result_column(name)]
    except FileNotFoundError:
        raise WorklistError(
            "WORKLIST_NOT_FOUND", f"There is no file {nodules.name}.", "Check the path of --nodules."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WorklistError(
            "WORKLIST_UNREADABLE", f"{nodules.name} cannot be read: {reason}.", "It must be CSV in UTF-8."
        ) from None
    if missing := [name for name in _PLACES if name not in columns]:
        raise WorklistError(
            "WORKLIST_COLUMNS",
            f"{nodules.name} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.",
            f"Give {', '.join(_PLACES)} (LPS millimetres), or make the file with `noduleserve worklist`.",
        )
    _require_one_series(rows, nodules.name)
    own = {"pid": series.resolve().name, "image_path": str(series.absolute())}
    out.mkdir(parents=True, exist_ok=True)
    worklist = out / "worklist-own.csv"
    with worklist.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *(c for c in columns if c not in COLUMNS)], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**own, **row, "image_path": own["image_path"]} for row in rows)
    return worklist


def _require_one_series(rows: list[dict[str, str]], name: str) -> None:
    """Refuse places in other scans: they would be scored in this one, and nothing would show it."""
    for column in _OF_ONE_SERIES:
        several = sorted({row[column].strip() for row in rows if row.get(column)})
        if len(several) > 1:
            raise WorklistError(
                "WORKLIST_SEVERAL",
                f"{name} has nodules of several series: {len(several)} values of {column}.",
                "Keep the rows of the series that is given, or score the whole file with `noduleserve score`.",
            )
