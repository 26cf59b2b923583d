"""Which files of a folder are DICOM, whatever they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from noduleserve.errors import SeriesError

from .header import DicomHeader, read_header, unreadable


def headers_below(folder: Path) -> list[DicomHeader]:
    """The headers of all DICOM files in a folder and its subfolders, in the order of their paths.

    Passed over: what is not DICOM and not called so, hidden files and folders (which file systems and desktops leave
    behind), pipes and devices. Links to files are followed, links to folders are not.

    Raises:
        SeriesError: SERIES_NOT_FOUND, FILE_UNREADABLE. A file called .dcm that is none refuses the folder: left out,
            it might be the one slice that nobody misses.
    """
    if not folder.is_dir():
        raise SeriesError(
            "SERIES_NOT_FOUND",
            f"There is no folder {folder.name}.",
            "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
        )
    headers = []
    for path in files_below(folder):
        header = read_header(path)
        if header is not None:
            headers.append(header)
        elif path.suffix.lower() == ".dcm":
            raise unreadable(path, ValueError())
    return headers


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and its subfolders that is not hidden, in the order of their paths.

    Raises:
        SeriesError: FILE_UNREADABLE where a folder may not be entered.
    """
    return [Path(path) for path in sorted(_paths_below(str(folder)))]


def _paths_below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _paths_below(entry.path)
                elif entry.is_file() or _leads_nowhere(entry):
                    yield entry.path
    except OSError as error:
        raise SeriesError(
            "FILE_UNREADABLE",
            f"The folder {Path(folder).name} cannot be read ({error.strerror}).",
            "Check its permissions.",
        ) from error


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether a link has lost its file; it is not passed over, since the file may have been a slice."""
    return entry.is_symlink() and not Path(entry.path).exists()
