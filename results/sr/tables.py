"""Every concept that an SR may hold and where it stands, as `docs/sr.md` shows it."""

from __future__ import annotations

from collections.abc import Iterator

from . import codes
from .codes import FEATURES, Concept

_ROOT, _GROUP, _NUMBER = "document", "nodule", "probability"

# What the templates of the standard name, beside the concepts of `codes`: concept, where it stands.
_OF_TEMPLATES: tuple[tuple[Concept, str], ...] = (
    (Concept("121049", "DCM", "Language of Content Item and Descendants"), f"{_ROOT}: language"),
    (Concept("en-US", "RFC5646", "English (United States)"), "value of the language"),
    (Concept("121005", "DCM", "Observer Type"), f"{_ROOT}: observer context (TID 1002)"),
    (Concept("121007", "DCM", "Device"), "value of the observer type"),
    (Concept("121012", "DCM", "Device Observer UID"), f"{_ROOT}: device (TID 1004); of version and release"),
    (Concept("121013", "DCM", "Device Observer Name"), f"{_ROOT}: device (TID 1004)"),
    (Concept("121014", "DCM", "Device Observer Manufacturer"), f"{_ROOT}: device (TID 1004)"),
    (Concept("121015", "DCM", "Device Observer Model Name"), f"{_ROOT}: device (TID 1004); name and version"),
    (Concept("121016", "DCM", "Device Observer Serial Number"), f"{_ROOT}: device (TID 1004); release id"),
    (Concept("121058", "DCM", "Procedure reported"), f"{_ROOT}: procedure"),
    (Concept("126010", "DCM", "Imaging Measurements"), f"{_ROOT}: container of the nodules"),
    (Concept("125007", "DCM", "Measurement Group"), "imaging measurements: container of a nodule (TID 1410)"),
    (Concept("112039", "DCM", "Tracking Identifier"), f"{_GROUP}: its id in the worklist"),
    (Concept("112040", "DCM", "Tracking Unique Identifier"), f"{_GROUP}: UID of series, id and centre"),
    (Concept("121071", "DCM", "Finding"), f"{_GROUP}: finding"),
    (Concept("363698007", "SCT", "Finding Site"), f"{_GROUP}: finding site"),
    (Concept("111001", "DCM", "Algorithm Name"), f"{_GROUP}, and {_NUMBER} of a fold: algorithm (TID 4019)"),
    (Concept("111003", "DCM", "Algorithm Version"), f"{_GROUP}, and {_NUMBER} of a fold: version and release id"),
    (Concept("122405", "DCM", "Algorithm Manufacturer"), f"{_GROUP}, and {_NUMBER} of a fold: algorithm (TID 4019)"),
    (
        Concept("111002", "DCM", "Algorithm Parameters"),
        f"{_GROUP}: `release=`, `preprocessing=`, `folds=`, `calibrated=`; {_NUMBER} of a fold: `fold=`, from 0",
    ),
    (Concept("130400", "DCM", "Geometric purpose of region"), f"{_GROUP}: what the point is"),
    (Concept("111030", "DCM", "Image Region"), f"{_GROUP}: SCOORD3D POINT, LPS mm in the series' frame of reference"),
    (Concept("370129005", "SCT", "Measurement Method"), f"{_NUMBER} of cancer: modifier"),
    (Concept("121401", "DCM", "Derivation"), f"{_NUMBER} of cancer: modifier"),
    (Concept("121112", "DCM", "Source of Measurement"), f"{_NUMBER} of cancer: the slice nearest to the centre"),
)

_OF_OURS: tuple[tuple[Concept, str], ...] = (
    (codes.TITLE, "title (TID 1500)"),
    (codes.PROCEDURE, "value of the procedure"),
    (codes.NOTICE, f"{_ROOT}: text, where the release has a notice"),
    (codes.COUNT, f"{_ROOT}: text, `<n> scored, <m> not scored`"),
    (codes.NOT_SCORED, f"{_ROOT}: text, one a nodule without a score: id, place, code and sentence"),
    (codes.COMMENT, f"{_GROUP}: text; the release's notice, and each warning with its code"),
    (codes.FINDING, "value of the finding"),
    (codes.FINDING_SITE, "value of the finding site"),
    (codes.CENTER, "value of what the point is"),
    (codes.PERCENT, "unit of every probability"),
    (codes.PROBABILITY_OF_CANCER, f"{_GROUP}: number; of cancer within a year, mean over folds"),
    (codes.MEAN, "value of the derivation"),
    (codes.CALIBRATED, "value of the method, where the release is calibrated"),
    (codes.NOT_CALIBRATED, "value of the method, where the release is not calibrated"),
    (codes.FOLD_RANGE, f"{_GROUP}: number; over those probabilities whose mean is given"),
    (codes.FOLD_CALIBRATED, f"{_GROUP}: number, one a fold, where the release is calibrated"),
    (codes.FOLD_NOT_CALIBRATED, f"{_GROUP}: number, one a fold"),
)


def concept_rows() -> Iterator[tuple[Concept, str]]:
    """Every concept, once for each place, in the order of the document."""
    yield from _OF_TEMPLATES
    yield from _OF_OURS
    for feature, concepts in FEATURES.items():
        yield concepts.name, f"{_GROUP}: evaluation, and modifier of its {_NUMBER}; feature `{feature}`"
        yield concepts.probability, f"{_GROUP}: number; feature `{feature}`"
        if set(concepts.values) != {"present", "absent"}:
            for value, concept in concepts.values.items():
                yield concept, f"value `{value}` of `{feature}`"
    yield codes.PRESENT, "value `present` of the features that have it"
    yield codes.ABSENT, "value `absent` of the features that have it"


def markdown() -> str:
    """The table of `docs/sr.md`; a concept that stands in several places has one row."""
    places: dict[Concept, list[str]] = {}
    for concept, place in concept_rows():
        places.setdefault(concept, []).append(place)
    rows = [f"| {c.value} | {c.scheme} | {c.meaning} | {'; '.join(where)} |" for c, where in places.items()]
    return "\n".join(["| code | scheme | meaning | where it stands |", "|---|---|---|---|", *rows])
