"""Files of results and labels as the commands' users have them, written by a test row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

RELEASE = "ns-0123456789abcdef0123"
Rows = Sequence[Mapping[str, object]]
Write = Callable[..., Path]


def scored(pid: str, nodule: object, score: float, **more: object) -> dict[str, object]:
    row = {"pid": pid, "nodule_id": nodule, "ensemble": score, "release": RELEASE, "status": "scored"}
    return row | {"error_code": "", "warnings": ""} | more


def failed(pid: str, nodule: object, code: str = "SERIES_UNEVEN") -> dict[str, object]:
    return scored(pid, nodule, 0.0) | {"ensemble": "", "release": "", "status": "failed", "error_code": code}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows as CSV; the columns are those of all rows in the order of their first appearance."""

    def written(name: str, rows: Rows) -> Path:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)
        return tmp_path / name

    return written


@pytest.fixture(scope="session")
def cohort() -> tuple[Rows, Rows]:
    """Results and labels of 120 patients with one to three nodules: features, scanners, failures, gaps."""
    rng = np.random.default_rng(11)
    results, labels = [], []
    for patient in range(120):
        risk = rng.normal(-1.2, 1.2)
        for nodule in range(1, 2 + rng.integers(3)):
            pid, z = f"P{patient:03d}", risk + rng.normal(0, 0.6)
            rating = int(np.clip(round(3 - z + rng.normal(0, 0.8)), 1, 5))
            raw = 1 / (1 + np.exp(-(1.5 * z + rng.normal(0, 0.3, 2))))
            poor = 1 / (1 + np.exp(rating - 3 + rng.normal()))
            folds = {f"raw_{k}": float(p) for k, p in enumerate(raw)} | {"ensemble": float(raw.mean())}
            features = {"semantic.margin.sharp": 1 - poor, "semantic.margin.poorly defined": poor}
            row = scored(pid, nodule, 0.0, **(folds | features))
            if rng.random() < 0.05:
                row = dict.fromkeys(row, "") | failed(pid, nodule)
            results.append(row)
            label = {"pid": pid, "nodule_id": nodule, "label": int(rng.random() < 1 / (1 + np.exp(-1.3 * z)))}
            label |= {"margin": rating, "scanner": rng.choice(["A", "B", "rare"], p=[0.5, 0.45, 0.05])}
            labels.append(label | {"slice_thickness": rng.choice(["1", "1.25", "2.5", "5", ""])})
    return results, labels
