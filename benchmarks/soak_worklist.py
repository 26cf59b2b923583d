"""The worklist of a soak: several phantoms as DICOM under thousands of names, no two nodules alike, some rows bad."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from noduleserve.demo.phantom import Phantom, make_phantom, write_dicom
from noduleserve.worklist.table import COLUMNS

# A chest of the usual size, sampled coarsely, so that one is made in two seconds.
SHAPE_XYZ = (192, 144, 96)
SPACING_XYZ = (1.8, 1.8, 2.5)
FARTHEST_MM = 3.0  # that a centre is shifted along an axis
PLANTED = "planted"  # the worklist's column with the code that a row must end in, "" for a score
BAD = ("SERIES_NOT_FOUND", "CENTER_OUTSIDE", "WORKLIST_ROW", "PIXELS_TRUNCATED")
_TORN = "torn"
_TORN_BYTES = 1000


@dataclass(frozen=True)
class SoakWorklist:
    """A worklist, and what must come of it.

    Attributes:
        path: of the CSV file.
        rows: as they stand in it.
        series: folders that it names.
    """

    path: Path
    rows: list[dict[str, str]]
    series: int

    @property
    def planted(self) -> list[str]:
        """Of each row the code that it must end in, "" for a score."""
        return [row[PLANTED] for row in self.rows]


def make_worklist(folder: Path, nodules: int, bad: float, phantoms: int, seed: int) -> SoakWorklist:
    """Write a worklist, and the CT that it is of, into `folder`.

    Every phantom is written once; links give it as many names as there are patients, and each patient's series is
    opened anew. Centres are shifted at random, so that every request differs.

    Args:
        folder: there already, and empty.
        nodules: rows.
        bad: share of rows that cannot be scored, 0 to 1, the ways of being bad taking turns.
        phantoms: how many different ones.
        seed: of the first phantom, and of everything random.
    """
    random = np.random.default_rng(seed)
    made = [_write_phantom(folder / f"ct-{number}", seed + number) for number in range(phantoms)]
    _tear(folder / "ct-0", folder / _TORN)
    (folder / "series").mkdir()
    rows: list[dict[str, str]] = []
    patient = 0
    while len(rows) < nodules:
        image_path = Path("series") / f"{patient:05d}"
        (folder / image_path).symlink_to(Path("..") / f"ct-{patient % phantoms}", target_is_directory=True)
        rows += _rows_of(made[patient % phantoms], patient, image_path, random)
        patient += 1
    del rows[nodules:]
    spoiled = sorted(random.choice(nodules, round(nodules * bad), replace=False).tolist())
    for number, code in zip(spoiled, cycle(BAD)):
        rows[number] |= _HARM[code] | {PLANTED: code}
    return SoakWorklist(write_rows(folder / "worklist.csv", rows), rows, patient)


_HARM = {
    "SERIES_NOT_FOUND": {"image_path": "series/nowhere"},
    "CENTER_OUTSIDE": {"coordZ": "9999"},
    "WORKLIST_ROW": {"coordX": "12.5 mm"},
    "PIXELS_TRUNCATED": {"image_path": _TORN},  # all phantoms have their nodules at about the same places
}


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as a worklist; returns its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, (*COLUMNS, PLANTED))
        table.writeheader()
        table.writerows(rows)
    return path


def _write_phantom(folder: Path, seed: int) -> Phantom:
    phantom = make_phantom(seed, SHAPE_XYZ, SPACING_XYZ)
    write_dicom(phantom, folder)
    return phantom


def _tear(series: Path, torn: Path) -> None:
    """A copy of a series of which every file ends too early."""
    shutil.copytree(series, torn)
    for path in torn.iterdir():
        path.write_bytes(path.read_bytes()[:-_TORN_BYTES])


def _rows_of(phantom: Phantom, patient: int, image_path: Path, random: np.random.Generator) -> list[dict[str, str]]:
    rows = []
    for nodule in phantom.nodules:
        center = np.array(nodule.center_lps) + random.uniform(-FARTHEST_MM, FARTHEST_MM, 3)
        cells = (f"P{patient:05d}", f"{patient:05d}-{nodule.nodule_id}", image_path.as_posix())
        rows.append(dict(zip(COLUMNS, (*cells, *(f"{mm:.3f}" for mm in center)), strict=True)) | {PLANTED: ""})
    return rows
