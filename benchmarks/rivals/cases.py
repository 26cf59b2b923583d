"""The nodules that every rival is asked about: boxes read from a series as a client reads them, never made up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.readers.series_reader import SeriesReader
from noduleserve.client.readers.work import Place, Refusal
from noduleserve.demo.command import make_worklist
from noduleserve.errors import WorklistError
from noduleserve.preprocessing import VolumeGeometry, required_box, views_of_request
from noduleserve.worklist.table import Nodule, read_worklist

from .base import Case

MOST_CASES = 64  # some 2 MB each, all of them in memory


def cases_of(
    nodules: Iterable[Nodule], most: int = MOST_CASES, tell: Callable[[str], None] = lambda _: None
) -> list[Case]:
    """Read the boxes of nodules of a worklist; those that cannot be read are told and left out.

    Args:
        nodules: in the order in which the cases are wanted.
        most: the first so many that can be read.
        tell: is called with a line for each nodule that is left out.

    Raises:
        WorklistError: CASES_NONE.
    """
    cases: dict[str, Case] = {}
    reader = SeriesReader()
    try:
        for nodule in nodules:
            if len(cases) >= most:
                tell(f"only the first {most} nodules are taken")
                break
            read = _read(nodule, reader)
            if isinstance(read, Case):
                name = read.name if read.name not in cases else f"{read.name} #{nodule.number}"
                cases[name] = Case(name, read.voxels, read.box, read.geometry, read.center, read.views)
            else:
                tell(f"nodule {nodule.nodule_id} is left out: {read}")
    finally:
        reader.close()
    if not cases:
        raise WorklistError(
            "CASES_NONE", "No nodule of the worklist can be read.", "See what `noduleserve score` says of it."
        )
    return list(cases.values())


def phantom_cases(seed: int = 7) -> list[Case]:
    """The five nodules of the demo's synthetic chest CT."""
    with tempfile.TemporaryDirectory() as folder:
        return cases_of(read_worklist(make_worklist(Path(folder), seed)))


def cases_from(
    worklist: Path | None, most: int = MOST_CASES, tell: Callable[[str], None] = lambda _: None
) -> list[Case]:
    """The nodules of a worklist, see `cases_of`; without one the demo's."""
    return cases_of(read_worklist(worklist), most, tell) if worklist else phantom_cases()[:most]


def warm_up_case(seed: int = 0) -> Case:
    """Noise in a volume of its own: what a rival computes before anything is measured, and never afterwards."""
    geometry = VolumeGeometry((180, 180, 90), np.diag([0.7, 0.7, 2.0, 1.0]))
    center = (63.0, 63.0, 90.0)
    box = required_box(geometry, center)
    voxels = np.random.default_rng(seed).integers(-1000, 500, box.shape[::-1]).astype(np.int16)
    return Case("warm-up", voxels, box, geometry, center, _views(voxels, box.start, geometry, center))


def _read(nodule: Nodule, reader: SeriesReader) -> Case | str:
    """The case, or why there is none."""
    if nodule.problem or nodule.center is None:
        return nodule.problem or "it has no centre"
    cut = reader.cut(Place(nodule.image_path, nodule.series_uid), nodule.center)
    if isinstance(cut, Refusal):
        return f"[{cut.code}] {cut.sentence}"
    views = _views(cut.voxels, cut.box.start, cut.geometry, nodule.center)
    return Case(f"{nodule.pid}/{nodule.nodule_id}", cut.voxels, cut.box, cut.geometry, nodule.center, views)


def _views(
    voxels: NDArray[np.int16], start: NDArray[np.int64], geometry: VolumeGeometry, center: tuple[float, float, float]
) -> NDArray[np.float32]:
    return views_of_request(voxels, start, geometry.shape, geometry.affine, center)
