"""A place that CT series are read from: a folder, an archive, or one file of any format."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from noduleserve.errors import SeriesError

from .archive import ARCHIVE_SUFFIXES, UnpackedArchive
from .dicom.files import files_below, headers_below
from .dicom.header import read_header
from .dicom.index import SeriesIndex, SeriesSummary
from .dicom.series import DicomSeries
from .itk import ITK_SUFFIXES, ItkVolume
from .nifti import NiftiVolume
from .volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
_NIFTI_PAIR = (".hdr", ".img")  # refused by the NIfTI reader, with its reason


class Source:
    """An opened folder, archive or file; its headers are read once, however many series are opened from it.

    A context manager. What an archive was unpacked to goes when the source is closed, and otherwise when neither the
    source nor any volume opened from it is in use any more.

    Attributes:
        series: the CT series that it holds.
    """

    series: tuple[SeriesSummary, ...]

    def __init__(
        self,
        series: tuple[SeriesSummary, ...],
        read: Callable[[str], Volume],
        unpacked: UnpackedArchive | None = None,
    ) -> None:
        self.series = series
        self._read, self._unpacked = read, unpacked

    def volume(self, series_uid: str = "") -> Volume:
        """Open one of the series; "": the only one.

        Raises:
            SeriesError: SERIES_AMBIGUOUS, SERIES_NOT_IN_FOLDER, and what `DicomSeries` raises.
        """
        volume = self._read(series_uid)
        if self._unpacked is not None:
            weakref.finalize(volume, _keep, self._unpacked)
        return volume

    def close(self) -> None:
        """Remove what was unpacked; volumes opened from an archive cannot be read any more."""
        if self._unpacked is not None:
            self._unpacked.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(path: Path) -> Source:
    """Open a folder of DICOM files, an archive, a NIfTI, NRRD or MetaImage file, or a DICOM file; reads headers only.

    Raises:
        SeriesError: SERIES_NOT_FOUND, FORMAT_UNKNOWN, FILE_UNREADABLE, SERIES_EMPTY, NOT_CT, those of
            `UnpackedArchive`, and of a NIfTI, NRRD or MetaImage file what its reader raises.
    """
    try:
        if path.is_dir():
            return _of_index(SeriesIndex.of_folder(path))
        if not path.exists():
            raise SeriesError(
                "SERIES_NOT_FOUND",
                f"There is no folder or file {path.name}.",
                "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
            )
    except OSError as error:  # a name too long, a folder that may not be entered
        raise SeriesError(
            "FILE_UNREADABLE",
            f"{path.name} cannot be opened ({error.strerror}).",
            "Check image_path and its permissions.",
        ) from error
    if _ends_in(path, ARCHIVE_SUFFIXES):
        return _of_archive(path)
    if _ends_in(path, _VOLUME_SUFFIXES + _NIFTI_PAIR):
        return _of_volume_file(path, path.name)
    header = read_header(path) if path.is_file() else None
    if header is None:
        raise SeriesError(
            "FORMAT_UNKNOWN",
            f"{path.name} is of no format that is read.",
            f"Give the folder of a DICOM series, or {', '.join(_VOLUME_SUFFIXES + ARCHIVE_SUFFIXES)}.",
        )
    return _of_index(SeriesIndex([header], path.name))


def _of_index(index: SeriesIndex, unpacked: UnpackedArchive | None = None) -> Source:
    return Source(index.summaries, lambda series_uid: DicomSeries(index.headers(series_uid)), unpacked)


def _of_archive(path: Path) -> Source:
    """DICOM where the archive holds any, else the one volume in it that is a file of its own."""
    unpacked = UnpackedArchive(path)
    try:
        headers = headers_below(unpacked.folder)
        volumes = [file for file in files_below(unpacked.folder) if _ends_in(file, _VOLUME_SUFFIXES)]
        if any(header.is_ct for header in headers) or not volumes:
            return _of_index(SeriesIndex(headers, path.name), unpacked)
        if len(volumes) > 1:
            raise SeriesError(
                "SERIES_AMBIGUOUS",
                f"{path.name} holds {len(volumes)} volumes: {', '.join(file.name for file in volumes[:8])}.",
                "Put each volume into an archive of its own, or give the file itself.",
            )
        return _of_volume_file(volumes[0], path.name, unpacked)
    except BaseException:
        unpacked.close()
        raise


def _of_volume_file(file: Path, name: str, unpacked: UnpackedArchive | None = None) -> Source:
    """A file that is one volume, without a series UID."""
    volume: Volume = ItkVolume.open(file) if _ends_in(file, ITK_SUFFIXES) else NiftiVolume.open(file)

    def read(series_uid: str) -> Volume:
        if series_uid:
            raise SeriesError(
                "SERIES_NOT_IN_FOLDER",
                f"{name} holds one volume, whose format names no series.",
                "Leave the series UID out, or give the DICOM series.",
            )
        return volume

    return Source((SeriesSummary("", 1),), read, unpacked)


def _ends_in(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _keep(unpacked: UnpackedArchive) -> None:
    """What `weakref.finalize` calls when a volume goes; that it holds the archive until then is all that is wanted."""
