"""One Comprehensive 3D SR a series: written whole, and again as a revision that names its predecessor."""

from __future__ import annotations

import contextlib
import datetime
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

import noduleserve
from noduleserve.errors import SeriesError
from noduleserve.results.outcome import Outcome, ReleaseInfo

from .codes import SCHEME, SCHEME_NAME
from .group import Algorithm, printable
from .report import measurement_report
from .source import SourceSeries
from .uids import new_uid

if TYPE_CHECKING:
    from highdicom.sr import Comprehensive3DSR, MeasurementReport

SERIES_NUMBER = 9700  # far above what scanners count to
_TITLE = "Lung nodule malignancy"
_LONGEST_TEXT = 64  # characters of a description
# What DICOM wants in every SR, if empty.
_ALWAYS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def write_sr(
    folder: Path,
    series: SourceSeries,
    outcomes: Sequence[Outcome],
    info: ReleaseInfo,
    *,
    preprocessing_version: str,
    now: datetime.datetime | None = None,
) -> Path:
    """Write the SR of one series as `<series uid>.<n>.dcm`; n counts its revisions, from 1.

    Where SRs of this series lie in the folder already, the new one continues their series, names the last of them as
    its predecessor, and leaves their files alone. The file is there whole or not at all.

    Args:
        folder: is made where it is missing.
        series: as `source_series` gives it.
        outcomes: of the nodules of this series, all of them, scored or not.
        info: of the release that scored.
        preprocessing_version: of the views that were scored.
        now: when the document is made, local time; by default this moment.

    Raises:
        SeriesError: SR_NOTHING_SCORED, SR_OTHER_SERIES, SR_SCORE_INVALID, SR_HEADER_UNFIT, SR_NAME_TAKEN,
            SR_UNWRITABLE.
    """
    algorithm = Algorithm(noduleserve.__version__, info.release, preprocessing_version, info.folds, info.calibrated)
    report = measurement_report(series, outcomes, info, algorithm)
    predecessor = last_sr(folder, series.series_uid)
    number = 1 if predecessor is None else int(predecessor.InstanceNumber) + 1
    path = folder / f"{series.series_uid}.{number}.dcm"
    if path.exists():
        raise _name_taken(path)
    complete = all(outcome.score is not None for outcome in outcomes)
    moment = now or datetime.datetime.now()
    with _patient_kept_out_of_errors():
        document = sr_document(report, series, info, complete=complete, predecessor=predecessor, now=moment)
        _write_whole(document, path)
    return path


def last_sr(folder: Path, series_uid: str) -> Dataset | None:
    """The header of the newest SR of a series in a folder, or None.

    Raises:
        SeriesError: SR_NAME_TAKEN.
    """
    pattern = re.compile(re.escape(series_uid) + r"\.(\d+)\.dcm")
    found = [(int(match[1]), path) for path in folder.glob("*.dcm") if (match := pattern.fullmatch(path.name))]
    if not found:
        return None
    number, path = max(found)
    keywords = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber"]
    try:
        sr = dcmread(path, specific_tags=[*keywords, "ManufacturerModelName"], stop_before_pixels=True)
        ours = sr.SOPClassUID == Comprehensive3DSRStorage and sr.ManufacturerModelName == "noduleserve"
        if ours and int(sr.InstanceNumber) == number and all(sr.get(keyword) for keyword in keywords):
            return sr
    except Exception:  # whatever is wrong with the file, it is not one to go on from
        pass
    raise _name_taken(path)


def sr_document(
    report: MeasurementReport,
    series: SourceSeries,
    info: ReleaseInfo,
    *,
    complete: bool,
    predecessor: Dataset | None,
    now: datetime.datetime,
) -> Comprehensive3DSR:
    """A report as a DICOM object: the patient and the study are those of the CT series, as its header has them."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import Comprehensive3DSR

    document = Comprehensive3DSR(
        evidence=_evidence(series),
        content=report[0],
        series_instance_uid=_sr_series(series, predecessor),
        series_number=SERIES_NUMBER,
        sop_instance_uid=new_uid(),
        instance_number=1 if predecessor is None else int(predecessor.InstanceNumber) + 1,
        manufacturer="noduleserve",
        manufacturer_model_name="noduleserve",
        software_versions=noduleserve.__version__,
        is_complete=complete,
        previous_versions=None if predecessor is None else [predecessor],
        specific_character_set="ISO_IR 192",
        series_description=_description(info),
        content_date=now.date(),
        content_time=now.time(),
        coding_schemes=[
            CodingSchemeIdentificationItem(SCHEME, name=SCHEME_NAME, responsible_organization="noduleserve")
        ],
    )
    document.InstanceCreationDate, document.InstanceCreationTime = document.ContentDate, document.ContentTime
    if not complete:
        document.CompletionFlagDescription = "Not every nodule of the worklist was scored"
    document.copy_patient_and_study_information(series.header)  # as it is, also where highdicom would not take it
    return document


def _sr_series(series: SourceSeries, predecessor: Dataset | None) -> str:
    """The predecessor's series; a new one where there is none, or where it is of a study that is no longer this one."""
    if predecessor is None or predecessor.StudyInstanceUID != series.study_uid:
        return new_uid()
    return str(predecessor.SeriesInstanceUID)


def _description(info: ReleaseInfo) -> str:
    """What lists of series show; a notice must not be missing there."""
    description = f"{_TITLE}: {printable(info.notice)}" if info.notice else _TITLE
    return description.replace("\\", "/")[:_LONGEST_TEXT]


def _evidence(series: SourceSeries) -> list[Dataset]:
    """Every file of the series, once: the first with its header, the others with what a reference takes."""
    first = Dataset()
    for element in series.header:
        if element.keyword not in _ALWAYS:
            first.add(element)
    for (
        keyword
    ) in _ALWAYS:  # the header's own are copied afterwards; here they would have to be as highdicom likes them
        setattr(first, keyword, "")
    first.StudyInstanceUID, first.SeriesInstanceUID = series.study_uid, series.series_uid
    datasets = {first.SOPInstanceUID: first}
    for instance in series.instances:
        if instance.sop_instance_uid not in datasets:
            other = Dataset()
            other.SOPClassUID, other.SOPInstanceUID = instance.sop_class_uid, instance.sop_instance_uid
            other.StudyInstanceUID, other.SeriesInstanceUID = series.study_uid, series.series_uid
            datasets[instance.sop_instance_uid] = other
    return list(datasets.values())


def _write_whole(document: Dataset, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        document.save_as(part, enforce_file_format=True)
        part.replace(path)
    except OSError as error:
        raise SeriesError(
            "SR_UNWRITABLE", f"{path.name} cannot be written ({error.strerror}).", "Check the folder for SRs."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _patient_kept_out_of_errors() -> Iterator[None]:
    """Warnings and errors of the libraries quote what is odd in a header: only the kind of an error is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SeriesError:
        raise
    except Exception as error:
        raise SeriesError(
            "SR_HEADER_UNFIT",
            f"{type(error).__name__} while carrying patient and study of the series over into its SR.",
            "Check the header of the CT series, or export it again from its source.",
        ) from None


def _name_taken(path: Path) -> SeriesError:
    return SeriesError(
        "SR_NAME_TAKEN",
        f"{path.name} is not the SR that noduleserve wrote under this name.",
        "Move it away, or give another folder for SRs.",
    )
