"""LIDC-IDRI XML: the outlines that up to four readers drew on one CT series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import WorklistError

from .base import Choice, Marked, Marking, unreadable
from .ct_series import CtFinder, CtSeries
from .outline import Enclosed, enclosed

_MOST_BYTES = 2**26
_SMALL_RADIUS_MM = 1.5  # of a nodule marked with one point, which is below 3 mm
_NEAREST_MM = 3.0  # marks of two readers nearer than this are of one nodule, however small it is


@dataclass(frozen=True)
class _Mark:
    """A nodule as one reader marked it."""

    reader: int
    center: tuple[float, float, float]  # LPS mm
    radius: float  # mm, of the sphere of the same volume
    small: bool


def read_lidc(path: Path, finder: CtFinder, choice: Choice) -> Marked:
    """The nodules of all reading sessions, the marks of several readers joined to one nodule.

    A reader's centre is the centroid of the volume inside the outlines, exclusions being holes; a nodule's centre
    is the mean over its readers. Marks of different readers are joined, nearest pair first, where the centre of
    one lies within the sphere of the other. Non-nodules are left out, and so are nodules below 3 mm unless
    `choice.small`. Nodules are numbered from feet to head.

    Raises:
        WorklistError: WORKLIST_SOURCE_UNREADABLE, WORKLIST_SOURCE_NEEDS_SERIES, WORKLIST_SOURCE_OTHER_SERIES.
    """
    root = _parse(path)
    series_uid = _text(root, "{*}ResponseHeader/{*}SeriesInstanceUid")
    series = finder.need(path, series_uid)
    if series_uid != series.uid:
        raise WorklistError(
            "WORKLIST_SOURCE_OTHER_SERIES",
            f"{path.name} was marked on another CT series than the one given.",
            "Give the folder of the series that it names as --series.",
        )
    marks = [
        _mark(path, reader, nodule, series)
        for reader, session in enumerate(root.iterfind("{*}readingSession"))
        for nodule in session.iterfind("{*}unblindedReadNodule")
    ]
    outlined = joined([mark for mark in marks if not mark.small])
    points = [mark for mark in marks if mark.small]
    # A nodule that one reader outlined and another called small is there already.
    alone = joined([mark for mark in points if not any(_same(mark, other) for nodule in outlined for other in nodule)])
    nodules = sorted(outlined + (alone if choice.small else []), key=lambda marks: _mean(marks)[::-1])
    markings = [
        Marking(
            nodule_id=str(number),
            center=_mean(of_nodule),
            label="nodule below 3 mm" if of_nodule[0].small else "nodule",
            diameter_mm=None if of_nodule[0].small else 2 * float(np.mean([mark.radius for mark in of_nodule])),
            readers=len(of_nodule),
        )
        for number, of_nodule in enumerate(nodules, 1)
    ]
    skipped = [] if choice.small or not alone else [f"{len(alone)} nodules below 3 mm (taken with --small)"]
    return Marked(markings, pid=series.pid, series_uid=series.uid, left_out=skipped)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type: entities, the only danger of reading XML, can be declared nowhere else."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a document type")


def _parse(path: Path) -> ElementTree.Element:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        root = ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise unreadable(path, f"it is no XML of a LIDC reading ({type(error).__name__})") from error
    if root is None or not root.tag.endswith("LidcReadMessage"):
        raise unreadable(path, "it is no LidcReadMessage")
    return root


def _mark(path: Path, reader: int, nodule: ElementTree.Element, series: CtSeries) -> _Mark:
    outlines = [_outline(path, roi, series) for roi in nodule.iterfind("{*}roi")]
    if not outlines:
        raise unreadable(path, "a nodule has no outline")
    if len(outlines) == 1 and len(outlines[0]) == 1:
        x, y, z = outlines[0][0].tolist()
        return _Mark(reader, (x, y, z), _SMALL_RADIUS_MM, small=True)
    try:
        inside = enclosed(outlines)
    except ValueError as error:
        raise unreadable(path, f"it holds {error}") from error
    if inside is None:  # drawn as a line
        x, y, z = np.concatenate(outlines).mean(axis=0).tolist()
        inside = Enclosed((x, y, z), 2 * _SMALL_RADIUS_MM)
    return _Mark(reader, inside.center, inside.diameter_mm / 2, small=False)


def _outline(path: Path, roi: ElementTree.Element, series: CtSeries) -> NDArray[np.float64]:
    """One outline in LPS millimetres [n, 3]; its coordinates are columns and rows counted from 0."""
    plane = series.planes.get(_text(roi, "{*}imageSOP_UID"))
    if plane is None:
        raise WorklistError(
            "WORKLIST_SOURCE_OTHER_SERIES",
            f"{path.name} marks an image that is not in the CT series.",
            "Give the complete series as --series.",
        )
    try:
        pixels = np.array(
            [[float(_text(e, "{*}xCoord")), float(_text(e, "{*}yCoord"))] for e in roi.iterfind("{*}edgeMap")]
        )
    except ValueError as error:
        raise unreadable(path, "an outline holds something that is no number") from error
    if not pixels.size or not np.isfinite(pixels).all():
        raise unreadable(path, "an outline is empty or not made of finite numbers")
    return plane.lps(pixels)


def _text(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _distance(a: _Mark, b: _Mark) -> float:
    return math.dist(a.center, b.center)


def _same(a: _Mark, b: _Mark) -> bool:
    return _distance(a, b) <= max(a.radius, b.radius, _NEAREST_MM)


def joined(marks: list[_Mark]) -> list[list[_Mark]]:
    """Marks that are of one nodule put together, nearest first; no nodule holds two marks of one reader."""
    nodule_of = {id(mark): [mark] for mark in marks}
    for a, b in sorted(combinations(marks, 2), key=lambda pair: _distance(*pair)):
        one, other = nodule_of[id(a)], nodule_of[id(b)]
        if _same(a, b) and not {mark.reader for mark in one} & {mark.reader for mark in other}:
            one.extend(other)
            nodule_of.update({id(mark): one for mark in other})
    return list({id(nodule): nodule for nodule in nodule_of.values()}.values())


def _mean(marks: list[_Mark]) -> tuple[float, float, float]:
    x, y, z = np.mean([mark.center for mark in marks], axis=0).tolist()
    return x, y, z
