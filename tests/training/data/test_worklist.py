"""A worklist with labels: what its columns mean, and that a cell in doubt is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series

from noduleserve.errors import TrainingError
from noduleserve.export.text.features import Features
from noduleserve.training.data.sources import open_source
from noduleserve.training.data.worklist import open_worklist

HEADER = "pid,nodule_id,image_path,coordX,coordY,coordZ"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    noise = np.random.default_rng(0).integers(-1000, 400, (20, 30, 30)).astype(np.int16)
    write_series(root / "ct", noise, spacing=(2, 2, 3))
    return root


def write(folder: Path, columns: str, *rows: str) -> Path:
    """A worklist of one series: patient A with the nodules 1, 2, ... and the cells of the further columns."""
    file = folder / "labelled.csv"
    lines = [f"A,{number},ct,30,30,30,{row}" for number, row in enumerate(rows, 1)]
    file.write_text("\n".join([f"{HEADER},{columns}", *lines]))
    return file


def test_labels_ratings_values_and_diameters_are_read(folder: Path, features: Features) -> None:
    file = write(
        folder,
        "label,malignancy,texture,Remark,pleural attachment,consistency,diameter",
        "1,2,1,anything,Present,,7.5",
        ",4,5,,,part-solid,",
        ",,,,,,",
        "0,,,,,,",
    )
    first, second, third, fourth = open_worklist(file, features).examples
    assert (first.name, first.patient, first.label, first.diameter) == ("A/1", "A", 1, 7.5)  # the label wins
    assert first.values == {"consistency": "pure ground glass", "pleural attachment": "present"}
    assert first.ratings == {"malignancy": 2, "texture": 1}
    assert (second.label, second.values) == (1, {"consistency": "part-solid"})  # the value given wins
    assert second.shares("consistency") == {"part-solid": 1}
    assert (third.label, third.values, third.diameter) == (None, {}, None)
    assert fourth.label == 0


def test_its_views_are_the_nine(folder: Path) -> None:
    source = open_source(f"worklist:{write(folder, 'label', '1', '0')}")
    assert source.views(1, None).shape == (9, 50, 50)
    assert 1 <= len(source.views(1, np.random.default_rng(0))) <= 3


@pytest.mark.parametrize(
    ("columns", "rows", "sentence"),
    [
        ("remark", ["x"], "neither a column"),
        ("label", ["yes"], "row 1: the label is 'yes'"),
        ("label", ["1", "2"], "row 2: the label is '2'"),
        ("texture", ["6"], "texture is '6', not a rating"),
        ("texture", ["solid"], "texture is 'solid', not a number"),
        ("texture", ["nan"], "not a number"),
        ("calcification", ["5.5"], "calcification is '5.5', not a rating"),
        ("diameter,label", ["wide,1"], "diameter is 'wide'"),
        ("consistency", ["hard"], "consistency is 'hard', not one of solid"),
    ],
)
def test_a_cell_that_may_mean_something_else_is_refused(
    folder: Path, features: Features, columns: str, rows: list[str], sentence: str
) -> None:
    with pytest.raises(TrainingError, match=sentence) as refusal:
        open_worklist(write(folder, columns, *rows), features)
    assert refusal.value.code == "LABELS_INVALID"


def test_a_nodule_that_is_there_twice_or_has_no_place_is_refused(folder: Path, features: Features) -> None:
    file = folder / "twice.csv"
    file.write_text(f"{HEADER},label\nA,1,ct,30,30,30,1\nA,1,ct,30,30,31,0\n")
    with pytest.raises(TrainingError, match="A/1 is in it twice"):
        open_worklist(file, features)
    file.write_text(f"{HEADER},label\nA,1,ct,30,,30,1\n")
    with pytest.raises(TrainingError, match="row 1: coordY is empty"):
        open_worklist(file, features)


def test_real_series_give_the_expected_views(lidc_series: dict[str, Path], shared: Path, tmp_path: Path) -> None:
    rows = (shared / "reference" / "expected" / "nodules.csv").read_text().splitlines()
    table = [row.split(",")[:6] for row in rows]
    root = next(iter(lidc_series.values())).parent
    chosen = [[*table[0], "label"], [*table[1], "1"], [*table[8], "0"]]
    for row in chosen[1:]:
        row[2] = str(root / Path(row[2]).relative_to("ct")) if row[2].startswith("ct/") else str(root / row[2])
    file = tmp_path / "real.csv"
    file.write_text("\n".join(",".join(row) for row in chosen))
    source = open_source(f"worklist:{file}")
    with np.load(shared / "reference" / "expected" / "preprocessing.npz") as arrays:
        expected = arrays["views"][[0, 7]]
    for number in range(2):
        np.testing.assert_allclose(source.views(number, None), expected[number], atol=1e-5)
