"""What an SR says of a nodule, read back by highdicom: everything that went in, and nothing that did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import CodedConcept, PlanarROIMeasurementsAndQualitativeEvaluations, srread
from pydicom import dcmread
from pydicom.sr.codedict import codes as standard

import noduleserve
from noduleserve.ct.doubt import InputWarning
from noduleserve.errors import SeriesError
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.sr import codes
from noduleserve.results.sr.codes import FEATURES, Concept, feature_of
from noduleserve.results.sr.document import write_sr
from noduleserve.results.sr.source import SourceSeries
from noduleserve.results.sr.uids import tracking_uid
from noduleserve.worklist.table import Nodule

CENTER = (10.25, 9.5, 8.75)
Group = PlanarROIMeasurementsAndQualitativeEvaluations


def read(folder: Path, series: SourceSeries, outcomes: list[Outcome], info: ReleaseInfo) -> Any:
    return srread(write_sr(folder, series, outcomes, info, preprocessing_version="1"))


def one_group(folder: Path, series: SourceSeries, outcome: Outcome, info: ReleaseInfo) -> Group:
    (group,) = read(folder, series, [outcome], info).content.get_planar_roi_measurement_groups()
    return group


def coded(concept: Concept) -> CodedConcept:
    return CodedConcept(concept.value, concept.scheme, concept.meaning)


def values(group: Group, name: Concept) -> list[float]:
    measured = group.get_measurements(coded(name))
    assert all(m.unit == coded(codes.PERCENT) for m in measured)
    return [m.value for m in measured]


def texts(item: Any, name: Concept) -> list[str]:
    return [i.TextValue for i in item.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == name.value]


def test_the_probability_of_cancer(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    outcome = scored(3, CENTER)
    group = one_group(tmp_path, made(), outcome, info)
    (mean,) = group.get_measurements(coded(codes.PROBABILITY_OF_CANCER))
    assert np.float32(mean.value / 100) == np.float32(outcome.score.malignancy)
    assert mean.derivation == standard.SCT.Mean and mean.method == coded(codes.NOT_CALIBRATED)
    folds = group.get_measurements(coded(codes.FOLD_NOT_CALIBRATED))
    assert np.array_equal(np.array([m.value / 100 for m in folds], np.float32), outcome.score.raw)
    assert [texts(m[0], Concept("111002", "DCM", "Algorithm Parameters")) for m in folds] == [
        ["fold=0"],
        ["fold=1"],
        ["fold=2"],
    ]
    assert values(group, codes.FOLD_CALIBRATED) == []  # NaN where there is no calibration
    assert values(group, codes.FOLD_RANGE) == [pytest.approx(100 * float(np.ptp(outcome.score.raw)))]


def test_a_calibrated_release(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    outcome = scored(3, CENTER, calibrated=True)
    group = one_group(tmp_path, made(), outcome, replace(info, calibrated=True))
    (mean,) = group.get_measurements(coded(codes.PROBABILITY_OF_CANCER))
    assert np.float32(mean.value / 100) == np.float32(outcome.score.malignancy)
    assert mean.method == coded(codes.CALIBRATED)
    assert values(group, codes.FOLD_CALIBRATED) == pytest.approx(100 * outcome.score.calibrated)
    assert values(group, codes.FOLD_NOT_CALIBRATED) == pytest.approx(100 * outcome.score.raw)
    assert values(group, codes.FOLD_RANGE) == [pytest.approx(100 * float(np.ptp(outcome.score.calibrated)))]


def test_one_fold_has_no_range(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    outcome = scored(3, CENTER)
    raw, calibrated = outcome.score.raw[:1], outcome.score.calibrated[:1]
    alone = replace(outcome.score, raw=raw, calibrated=calibrated, malignancy=float(raw[0]))
    group = one_group(tmp_path, made(), replace(outcome, score=alone), replace(info, folds=1))
    assert values(group, codes.FOLD_RANGE) == [0.0] and len(values(group, codes.FOLD_NOT_CALIBRATED)) == 1


def test_the_slice_nearest_to_the_centre(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    (mean,) = one_group(tmp_path / "sr", series, scored(0, CENTER), info).get_measurements(
        coded(codes.PROBABILITY_OF_CANCER)
    )
    (image,) = mean.referenced_images
    assert image.referenced_sop_instance_uid == dcmread(tmp_path / "ct" / "009.dcm").SOPInstanceUID  # z is 8.75 mm
    assert image.referenced_frame_numbers is None


def test_frames_of_an_enhanced_file_are_referred_to_by_number(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    file = series.header.SOPInstanceUID
    frames = tuple(replace(i, sop_instance_uid=file, frame=z + 1) for z, i in enumerate(series.instances))
    sr = read(tmp_path, replace(series, instances=frames), [scored(0, CENTER)], info)
    (group,) = sr.content.get_planar_roi_measurement_groups()
    (mean,) = group.get_measurements(coded(codes.PROBABILITY_OF_CANCER))
    assert mean.referenced_images[0].referenced_frame_numbers == [10]
    assert [uid for _, _, uid, _ in sr.get_evidence()] == [file]


def test_the_semantic_features(tmp_path, info, scored, made, all_labels) -> None:  # type: ignore[no-untyped-def]
    outcome, info = scored(3, CENTER, labels=all_labels), replace(info, labels=all_labels)
    group = one_group(tmp_path, made(), outcome, info)
    stated = {e.name: e.value for e in group.get_qualitative_evaluations() if e.name != coded(CENTER_OF_WHAT)}
    assert len(stated) == len(FEATURES) == 17
    by_label = dict(zip(info.labels, outcome.score.semantic.astype(float).tolist(), strict=True))
    for feature, concepts in FEATURES.items():
        probabilities = {value: by_label[f"{feature}.{value}"] for value in concepts.values}
        best = max(probabilities, key=probabilities.__getitem__)
        assert stated[coded(concepts.name)] == coded(concepts.values[best])
        (number,) = group.get_measurements(coded(concepts.probability))
        assert np.float32(number.value / 100) == np.float32(probabilities[best])
        (modifier,) = number[0].ContentSequence  # which value it is that is so probable
        assert (modifier.name, modifier.value) == (coded(concepts.name), coded(concepts.values[best]))


CENTER_OF_WHAT = Concept("130400", "DCM", "Geometric purpose of region")


def test_a_release_without_semantic_features(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    group = one_group(tmp_path, made(), scored(0, CENTER, labels=()), replace(info, labels=()))
    assert [e.name for e in group.get_qualitative_evaluations()] == [coded(CENTER_OF_WHAT)]
    assert len(group.get_measurements()) == 2 + 3


def test_features_of_a_site_of_its_own(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    labels = ("margins.jagged. indeed", "margins.smooth", "a" * 80 + ".yes", "a" * 80 + ".no")
    outcome = scored(0, CENTER, labels=labels)
    sure = replace(outcome.score, semantic=np.array([0.75, 0.25, 1, 0], np.float32))
    group = one_group(tmp_path, made(), replace(outcome, score=sure), replace(info, labels=labels))
    margins, other = (e for e in group.get_qualitative_evaluations() if e.name != coded(CENTER_OF_WHAT))
    assert margins.name == coded(FEATURES["margins"].name)
    assert margins.value == coded(feature_of("margins", ("jagged. indeed",)).values["jagged. indeed"])
    assert margins.value.meaning == "jagged. indeed" and other.name.meaning == "a" * 64 and other.value.meaning == "yes"
    assert values(group, FEATURES["margins"].probability) == [75.0]
    assert all(len(concept.value) <= 16 for concept in (margins.value, other.name, other.value))


def test_who_computed_it(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    sr = read(tmp_path, made(), [scored(0, CENTER)], info)
    (observer,) = sr.content.get_observer_contexts()
    device = observer.observer_identifying_attributes
    assert observer.observer_type == standard.DCM.Device
    assert (device.name, device.serial_number) == ("noduleserve", info.release)
    (group,) = sr.content.get_planar_roi_measurement_groups()
    said = {name: texts(group[0], Concept(name, "DCM", "")) for name in ("111001", "111003", "111002")}
    assert said == {
        "111001": ["noduleserve"],
        "111003": [f"{noduleserve.__version__} {info.release}"],
        "111002": [f"release={info.release}", "preprocessing=1", "folds=3", "calibrated=no"],
    }


def test_the_notice_and_the_warnings(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    doubt = InputWarning("CENTER_IN_AIR", "Around the centre is air.", "Check it.")
    series, outcome = made(), scored(0, CENTER, warnings=(doubt,))
    sr = read(tmp_path, series, [outcome], info)
    (group,) = sr.content.get_planar_roi_measurement_groups()
    said = [info.notice, "[CENTER_IN_AIR] Around the centre is air. Check it."]
    assert texts(group[0], codes.COMMENT) == said
    assert texts(sr.content[0], codes.NOTICE) == [info.notice]
    quiet = read(tmp_path, series, [scored(0, CENTER)], replace(info, notice=""))
    (group,) = quiet.content.get_planar_roi_measurement_groups()
    assert texts(group[0], codes.COMMENT) == texts(quiet.content[0], codes.NOTICE) == []


def test_nodules_without_a_score_are_named_and_are_no_finding(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    lost = Outcome(Nodule(1, {}, "p", "N1", Path("ct"), (1, 2, 3)), None, "SERVER_LOST", "It broke.\nMend: again.")
    no_place = Outcome(Nodule(2, {}, "p", "", Path("ct"), None, "no x"), None, "WORKLIST_ROW", "coordX is empty.")
    sr = read(tmp_path, made(), [scored(0, CENTER), lost, no_place], info)
    assert [g.tracking_identifier for g in sr.content.get_planar_roi_measurement_groups()] == ["N0"]
    assert texts(sr.content[0], codes.NOT_SCORED) == [
        "N1 at (1.00, 2.00, 3.00) mm: [SERVER_LOST] It broke. Mend: again.",
        "row 3: [WORKLIST_ROW] coordX is empty.",
    ]
    assert texts(sr.content[0], codes.COUNT) == ["1 scored, 2 not scored"]
    assert sr.CompletionFlag == "PARTIAL" and sr.CompletionFlagDescription


def test_tracking_uids_follow_the_nodule_and_nothing_else(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    series = made()
    other = replace(info, release="ns-other")
    again = scored(9, CENTER, "N0")
    again = replace(again, score=replace(again.score, release="ns-other"))
    uids = {
        one_group(tmp_path, series, scored(0, CENTER), info).tracking_uid,
        one_group(tmp_path, series, again, other).tracking_uid,
        tracking_uid("1.2.3.4", "N0", CENTER),
    }
    assert len(uids) == 1 and uids.pop().startswith("2.25.")
    apart = [("1.2.3.5", "N0", CENTER), ("1.2.3.4", "N1", CENTER), ("1.2.3.4", "N0", (10.26, 9.5, 8.75))]
    assert len({tracking_uid(*one) for one in apart} | {tracking_uid("1.2.3.4", "N0", CENTER)}) == 4
    assert tracking_uid("1", "N", (-0.0, 1.0, 2.0)) == tracking_uid("1", "N", (0.0, 1.0, 2.00000001))
    assert tracking_uid("1.2.3.4", "N0", CENTER) == "2.25.20310089406291935697506899601235198929"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"release": "ns-other"}, "not of release"),
        ({"malignancy": 1.5}, "no probability: malignancy"),
        ({"malignancy": float("nan")}, "no probability: malignancy"),
        ({"malignancy": 0.0}, "not the mean"),
        ({"raw": np.array([0.1, np.nan, 0.2], np.float32)}, "no probability: raw"),
        ({"raw": np.array([0.1, 0.2], np.float32)}, "not of 3 folds"),
        ({"semantic": np.full(4, -0.5, np.float32)}, "no probability: semantic"),
        ({"semantic": np.full(3, 0.5, np.float32)}, "3 semantic values"),
    ],
)
def test_a_score_that_cannot_be_right(changed, says, tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    outcome = scored(0, CENTER)
    wrong = replace(outcome, score=replace(outcome.score, **changed))
    with pytest.raises(SeriesError) as caught:
        read(tmp_path / "sr", made(), [scored(1, CENTER), wrong], info)
    assert caught.value.code == "SR_SCORE_INVALID" and says in caught.value.what and "N0" in caught.value.what
    assert not (tmp_path / "sr").exists()


def test_a_calibration_that_is_promised_but_not_there(tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SeriesError) as caught:
        read(tmp_path, made(), [scored(0, CENTER)], replace(info, calibrated=True))
    assert caught.value.code == "SR_SCORE_INVALID" and "calibrated" in caught.value.what


@pytest.mark.parametrize(("center", "series_uid"), [((25.0, 9.5, 8.75), ""), (CENTER, "1.2.3.99")])
def test_a_nodule_of_another_series(center, series_uid, tmp_path, info, scored, made) -> None:  # type: ignore[no-untyped-def]
    outcome = scored(0, center)
    stray = replace(outcome, nodule=replace(outcome.nodule, series_uid=series_uid))
    with pytest.raises(SeriesError) as caught:
        read(tmp_path, made(), [stray], info)
    assert caught.value.code == "SR_OTHER_SERIES"
