"""Cubes and views of twelve nodules of two real CT series are those of the published code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.preprocessing import cut_cube, nine_views, required_box, views_of_request, window

if TYPE_CHECKING:
    from conftest import Expected

Array = np.ndarray[Any, Any]
NODULES = range(12)


class Nodule(NamedTuple):
    """A nodule and the voxels that its cube needs, no more."""

    series: DicomSeries
    box_start: Array
    voxels: Array
    center: tuple[float, float, float]


@pytest.fixture(scope="module")
def nodules(lidc_series: dict[str, Path], expected: Expected) -> list[Nodule]:
    series = {name: DicomSeries.open(folder) for name, folder in lidc_series.items()}
    out = []
    for row, center in zip(expected.nodules, expected.centers_lps, strict=True):
        ct = series[row["image_path"]]
        box = required_box(ct.geometry, center)
        out.append(Nodule(ct, box.start, ct.read_box(box), center))
    return out


@pytest.fixture(scope="module")
def cubes(nodules: list[Nodule]) -> list[Array]:
    return [cut_cube(n.voxels, n.box_start, n.series.geometry, n.center) for n in nodules]


def test_there_are_twelve(nodules: list[Nodule]) -> None:
    assert len(nodules) == len(NODULES)


@pytest.mark.parametrize("number", NODULES)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("crop_axial", np.s_[50]),
        ("crop_coronal", np.s_[:, 50]),
        ("crop_sagittal", np.s_[:, :, 50]),
        ("crop_lattice", np.s_[::9, ::9, ::9]),
    ],
)
def test_cubes(number: int, name: str, part: Any, cubes: list[Array], expected: Expected) -> None:
    np.testing.assert_allclose(cubes[number][part], expected.preprocessing[name][number], rtol=0, atol=1e-3)


@pytest.mark.parametrize("number", NODULES)
def test_views(number: int, cubes: list[Array], expected: Expected) -> None:
    views = nine_views(window(cubes[number]))
    np.testing.assert_allclose(views, expected.preprocessing["views"][number], rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", NODULES)
def test_views_of_a_request(number: int, nodules: list[Nodule], expected: Expected) -> None:
    nodule = nodules[number]
    views = views_of_request(
        nodule.voxels,
        nodule.box_start.astype(np.int32),
        nodule.series.geometry.shape.astype(np.int32),
        nodule.series.geometry.affine,
        np.array(nodule.center),
    )
    np.testing.assert_allclose(views, expected.preprocessing["views"][number], rtol=0, atol=1e-5)
