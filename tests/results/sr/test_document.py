"""The SR of a series as a file: valid, of the right patient, revised without loss, refused rather than wrong."""

from __future__ import annotations

import datetime
import errno
import html
import itertools
import os
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from highdicom.sr import srread
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.demo.phantom import make_phantom
from noduleserve.demo.phantom_dicom import write_dicom
from noduleserve.errors import SeriesError
from noduleserve.results.codes import RESULT_CODES
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.sr.document import last_sr, write_sr
from noduleserve.results.sr.source import SourceSeries, source_series
from noduleserve.worklist.table import Nodule

CENTER = (10.25, 9.5, 8.75)
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "OtherPatientIDs")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")


def written(folder: Path, series: SourceSeries, outcomes: list[Outcome], info: ReleaseInfo) -> Path:
    return write_sr(folder, series, outcomes, info, preprocessing_version="1")


def refusal(*args: object) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        written(*args)  # type: ignore[arg-type]
    assert caught.value.code in RESULT_CODES and caught.value.mend
    return caught.value


def complaints(path: Path) -> list[str]:
    """What dciodvfy says of a file, but for the two warnings that every SR of ours has."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert "Comprehensive3DSR" in lines
    private = "Warning - Unrecognized defined term <99NODULESERVE>"
    dicomdir = "Warning - Missing attribute or value that would be needed to build DICOMDIR"
    return [x for x in lines if x != "Comprehensive3DSR" and not x.startswith((private, dicomdir))]


def rendered(path: Path) -> str:
    """The text of the report as dsr2html renders it."""
    if shutil.which("dsr2html") is None:
        pytest.skip("dsr2html (DCMTK) is not installed")
    page = subprocess.run(["dsr2html", path], capture_output=True, check=True).stdout.decode()
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


def assert_of_the_same_patient(sr: Dataset, source: Dataset) -> None:
    for keyword in (*PATIENT, *STUDY):
        assert str(sr.get(keyword, "") or "") == str(source.get(keyword, "") or ""), keyword


def assert_right(path: Path, series: SourceSeries, source: Path, outcomes: list[Outcome]) -> None:
    """Valid, readable, with the nodules that went in, where they are, and every slice as evidence."""
    assert complaints(path) == []
    sr = srread(path)
    assert_of_the_same_patient(sr, dcmread(source, stop_before_pixels=True))
    groups = sr.content.get_planar_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == [o.nodule.nodule_id for o in outcomes]
    assert len({g.tracking_uid for g in groups}) == len(outcomes)
    for group, outcome in zip(groups, outcomes, strict=True):
        assert group.roi.value.tolist() == [pytest.approx(outcome.nodule.center, abs=1e-4)]
        assert group.roi.frame_of_reference_uid == series.frame_of_reference
    assert {uid for _, _, uid, _ in sr.get_evidence()} == {i.sop_instance_uid for i in series.instances}
    assert {series_uid for _, series_uid, _, _ in sr.get_evidence()} == {series.series_uid}
    _, *nodules = rendered(path).split("Measurement Group ")
    for nodule, outcome in zip(nodules, outcomes, strict=True):
        assert outcome.score is not None
        assert f'Tracking Identifier = "{outcome.nodule.nodule_id}"' in nodule
        assert f"Probability of cancer: {100 * outcome.score.malignancy:.9g} %" in nodule
        assert "Border shape: " in nodule and "Comment: untrained demo weights" in nodule


def test_of_real_series(lidc_series, expected, tmp_path, info, scored) -> None:  # type: ignore[no-untyped-def]
    for name, folder in lidc_series.items():
        file = next(path for path in sorted(folder.rglob("*.dcm")))
        series = source_series(DicomSeries.open(folder), file)
        rows = [row for row in expected.nodules if Path(row["image_path"]).name == name]
        assert len(rows) > 1
        outcomes = [
            scored(number, [float(row[f"coord{axis}"]) for axis in "XYZ"], f"LIDC {number}")
            for number, row in enumerate(rows)
        ]
        path = written(tmp_path / "sr", series, outcomes, info)
        assert path.name == f"{series.series_uid}.1.dcm"
        assert_right(path, series, file, outcomes)


def test_of_the_phantom(tmp_path, info, scored) -> None:  # type: ignore[no-untyped-def]
    phantom = make_phantom(shape_xyz=(96, 72, 60), spacing_xyz=(3.6, 3.6, 4.0))
    file = write_dicom(phantom, tmp_path / "ct")[-1]
    series = source_series(DicomSeries.open(tmp_path / "ct"), file)
    outcomes = [scored(k, nodule.center_lps, nodule.nodule_id) for k, nodule in enumerate(phantom.nodules)]
    path = written(tmp_path / "sr", series, outcomes, info)
    assert_right(path, series, file, outcomes)
    sr = dcmread(path)
    assert str(sr.PatientName) == "PHANTOM^NODULESERVE" and sr.PatientAge == "065Y"
    assert (sr.Modality, sr.CompletionFlag, sr.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    assert (sr.Manufacturer, sr.ManufacturerModelName, sr.PreliminaryFlag) == (
        "noduleserve",
        "noduleserve",
        "PRELIMINARY",
    )
    assert sr.SeriesInstanceUID != series.series_uid and "untrained demo weights" in sr.SeriesDescription
    assert "PredecessorDocumentsSequence" not in sr


def test_a_revision_names_its_predecessor_and_keeps_it(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    paths, bytes_of = [], {}
    for number in range(3):
        path = written(tmp_path / "sr", series, [scored(number, CENTER)], info)
        paths.append(path)
        bytes_of[path] = path.read_bytes()
    assert [path.name for path in paths] == [f"1.2.3.4.{k}.dcm" for k in (1, 2, 3)]
    assert {path: path.read_bytes() for path in (tmp_path / "sr").iterdir()} == bytes_of
    srs = [dcmread(path) for path in paths]
    assert [sr.InstanceNumber for sr in srs] == [1, 2, 3]
    assert len({sr.SeriesInstanceUID for sr in srs}) == 1 and len({sr.SOPInstanceUID for sr in srs}) == 3
    for before, after in itertools.pairwise(srs):
        (study,) = after.PredecessorDocumentsSequence
        (of_series,) = study.ReferencedSeriesSequence
        (reference,) = of_series.ReferencedSOPSequence
        assert (study.StudyInstanceUID, of_series.SeriesInstanceUID) == ("1.2.3", before.SeriesInstanceUID)
        assert reference.ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == before.SOPClassUID
    assert complaints(paths[-1]) == []


def test_the_tenth_revision_comes_after_the_ninth(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    first = written(tmp_path / "sr", made(), [scored(0, CENTER)], info)
    for number in (9, 10):
        sr = dcmread(first)
        sr.InstanceNumber, sr.SOPInstanceUID = number, f"1.2.{number}"
        sr.save_as(first.with_name(f"1.2.3.4.{number}.dcm"))
    last = last_sr(tmp_path / "sr", "1.2.3.4")
    assert last is not None and last.SOPInstanceUID == "1.2.10"


def test_srs_of_other_series_are_no_predecessors(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    written(tmp_path / "sr", replace(series, series_uid="1.2.3.45"), [scored(0, CENTER)], info)
    path = written(tmp_path / "sr", series, [scored(0, CENTER)], info)
    assert path.name == "1.2.3.4.1.dcm" and "PredecessorDocumentsSequence" not in dcmread(path)


def test_a_predecessor_in_another_study_is_named_but_its_series_not_continued(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    first = dcmread(written(tmp_path / "sr", series, [scored(0, CENTER)], info))
    second = dcmread(written(tmp_path / "sr", replace(series, study_uid="1.2.9"), [scored(0, CENTER)], info))
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    assert second.PredecessorDocumentsSequence[0].StudyInstanceUID == first.StudyInstanceUID


@pytest.mark.parametrize("what", ["no DICOM", "another SR", "another number"])
def test_a_foreign_file_under_its_name_is_neither_overwritten_nor_continued(what, tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series, taken = made(), tmp_path / "sr" / "1.2.3.4.1.dcm"
    path = written(tmp_path / "sr", series, [scored(0, CENTER)], info)
    if what == "no DICOM":
        taken.write_bytes(b"something else")
    else:
        sr = dcmread(path)
        sr.ManufacturerModelName, sr.InstanceNumber = ("other", 1) if what == "another SR" else ("noduleserve", 7)
        sr.save_as(taken)
    before = taken.read_bytes()
    assert refusal(tmp_path / "sr", series, [scored(0, CENTER)], info).code == "SR_NAME_TAKEN"
    assert [p.read_bytes() for p in (tmp_path / "sr").iterdir()] == [before]


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, info, scored, made, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    series = made()

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    error = refusal(tmp_path / "sr", series, [scored(0, CENTER)], info)
    assert error.code == "SR_UNWRITABLE" and "No space left" in error.what
    assert list((tmp_path / "sr").iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sr").write_text("")
    assert refusal(tmp_path / "sr", made(), [scored(0, CENTER)], info).code == "SR_UNWRITABLE"


def test_the_moment_it_was_made(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    now = datetime.datetime(2026, 5, 4, 3, 2, 1)
    path = write_sr(tmp_path, made(), [scored(0, CENTER)], info, preprocessing_version="1", now=now)
    sr = dcmread(path)
    assert (sr.ContentDate, str(sr.ContentTime)[:6]) == ("20260504", "030201")
    assert (sr.InstanceCreationDate, str(sr.InstanceCreationTime)[:6]) == ("20260504", "030201")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "王^小東"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_the_patient_keeps_the_name_in_any_character_set(character_set, name, tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    def edit(_: int, image: FileDataset) -> None:
        image.SpecificCharacterSet, image.PatientName = character_set, name
        other = Dataset()
        other.PatientID, other.TypeOfPatientID = "P-2", "TEXT"
        image.OtherPatientIDsSequence = [other]

    path = written(tmp_path / "sr", made(edit), [scored(0, CENTER, "Übung 结节")], info)
    sr = srread(path)
    assert sr.SpecificCharacterSet == "ISO_IR 192"
    assert str(sr.PatientName) == name and sr.OtherPatientIDsSequence[0].PatientID == "P-2"
    (group,) = sr.content.get_planar_roi_measurement_groups()
    assert group.tracking_identifier == "Übung 结节"


def test_a_header_that_no_standard_would_take_is_carried_over_in_silence(tmp_path, info, scored, made, capfd) -> None:  # type: ignore[no-untyped-def]
    odd = {"PatientSex": "W", "PatientBirthDate": "1960-01-01", "StudyTime": "25:61", "AccessionNumber": "A" * 40}

    def edit(_: int, image: FileDataset) -> None:
        for keyword, value in odd.items():
            setattr(image, keyword, value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = made(edit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = written(tmp_path / "sr", series, [scored(0, CENTER)], info)
    assert capfd.readouterr() == ("", "") and "Doe" not in repr(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sr = dcmread(path)
        assert {keyword: str(sr[keyword].value) for keyword in odd} == odd


def test_a_header_with_next_to_nothing(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    def edit(_: int, image: FileDataset) -> None:
        del image.PatientName, image.PatientID

    path = written(tmp_path / "sr", made(edit), [scored(0, CENTER)], info)
    assert complaints(path) == []
    assert dcmread(path).PatientID == ""


def test_a_volume_that_is_not_dicom(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import nibabel
    import numpy as np

    from noduleserve.ct.nifti import NiftiVolume

    path = tmp_path / "ct.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), path)
    with pytest.raises(SeriesError) as caught:
        source_series(NiftiVolume.open(path), path)
    assert caught.value.code == "SR_NEEDS_DICOM"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_series_without_what_it_is_referred_to_by(keyword, made) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SeriesError) as caught:
        made(lambda _, image: delattr(image, keyword))
    assert caught.value.code == "SR_NO_REFERENCE" and keyword in caught.value.what


def test_a_header_whose_uid_stands_at_the_head_of_the_file_only(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made(lambda _, image: delattr(image, "SOPInstanceUID"))
    sr = srread(written(tmp_path / "sr", series, [scored(0, CENTER)], info))
    assert {uid for _, _, uid, _ in sr.get_evidence()} == {i.sop_instance_uid for i in series.instances}
    assert len(series.instances) == 21


def test_a_file_that_is_not_of_the_series(tmp_path, made) -> None:  # type: ignore[no-untyped-def]
    made()
    opened = DicomSeries.open(tmp_path / "ct")
    other = dcmread(tmp_path / "ct" / "000.dcm")
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    other.save_as(tmp_path / "other.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    for name in ("other.dcm", "text.dcm", "missing.dcm"):
        with pytest.raises(SeriesError) as caught:
            source_series(opened, tmp_path / name)
        assert caught.value.code == "SR_SOURCE_UNREADABLE" and name in caught.value.what


def test_of_a_series_where_nothing_was_scored(tmp_path, info, made) -> None:  # type: ignore[no-untyped-def]
    failed = Outcome(Nodule(0, {}, "p", "N0", Path("ct"), CENTER), None, "SERVER_LOST", "The connection broke.")
    assert refusal(tmp_path / "sr", made(), [failed], info).code == "SR_NOTHING_SCORED"
    assert not (tmp_path / "sr").exists()
