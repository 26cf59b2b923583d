"""Views are read from the CT again: those that the model got, of the series that was scored, or a sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import write_series
from report_making import scored

from noduleserve.ct.open_volume import open_volume
from noduleserve.preprocessing import required_box, views_of_request
from noduleserve.results.outcome import Outcome
from noduleserve.results.report.reread import reread


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small series of noise, its UID 1.2.3.4."""
    noise = np.random.default_rng(5).integers(-1000, 300, (40, 48, 48)).astype(np.int16)
    return write_series(tmp_path_factory.mktemp("ct") / "series", noise, spacing=(1.5, 1.5, 2.0))


def outcome(
    number: int, path: Path, center: tuple[float, float, float] | None = (30.0, 33.0, 40.0), series_uid: str = ""
) -> Outcome:
    made = scored(number, views=False)
    nodule = dataclasses.replace(made.nodule, image_path=path, center=center)
    return dataclasses.replace(made, nodule=nodule, series_uid=series_uid)


def test_views_are_those_of_the_preprocessing(ct: Path) -> None:
    centers = [(30.0, 33.0, 40.0), (40.5, 20.0, 30.0)]
    found = reread([outcome(n, ct, center, "1.2.3.4") for n, center in enumerate(centers)])
    volume = open_volume(ct)
    for views, center in zip(found, centers, strict=True):
        box = required_box(volume.geometry, center)
        shape, affine = volume.geometry.shape, volume.geometry.affine
        expected = views_of_request(volume.read_box(box), box.start, shape, affine, center)
        assert not isinstance(views, str) and views.shape == (9, 50, 50)
        np.testing.assert_array_equal(views, expected)


def test_one_that_cannot_be_read_costs_its_own_picture(ct: Path, tmp_path: Path) -> None:
    asked = [
        outcome(0, ct),
        outcome(1, tmp_path / "gone"),
        outcome(2, ct, (900.0, 0.0, 0.0)),
        outcome(3, ct, None),
        outcome(4, ct, series_uid="9.9"),
        outcome(5, ct),
    ]
    found = reread(asked)
    assert [not isinstance(views, str) for views in found] == [True, False, False, False, False, True]
    assert found[1] == "[SERIES_NOT_FOUND] There is no folder or file gone."
    assert isinstance(found[2], str) and found[2].startswith("[CENTER_OUTSIDE]")
    assert found[3] == "The results do not say where the nodule lies."
    assert found[4] == "The series that was scored is not in its place any more."  # and never another one


def test_a_damaged_file_is_told_by_its_code_alone(ct: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in ct.iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[:-2000])
    (sentence,) = reread([outcome(0, folder)])
    assert isinstance(sentence, str) and sentence.startswith("[PIXELS_")
    assert "Doe" not in sentence and "4711" not in sentence


def test_nothing_asked_nothing_read() -> None:
    assert reread([]) == []
