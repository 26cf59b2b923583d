"""Nodules of one series together, so that it is opened once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noduleserve.worklist.table import Nodule


@dataclass(frozen=True, eq=False)
class Series:
    """Nodules that are read from one series.

    Attributes:
        path: the place that it is read from.
        series_uid: which series of that place, "" for the only one.
        nodules: in the order of the worklist.
    """

    path: Path
    series_uid: str
    nodules: list[Nodule]


def in_series(nodules: Iterable[Nodule]) -> Iterator[Series]:
    """The nodules by place and series, in the order in which places and series first appear.

    Only a sequence is looked at as a whole.  Of any other iterable each nodule comes by itself as soon as it is there,
    since the next may be long in coming.
    """
    if not isinstance(nodules, Sequence):
        for nodule in nodules:
            yield Series(nodule.image_path, nodule.series_uid, [nodule])
        return
    by_path: dict[Path, dict[str, list[Nodule]]] = {}
    for nodule in nodules:
        by_path.setdefault(nodule.image_path, {}).setdefault(nodule.series_uid, []).append(nodule)
    for path, by_uid in by_path.items():
        for series_uid, group in by_uid.items():
            yield Series(path, series_uid, group)
