"""A folder of 2-D crops drawn by a formula, in the layout that training reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from noduleserve.training.data.vocabulary import RATINGS

USUAL = dict.fromkeys(RATINGS, 1.0) | {"calcification": 6.0, "texture": 5.0, "margin": 5.0, "sphericity": 5.0}


def write_crops(
    folder: Path,
    readers: Sequence[Sequence[Mapping[str, float]]],
    spacing: float = 0.7,
    drop_column: str = "",
    skip_crop: int = -1,
) -> Path:
    """A crop for each nodule, 10 HU a row and 1 HU a column, rated as its readers say; two nodules to a patient."""
    rows = []
    for number, several in enumerate(readers):
        row = {"noduleID": str(number), "patient_id": f"P{number // 2}", "PixelSpacing": str(spacing)}
        row |= {"EquivDiameter": str(5.0 + number)}
        for reader in range(4):
            given = several[reader] if reader < len(several) else {}
            row |= {f"{n[0].upper()}{n[1:]}_{reader + 1}": str(given.get(n, 0)) for n in RATINGS}
        rows.append({key: value for key, value in row.items() if key != drop_column})
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "nodules.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    kept = [number for number in range(len(readers)) if number != skip_crop]
    gradient = np.add.outer(10 * np.arange(71), np.arange(71)) - 900
    hu = np.stack([gradient + 100 * number for number in kept]).astype(np.int16)
    # Stored in another order than the table's, since nothing says that the two agree.
    np.savez(folder / "crops_hu_int16.npz", hu=hu[::-1], noduleID=np.array(kept[::-1], np.int32))
    return folder
