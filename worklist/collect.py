"""From files that radiologists have marked nodules in to the rows of a worklist."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from noduleserve.errors import NoduleserveError, WorklistError

from .sources.base import MOST_NODULES, Choice, Kind, Marking, clean, unreadable
from .sources.ct_series import CtFinder, CtSeries, read_dicom_header
from .sources.lidc import read_lidc
from .sources.mask import MASK_SUFFIXES, read_mask
from .sources.rtstruct import read_rtstruct
from .sources.seg import read_seg
from .sources.sr import read_sr

KINDS = {
    kind.name: kind
    for kind in (
        Kind("lidc", read_lidc),
        Kind("rtstruct", read_rtstruct),
        Kind("seg", read_seg),
        Kind("sr", read_sr),
        Kind("mask", read_mask),
    )
}
_LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
_KIND_OF_CLASS = {
    RTStructureSetStorage: "rtstruct",
    SegmentationStorage: "seg",
    _LABEL_MAP_SEGMENTATION: "seg",
    EnhancedSRStorage: "sr",
    ComprehensiveSRStorage: "sr",
    Comprehensive3DSRStorage: "sr",
}
_LIDC_HEAD = 4096  # bytes of an XML file in which its root must stand


@dataclass(frozen=True)
class Row:
    """One nodule of the new worklist.

    Attributes:
        pid: PatientID, or what `--pid` says, or the source's name.
        marking: the nodule, with an id that no other row of this patient has.
        image: folder or file of the CT, or None where it was not found.
        series_uid: SeriesInstanceUID of the CT, or "".
        source: file that it was marked in.
        kind: of the source.
    """

    pid: str
    marking: Marking
    image: Path | None
    series_uid: str
    source: Path
    kind: str


@dataclass(frozen=True)
class Collected:
    """What one source came to.

    Attributes:
        source: the file.
        kind: of the source, or "" where it is of none.
        rows: its nodules; empty where it failed.
        error: why it failed, or None.
        left_out: what was passed over, a sentence each.
    """

    source: Path
    kind: str
    rows: Sequence[Row] = ()
    error: NoduleserveError | None = None
    left_out: Sequence[str] = ()


def find_sources(given: Sequence[Path], kind: str = "auto") -> list[tuple[Path, str]]:
    """The files to read with their kinds: those given, and of a folder all files of a kind that is looked for.

    In a folder, images (NIfTI, NRRD, MetaImage) are taken for masks only with kind "mask": most are CT.

    Args:
        given: files and folders.
        kind: "auto", or a key of `KINDS`, which every file given must be of.

    Returns:
        (file, kind), each file once; kind "" where a file that was given is of none.

    Raises:
        WorklistError: WORKLIST_SOURCE_NOT_FOUND.
    """
    found: dict[Path, str] = {}
    for path in given:
        if path.is_dir():
            for file in _files(path):
                its = kind_of(file)
                if its and (its == kind or (kind == "auto" and its != "mask")):
                    found.setdefault(file, its)
        elif path.exists():
            found.setdefault(path, kind_of(path) if kind == "auto" else kind)
        else:
            raise WorklistError(
                "WORKLIST_SOURCE_NOT_FOUND", f"There is no file or folder {path.name}.", "Check the path."
            )
    return list(found.items())


def kind_of(path: Path) -> str:
    """The kind of a file by its content, of an image by its name; "" where it is of none."""
    name = path.name.lower()
    if name.endswith(MASK_SUFFIXES):
        return "mask"
    if name.endswith(".xml"):
        try:
            with path.open("rb") as file:
                return "lidc" if b"LidcReadMessage" in file.read(_LIDC_HEAD) else ""
        except OSError:
            return ""
    header = read_dicom_header(path, ["SOPClassUID"])
    return "" if header is None else _KIND_OF_CLASS.get(str(header.get("SOPClassUID", "")), "")


class Collector:
    """Reads sources one by one; nodule ids are unique for each patient over all of them."""

    def __init__(self, series: Path | None = None, pid: str = "", choice: Choice | None = None) -> None:
        """Take the CT from `series` (or from beside each source), and name every patient `pid` where given."""
        self._finder, self._pid, self._choice = CtFinder(series), clean(pid), choice or Choice()
        self._ids: set[tuple[str, str]] = set()

    def collect(self, source: Path, kind: str) -> Collected:
        """The rows of one source, or why there are none; raises nothing that a source can provoke."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's repeat the values of attributes: patient data
                return self._collect(source, kind)
        except NoduleserveError as error:
            return Collected(source, kind, error=error)
        except Exception as error:  # whatever a damaged file provokes in the libraries that read it
            return Collected(source, kind, error=unreadable(source, f"it cannot be read ({type(error).__name__})"))

    def _collect(self, source: Path, kind: str) -> Collected:
        if not kind:
            raise WorklistError(
                "WORKLIST_SOURCE_UNKNOWN",
                f"{source.name} is no LIDC XML, RTSTRUCT, SEG, SR or mask.",
                "Give a file of one of these kinds.",
            )
        marked = KINDS[kind].read(source, self._finder, self._choice)
        if len(marked.markings) > MOST_NODULES:
            raise WorklistError(
                "WORKLIST_SOURCE_TOO_MANY",
                f"{source.name} marks {len(marked.markings)} nodules; the limit is {MOST_NODULES}.",
                "Check that it marks nodules; choose by name with --roi REGEX.",
            )
        series = self._finder.find(source, marked.series_uid, marked.frame_of_reference)
        _check_inside(source, marked.markings, series)
        pid = self._pid or clean(marked.pid or (series.pid if series else "")) or clean(source.name.split(".")[0])
        rows = [
            Row(
                pid=pid,
                marking=self._unique(pid, marking),
                image=series.path if series else None,
                series_uid=(series.uid if series else "") or marked.series_uid,
                source=source,
                kind=kind,
            )
            for marking in marked.markings
        ]
        return Collected(source, kind, rows, left_out=marked.left_out)

    def _unique(self, pid: str, marking: Marking) -> Marking:
        base = clean(marking.nodule_id) or "1"
        nodule_id, copy = base, 1
        while (pid, nodule_id) in self._ids:
            copy += 1
            nodule_id = f"{base}#{copy}"
        self._ids.add((pid, nodule_id))
        return Marking(nodule_id, marking.center, clean(marking.label), marking.diameter_mm, marking.readers)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _check_inside(source: Path, markings: Sequence[Marking], series: CtSeries | None) -> None:
    outside = [marking for marking in markings if series is not None and not series.holds(marking.center)]
    if outside:
        raise WorklistError(
            "WORKLIST_SOURCE_OUTSIDE",
            f"{len(outside)} of {len(markings)} nodules of {source.name} lie outside the CT series.",
            "Check that the source was marked on this series; no row of it is written.",
        )
