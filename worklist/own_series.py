"""A series of one's own and the places of its nodules become a worklist: what `noduleserve demo --series` scores."""

from __future__ import annotations

import csv
from pathlib import Path

from noduleserve.errors import WorklistError

from .table import COLUMNS, check_header, is_result_column, read_rows

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
        WorklistError: WORKLIST_SEVERAL, and as `read_worklist`, of the file as a whole.
    """
    rows = read_rows(nodules, _PLACES)
    names = [name.strip() for name in next(rows, [])]
    columns = [name for name in names if not is_result_column(name)]
    check_header(columns, nodules, _PLACES)
    read = [(dict(zip(names, row, strict=False)), len(row) == len(names)) for row in rows]
    _require_one_series([row for row, _ in read], nodules.name)
    own = {"pid": series.resolve().name, "image_path": str(series.absolute())}
    header = [*COLUMNS, *(name for name in columns if name not in COLUMNS)]
    out.mkdir(parents=True, exist_ok=True)
    worklist = out / "worklist-own.csv"
    with worklist.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for row, whole in read:
            cells = {**own, **row, "image_path": own["image_path"]}
            # A row of too few or too many cells stays one, which its reader refuses: no number of it can be trusted.
            table.writerow([*(cells.get(name, "") for name in header), *([] if whole else [""])])
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
