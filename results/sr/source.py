"""What an SR says of the CT series that it belongs to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.dicom.slices import Instance
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError
from noduleserve.preprocessing import VolumeGeometry


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The facts of one CT series that its SR needs; they outlast the files.

    Attributes:
        study_uid, series_uid, frame_of_reference: UIDs.
        instances: one for each z of the volume.
        geometry: of the volume.
        header: all but the pixels of one of its files: patient, study, scanner. Never printed.
    """

    study_uid: str
    series_uid: str
    frame_of_reference: str
    instances: tuple[Instance, ...]
    geometry: VolumeGeometry
    header: Dataset = field(repr=False)

    def holds(self, center: tuple[float, float, float]) -> bool:
        """Whether a point (LPS millimetres) lies in a voxel of the series."""
        voxel = self.geometry.voxel_of(center)
        return bool(((voxel >= -0.5) & (voxel <= self.geometry.shape - 0.5)).all())

    def slice_at(self, center: tuple[float, float, float]) -> Instance:
        """The slice that is nearest to a point (LPS millimetres)."""
        z = round(float(self.geometry.voxel_of(center)[2]))
        return self.instances[int(np.clip(z, 0, len(self.instances) - 1))]


def source_series(volume: Volume, file: Path) -> SourceSeries:
    """Take from an opened series, and from the header of any one of its files, what its SR needs.

    Raises:
        SeriesError: SR_NEEDS_DICOM (the volume is of another format), SR_NO_REFERENCE, SR_SOURCE_UNREADABLE.
    """
    if not isinstance(volume, DicomSeries):
        raise SeriesError(
            "SR_NEEDS_DICOM",
            "The CT was not read from DICOM: an SR would have no patient and no study to belong to.",
            "Score the DICOM series itself, or use the table of results.",
        )
    _check_references(volume)
    return SourceSeries(
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
        frame_of_reference=volume.frame_of_reference,
        instances=volume.instances,
        geometry=volume.geometry,
        header=_header(file, volume),
    )


def _check_references(series: DicomSeries) -> None:
    uids = {
        "StudyInstanceUID": series.study_uid,
        "SeriesInstanceUID": series.series_uid,
        "FrameOfReferenceUID": series.frame_of_reference,
        "SOPInstanceUID": all(instance.sop_instance_uid for instance in series.instances),
    }
    missing = [name for name, there in uids.items() if not there]
    if missing:
        raise SeriesError(
            "SR_NO_REFERENCE",
            f"The series has no {', '.join(missing)} to refer to.",
            "Export the series again from its source.",
        )


def _header(file: Path, series: DicomSeries) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what is odd in a header, and with it the patient
            header = dcmread(file, stop_before_pixels=True, force=True)
            header.decode()  # into text now: the SR has a character set of its own
    except Exception as error:  # pydicom lets many kinds of error through on damaged files, and some quote the file
        raise _unreadable(file, f"{type(error).__name__} while reading it") from None
    if "SOPInstanceUID" not in header:  # readers of CT take it from the head of the file then
        header.SOPInstanceUID = header.file_meta.get("MediaStorageSOPInstanceUID", "")
    if header.SOPInstanceUID not in {instance.sop_instance_uid for instance in series.instances}:
        raise _unreadable(file, "it is not of the series")
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        header.pop(groups, None)
    return header


def _unreadable(file: Path, why: str) -> SeriesError:
    return SeriesError("SR_SOURCE_UNREADABLE", f"The header of {file.name}: {why}.", "Check the file and the path.")
