"""One way to open a CT, whatever format it is in."""

from __future__ import annotations

from pathlib import Path

from noduleserve.errors import SeriesError

from .dicom.series import DicomSeries
from .nifti import NiftiVolume
from .volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def open_volume(path: Path) -> Volume:
    """Open a folder as a DICOM series, a .nii or .nii.gz file as NIfTI; reads headers only.

    Raises:
        SeriesError: SERIES_NOT_FOUND, FORMAT_UNKNOWN, FILE_UNREADABLE, and what `DicomSeries.open` and
            `NiftiVolume.open` raise.
    """
    try:
        if path.is_dir():
            return DicomSeries.open(path)
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return NiftiVolume.open(path)
        exists = path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise SeriesError(
            "FILE_UNREADABLE",
            f"{path.name} cannot be opened ({error.strerror}).",
            "Check image_path and its permissions.",
        ) from error
    if exists:
        raise SeriesError(
            "FORMAT_UNKNOWN",
            f"{path.name} is neither a folder nor called .nii or .nii.gz.",
            "Give the folder of a DICOM series (not one of its files), or a NIfTI file.",
        )
    raise SeriesError(
        "SERIES_NOT_FOUND",
        f"There is no folder or file {path.name}.",
        "Check image_path; where relative, it starts at the worklist's folder or at the root given.",
    )
