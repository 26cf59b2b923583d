"""What a nodule's outcome is filed under: the same key is the same nodule, scored the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from noduleserve.worklist.table import Nodule

_CENTER_COLUMNS = ("coordX", "coordY", "coordZ")


@dataclass(frozen=True)
class Key:
    """Identity of an outcome.

    Two outcomes with equal keys are of one nodule, one release and one preprocessing: one stands for the other.

    Attributes:
        series: SeriesInstanceUID of the series that was opened, or where there is none "path:" and more; see `key_of`.
        nodule_id: as the worklist gives it.
        center: LPS millimetres x, y, z, each as Python's repr of the float64; or "cell:" and the worklist's cell as it
            stands, for each of the three, where the row cannot be used.
        release: release id of the served model.
        preprocessing: version of the preprocessing.
    """

    series: str
    nodule_id: str
    center: tuple[str, str, str]
    release: str
    preprocessing: str

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, or "" where none is known."""
        return "" if self.series.startswith("path:") else self.series

    @property
    def canonical(self) -> bytes:
        """The key as the one JSON text that its digest is taken of: names sorted, no space, ASCII."""
        fields = {
            "center": list(self.center),
            "nodule_id": self.nodule_id,
            "preprocessing": self.preprocessing,
            "release": self.release,
            "series": self.series,
        }
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii")

    @property
    def text(self) -> str:
        """SHA-256 of `canonical`, 64 hexadecimal digits in lower case."""
        return hashlib.sha256(self.canonical).hexdigest()


def key_of(nodule: Nodule, release: str, preprocessing: str, *, series_uid: str = "", stamp: str = "") -> Key:
    """The key of a worklist's row.

    Args:
        nodule: the row.
        release: release id of the served model.
        preprocessing: version of the preprocessing.
        series_uid: SeriesInstanceUID of the series that was opened for the row, or "" where it could not be opened or
            has none (NIfTI). Then the path, the series that was asked for and the stamp stand for the series.
        stamp: of the file or folder at image_path, see `stamp_of`, so that another file under an old name is another
            series, and one that could not be read is tried again once it has changed.
    """
    usable = nodule.center is not None and not nodule.problem
    series = series_uid if usable and series_uid else f"path:{stamp}:{nodule.series_uid}:{nodule.image_path}"
    return Key(series, nodule.nodule_id, _center(nodule), release, preprocessing)


def stamp_of(path: Path) -> str:
    """Size in bytes and time of change in nanoseconds of a file or folder, as "<size>-<time>"; "" where there is none.

    The size is left out (0) for a folder, which has none of its own.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a character that no path can hold
        return ""
    return f"{0 if path.is_dir() else status.st_size}-{status.st_mtime_ns}"


def worklist_digest(nodules: Iterable[Nodule]) -> str:
    """SHA-256 of a worklist's rows in their order, 64 hexadecimal digits: what each row says, and where its CT lies."""
    digest = hashlib.sha256()
    for nodule in nodules:
        row = [str(nodule.image_path), *(part for cell in nodule.columns.items() for part in cell)]
        digest.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n")
    return digest.hexdigest()


def _center(nodule: Nodule) -> tuple[str, str, str]:
    if nodule.center is None or nodule.problem:
        # "cell:" keeps an unusable row from meeting a usable one whose numbers are written the same.
        x, y, z = ("cell:" + nodule.columns.get(name, "") for name in _CENTER_COLUMNS)
    else:
        x, y, z = (repr(float(millimetres) + 0.0) for millimetres in nodule.center)  # + 0.0: there is no -0.0
    return x, y, z
