"""The folder of crops: what is read of it, and that its views are those that serving makes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crop_writing import USUAL, write_crops

from noduleserve.ct.open_volume import open_volume
from noduleserve.errors import TrainingError
from noduleserve.preprocessing import cut_cube, views_of_request
from noduleserve.preprocessing.box import required_box
from noduleserve.preprocessing.views import nine_views, window
from noduleserve.training.data.augmentation import Variation, plain_view
from noduleserve.training.data.crops import Crops
from noduleserve.training.data.sources import open_source


def test_examples_are_what_all_readers_say(tmp_path: Path) -> None:
    readers = [
        [USUAL | {"malignancy": 5.0, "texture": 1.0}, USUAL | {"malignancy": 2.0, "texture": 2.0}],
        [USUAL | {"malignancy": 3.0}],
        [],
    ]
    first, second, third = Crops(write_crops(tmp_path, readers)).examples
    assert (first.name, first.patient, first.label, first.diameter) == ("0", "P0", 1, 5.0)
    assert first.ratings["malignancy"] == 3.5
    assert first.ratings["texture"] == 1.5
    assert first.values["consistency"] == "pure ground glass"
    assert first.shares("consistency") == {"pure ground glass": 0.5, "part-solid": 0.5}
    assert (second.label, second.soft_label, len(second.readings)) == (None, 0.5, 1)
    assert (third.label, third.soft_label, third.ratings, third.values) == (None, None, {}, {})


def test_views_belong_to_their_row_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    crops = Crops(write_crops(tmp_path, [[USUAL]] * 3, spacing=1.0))
    for number in range(3):
        view = crops.views(number, None)
        assert view.shape == (1, 50, 50)
        # 10 HU from row to row and 1 HU from column to column, the crop's middle at the view's
        expected = np.add.outer(10 * np.arange(10, 60), np.arange(10, 60)) - 900 + 100 * number
        np.testing.assert_allclose(view[0], window(expected.astype(np.float32)), atol=1e-6)


def test_varied_views_are_as_many_as_was_asked_for_and_repeat_with_the_seed(tmp_path: Path) -> None:
    crops = Crops(write_crops(tmp_path, [[USUAL]] * 2), Variation(fewest=2, most=5))
    several = [crops.views(1, np.random.default_rng(seed)) for seed in range(40)]
    assert {len(views) for views in several} == {2, 3, 4, 5}
    assert all(views.dtype == np.float32 and views.min() >= 0 and views.max() <= 1 for views in several)
    np.testing.assert_array_equal(several[3], crops.views(1, np.random.default_rng(3)))
    assert np.abs(several[3][0] - several[3][1]).max() > 0.05


def test_where_figures_are_taken_a_view_may_be_seen_from_eight_sides(tmp_path: Path) -> None:
    one, eight = (Crops(write_crops(tmp_path, [[USUAL]]), Variation(orientations=n)).views(0, None) for n in (1, 8))
    assert (one.shape, eight.shape) == ((1, 50, 50), (8, 50, 50))
    np.testing.assert_array_equal(eight[0], one[0])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"drop_column": "Margin_1"}, "lacks the column Margin_1"),
        ({"skip_crop": 1}, "no crop of the noduleID 1"),
        ({"spacing": 70.0}, "not in millimetres"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(tmp_path: Path, broken: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence) as refusal:
        Crops(write_crops(tmp_path, [[USUAL]] * 2, **broken))
    assert refusal.value.code == "CROPS_UNREADABLE"


def test_no_folder_and_an_unknown_kind_of_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="CROPS_UNREADABLE"):
        open_source(f"crops:{tmp_path / 'nothing'}")
    for name in ("pictures:there", "crops:", str(tmp_path)):
        with pytest.raises(TrainingError, match="SOURCE_UNKNOWN"):
            open_source(name)


def test_the_real_crops_are_read_whole(real_crops: Path) -> None:
    examples = Crops(real_crops).examples
    assert len(examples) == 2680
    assert len({example.patient for example in examples}) == 866
    assert len({example.name for example in examples}) == 2680
    assert all(1 <= len(example.readings) <= 4 for example in examples)
    labels = [example.label for example in examples]
    assert [labels.count(kind) for kind in (1, 0, None)] == [702, 1340, 638]
    assert examples[0].ratings["malignancy"] == (5 + 5 + 5 + 4) / 4


def test_a_real_crop_is_servings_axial_view(real_crops: Path, lidc_series: dict[str, Path]) -> None:
    """The same slice of the same nodule, cut out by serving: rows and columns run the same way."""
    crops = Crops(real_crops)
    with (real_crops / "nodules.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    volume = open_volume(lidc_series["lidc-idri-0003"] / "dicom")
    geometry = volume.geometry
    compared = 0
    for number, row in enumerate(rows):
        if row["SeriesInstanceUid"] != volume.series_uid:
            continue
        outline = np.array([point.split(";") for point in row["coords"].strip("|").split("|")], float)  # column; row
        column, line = np.floor((outline.min(axis=0) + outline.max(axis=0)) / 2)
        center = geometry.affine @ [column, line, (float(row["imageZposition"]) - geometry.affine[2, 3]) / 2.5, 1]
        box = required_box(geometry, center[:3])
        served = views_of_request(volume.read_box(box), box.start, geometry.shape, geometry.affine, center[:3])[0]
        own = crops.views(number, None)[0]
        assert _alike(own, served) > 0.97  # serving's centre and height are rounded to its lattice of 1 mm
        others = [np.rot90(own, turns) for turns in (1, 2, 3)] + [own.T, own[::-1], own[:, ::-1], own[::-1, ::-1].T]
        assert max(_alike(other, served) for other in others) < 0.9
        compared += 1
    assert compared == 3


def test_a_crop_of_a_lattices_own_plane_is_the_view_itself() -> None:
    """1-mm voxels whose places are the lattice's: resampling a crop and cutting a cube give the same numbers."""
    from noduleserve.preprocessing import VolumeGeometry

    voxels = np.random.default_rng(0).integers(-1000, 500, (130, 130, 130)).astype(np.int16)
    geometry = VolumeGeometry((130, 130, 130), np.eye(4))
    z, y, x = 60, 64, 70
    view = nine_views(window(cut_cube(voxels, (0, 0, 0), geometry, (x, y, z))))[0]
    crop = voxels[z, y - 35 : y + 36, x - 35 : x + 36]
    np.testing.assert_allclose(plain_view(crop, 1.0), view, atol=1e-6)


def _alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Correlation of the middle, which lies within the crop."""
    inner = slice(5, 45)
    return float(np.corrcoef(one[inner, inner].ravel(), other[inner, inner].ravel())[0, 1])
