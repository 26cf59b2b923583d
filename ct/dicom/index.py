"""The CT series that a folder of DICOM files holds, and the choice of one of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from noduleserve.errors import SeriesError

from .files import headers_below
from .header import DicomHeader

_LISTED = 8  # series that a sentence names before it only counts
_TOLD = {"SliceThickness": "slices of {} mm", "ConvolutionKernel": "kernel {}"}


@dataclass(frozen=True)
class SeriesSummary:
    """One CT series of a source.

    Attributes:
        uid: SeriesInstanceUID; "" where the format has none.
        instances: files that the series consists of, copies included.
    """

    uid: str
    instances: int


class SeriesIndex:
    """The headers of a study's CT images, a list for each series.

    Attributes:
        name: of the folder, archive or file, for sentences.
        summaries: of the series, in the order of their UIDs.
    """

    def __init__(self, headers: Sequence[DicomHeader], name: str) -> None:
        """Sort headers into series; what is no CT image is passed over, and so are localizers.

        Raises:
            SeriesError: SERIES_EMPTY (no DICOM file), NOT_CT (no CT image), TAG_MISSING (SeriesInstanceUID).
        """
        self.name = name
        self._series = _placed(_by_series(_ct_images(headers, name)))
        self.summaries = tuple(SeriesSummary(uid, len(self._series[uid])) for uid in sorted(self._series))

    @classmethod
    def of_folder(cls, folder: Path, name: str = "") -> SeriesIndex:
        """Read the headers of a folder and its subfolders; `name` stands for it in sentences."""
        return cls(headers_below(folder), name or folder.resolve().name)

    def headers(self, series_uid: str = "") -> list[DicomHeader]:
        """The headers of one series, in the order of their paths; "": of the only one.

        Raises:
            SeriesError: SERIES_AMBIGUOUS, SERIES_NOT_IN_FOLDER.
        """
        if series_uid and series_uid not in self._series:
            raise SeriesError(
                "SERIES_NOT_IN_FOLDER",
                f"{self.name} does not hold the CT series {series_uid}, but {self._listed()}.",
                "Check the series UID and the path; they must belong together.",
            )
        if not series_uid and len(self._series) > 1:
            raise SeriesError(
                "SERIES_AMBIGUOUS",
                f"{self.name} holds {len(self._series)} CT series: {self._listed()}.",
                "Name one by its series UID, or put each series into a folder of its own.",
            )
        return self._series[series_uid or self.summaries[0].uid]

    def _listed(self) -> str:
        told = [_told(uid, self._series[uid]) for uid in sorted(self._series)]
        more = [f"{len(told) - _LISTED} more"] if len(told) > _LISTED else []
        return ", ".join(told[:_LISTED] + more)


def _told(uid: str, headers: list[DicomHeader]) -> str:
    """A series as a sentence names it: what tells it from the others of the study."""
    files = f"{len(headers)} file{'s' if len(headers) > 1 else ''}"
    values = {keyword: headers[0].text(keyword, required=False)[:32] for keyword in _TOLD}
    return f"{uid} ({', '.join([files] + [_TOLD[k].format(v) for k, v in values.items() if v])})"


def _ct_images(headers: Sequence[DicomHeader], name: str) -> list[DicomHeader]:
    if not headers:
        raise SeriesError(
            "SERIES_EMPTY",
            f"{name} holds no DICOM file.",
            "Give the folder or archive with the DICOM files of a CT series, or a volume in one file.",
        )
    ct = [header for header in headers if header.is_ct and not header.is_localizer]
    if not ct:
        names = Counter(_class_of(header) for header in headers).most_common(_LISTED)
        raise SeriesError(
            "NOT_CT",
            f"{name} holds no CT slice, but {', '.join(f'{count} x {name}' for name, count in names)}.",
            "Give the folder of a CT series.",
        )
    return ct


def _class_of(header: DicomHeader) -> str:
    uid = UID(header.text("SOPClassUID", required=False))
    return f"{uid.name or 'unknown'}{' (localizer)' if header.is_ct else ''}"


def _by_series(headers: list[DicomHeader]) -> dict[str, list[DicomHeader]]:
    series: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        series[header.text("SeriesInstanceUID")].append(header)
    return dict(series)


def _placed(series: dict[str, list[DicomHeader]]) -> dict[str, list[DicomHeader]]:
    """The series with slices that lie somewhere in the patient; all of them where none has.

    Dose screens and protocol pages are sometimes stored as CT images of a series of their own, without a position.
    """
    placed = {
        uid: headers
        for uid, headers in series.items()
        if any(header.is_enhanced or header.text("ImagePositionPatient", required=False) for header in headers)
    }
    return placed or series
