"""One nodule as a measurement group (TID 1410): where it is, how probable cancer is, how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import SeriesError
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score

from . import codes
from .codes import Concept, Feature, feature_of
from .source import SourceSeries
from .uids import tracking_uid

if TYPE_CHECKING:
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        Measurement,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TextContentItem,
    )


_MEAN_TOLERANCE = 1e-4  # of a mean of float32


@dataclass(frozen=True)
class Algorithm:
    """What computed the scores.

    Attributes:
        version: of noduleserve.
        release: release id.
        preprocessing_version: of the views.
        folds: number of folds.
        calibrated: whether probabilities are calibrated.
    """

    version: str
    release: str
    preprocessing_version: str
    folds: int
    calibrated: bool

    def identification(self, fold: int | None = None) -> AlgorithmIdentification:
        """As TID 4019: of all, or of one fold (from 0)."""
        from highdicom.sr import AlgorithmIdentification

        parameters = [f"release={self.release}", f"preprocessing={self.preprocessing_version}"]
        if fold is None:
            parameters += [f"folds={self.folds}", f"calibrated={'yes' if self.calibrated else 'no'}"]
        else:
            parameters = [f"fold={fold}"]
        return AlgorithmIdentification(
            name="noduleserve",
            version=f"{self.version} {self.release}",
            parameters=parameters,
            manufacturer="noduleserve",
        )


def nodule_group(
    outcome: Outcome, series: SourceSeries, info: ReleaseInfo, algorithm: Algorithm
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """The measurement group of a nodule that was scored.

    Raises:
        SeriesError: SR_OTHER_SERIES, SR_SCORE_INVALID.
    """
    from highdicom.sr import (
        FindingSite,
        ImageRegion3D,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )

    score, center = _checked(outcome, series, info)
    stated = stated_values(score, info.labels)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(series.series_uid, outcome.nodule.nodule_id, center), identifier=nodule_name(outcome)
        ),
        referenced_region=ImageRegion3D("POINT", np.array([center]), series.frame_of_reference),
        geometric_purpose=coded(codes.CENTER),
        finding_type=coded(codes.FINDING),
        finding_sites=[FindingSite(coded(codes.FINDING_SITE))],
        algorithm_id=algorithm.identification(),
        measurements=[*_malignancy(score, center, series, info, algorithm), *map(_stated_probability, stated)],
        qualitative_evaluations=[_evaluation(one) for one in stated],
    )
    comments = [info.notice] if info.notice else []
    comments += [f"[{warning.code}] {warning.what} {warning.mend}".strip() for warning in outcome.warnings]
    group[0].ContentSequence.extend(text(codes.COMMENT, comment) for comment in comments)
    return group


@dataclass(frozen=True)
class Stated:
    """The most probable value of one semantic feature.

    Attributes:
        concepts: of the feature.
        value: concept of the value.
        probability: of the value.
    """

    concepts: Feature
    value: Concept
    probability: float


def stated_values(score: Score, labels: Sequence[str]) -> list[Stated]:
    """The most probable value of each feature, in the order of the release; the first of equals."""
    features: dict[str, dict[str, float]] = {}
    for label, probability in zip(labels, score.semantic.astype(float), strict=True):
        feature, _, value = label.partition(".")
        features.setdefault(feature, {})[value] = probability
    stated = []
    for feature, values in features.items():
        concepts = feature_of(feature, tuple(values))
        best = max(values, key=lambda value, values=values: values[value])  # type: ignore[misc]
        stated.append(Stated(concepts, concepts.values[best], values[best]))
    return stated


def nodule_name(outcome: Outcome) -> str:
    """The nodule's id as the worklist gives it; where it gives none, its row below the header, from 1."""
    return printable(outcome.nodule.nodule_id) or f"row {outcome.nodule.number + 1}"


def printable(value: str) -> str:
    """A text without control characters, which DICOM does not allow."""
    return "".join(character if character.isprintable() else " " for character in value).strip()


def coded(concept: Concept) -> CodedConcept:
    """A concept of the tables as highdicom has it."""
    from highdicom.sr import CodedConcept

    return CodedConcept(concept.value, concept.scheme, concept.meaning)


def text(name: Concept, value: str) -> TextContentItem:
    """A text of the tree."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    return TextContentItem(coded(name), printable(value), RelationshipTypeValues.CONTAINS)


def _checked(outcome: Outcome, series: SourceSeries, info: ReleaseInfo) -> tuple[Score, tuple[float, float, float]]:
    """Score and centre, once it is sure that they are of this series and this release, and are probabilities."""
    nodule, score = outcome.nodule, outcome.score
    if nodule.series_uid not in ("", series.series_uid) or nodule.center is None or not series.holds(nodule.center):
        raise SeriesError(
            "SR_OTHER_SERIES",
            f"Nodule {nodule_name(outcome)} is not of this series: its centre or its series_uid is of another.",
            "Give the SR of a series the nodules of that series alone.",
        )
    if score is None or score.release != info.release:
        raise _invalid(outcome, f"not of release {info.release}")
    if {score.raw.shape, score.calibrated.shape} != {(info.folds,)}:
        raise _invalid(outcome, f"not of {info.folds} folds, as the release has them")
    for name, numbers in _numbers(score, info):
        if not all(0 <= number <= 1 for number in numbers):  # false for NaN as well
            raise _invalid(outcome, f"no probability: {name}")
    if abs(score.malignancy - float(_averaged(score, info).mean())) > _MEAN_TOLERANCE:
        raise _invalid(outcome, "not the mean over its folds")
    if len(score.semantic) != len(info.labels):
        raise _invalid(outcome, f"of {len(score.semantic)} semantic values, but the release has {len(info.labels)}")
    return score, nodule.center


def _averaged(score: Score, info: ReleaseInfo) -> NDArray[np.float64]:
    """The probabilities whose mean is the malignancy, float64 [F]."""
    return (score.calibrated if info.calibrated else score.raw).astype(np.float64)


def _numbers(score: Score, info: ReleaseInfo) -> Iterable[tuple[str, Sequence[float]]]:
    yield "malignancy", [score.malignancy]
    yield "raw", score.raw.astype(float).tolist()
    yield "semantic", score.semantic.astype(float).tolist()
    if info.calibrated:
        yield "calibrated", score.calibrated.astype(float).tolist()


def _invalid(outcome: Outcome, why: str) -> SeriesError:
    return SeriesError(
        "SR_SCORE_INVALID", f"The score of nodule {nodule_name(outcome)} is {why}.", "Score the worklist again."
    )


def _malignancy(
    score: Score, center: tuple[float, float, float], series: SourceSeries, info: ReleaseInfo, algorithm: Algorithm
) -> list[Measurement]:
    """The probability of cancer: mean over folds, highest minus lowest, and each fold."""
    from highdicom.sr import SourceImageForMeasurement

    at = series.slice_at(center)
    mean = _percent(
        codes.PROBABILITY_OF_CANCER,
        score.malignancy,
        derivation=coded(codes.MEAN),
        method=coded(codes.CALIBRATED if info.calibrated else codes.NOT_CALIBRATED),
        referenced_images=[
            SourceImageForMeasurement(at.sop_class_uid, at.sop_instance_uid, None if at.frame is None else [at.frame])
        ],
    )
    kinds = [(codes.FOLD_CALIBRATED, score.calibrated)] if info.calibrated else []
    kinds.append((codes.FOLD_NOT_CALIBRATED, score.raw))
    folds = [
        _percent(name, probability, algorithm_id=algorithm.identification(fold))
        for name, probabilities in kinds
        for fold, probability in enumerate(probabilities.astype(float).tolist())
    ]
    spread = float(np.ptp(_averaged(score, info)))
    return [mean, _percent(codes.FOLD_RANGE, spread), *folds]


def _stated_probability(stated: Stated) -> Measurement:
    """How probable the stated value of a feature is; which value that is stands in it as a modifier as well."""
    from highdicom.sr import CodeContentItem, ContentSequence, RelationshipTypeValues

    measurement = _percent(stated.concepts.probability, stated.probability)
    modifier = CodeContentItem(coded(stated.concepts.name), coded(stated.value), RelationshipTypeValues.HAS_CONCEPT_MOD)
    measurement[0].ContentSequence = ContentSequence([modifier])
    return measurement


def _evaluation(stated: Stated) -> QualitativeEvaluation:
    from highdicom.sr import QualitativeEvaluation

    return QualitativeEvaluation(coded(stated.concepts.name), coded(stated.value))


def _percent(name: Concept, probability: float, **more: Any) -> Measurement:
    """A probability (0..1) as a measurement in percent, which is how DICOM has its probabilities of cancer.

    Nine digits tell every float32 from its neighbours, as in the table of results; more would be noise to a reader.
    """
    from highdicom.sr import Measurement

    return Measurement(name=coded(name), value=float(f"{100 * probability:.9g}"), unit=coded(codes.PERCENT), **more)
