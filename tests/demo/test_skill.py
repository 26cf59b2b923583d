"""The demo's model on two whole CTs of patients it was not trained on, served with nine views."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noduleserve.cli import app


@pytest.fixture(scope="module")
def nodules(lidc_series: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """Of each of the 12 nodules what readers said, and the scores of `noduleserve demo --series`."""
    found = []
    for name, series in lidc_series.items():
        folder = tmp_path_factory.mktemp(name)
        said = json.loads((series / "nodules.json").read_text())["nodules"]
        with (folder / "places.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["nodule_id", "coordX", "coordY", "coordZ"])
            table.writerows([number, *nodule["centroid_lps_mm"]] for number, nodule in enumerate(said))
        asked = ["--series", str(series), "--nodules", str(folder / "places.csv"), "--out", str(folder / "out")]
        done = CliRunner().invoke(app, ["demo", *asked])
        assert done.exit_code == 0, done.output
        with (folder / "out" / "results.csv").open(newline="") as file:
            for nodule, row in zip(said, csv.DictReader(file), strict=True):
                found.append(
                    {
                        "mm": nodule["diameter_mm_mean"],
                        "malignancy": nodule["ratings_mean"]["malignancy"],
                        "texture": nodule["ratings_mean"]["texture"],
                        "score": float(row["ensemble"]),
                        "solid": float(row["semantic.consistency.solid"]),
                    }
                )
    return found


def test_what_readers_call_solid_is_solid(nodules: list[dict[str, float]]) -> None:
    assert len(nodules) == 12
    assert all(nodule["solid"] > 0.5 for nodule in nodules if nodule["texture"] >= 4.5)
    assert all(nodule["solid"] < 0.2 for nodule in nodules if nodule["texture"] < 2)


def test_large_suspicious_nodules_score_above_all_small_ones(nodules: list[dict[str, float]]) -> None:
    suspicious = [n["score"] for n in nodules if n["mm"] > 10 and n["malignancy"] > 3]
    small = [n["score"] for n in nodules if n["mm"] < 10]
    assert len(suspicious) == 5 and len(small) == 6
    assert min(suspicious) > 0.5 > max(small) + 0.1
