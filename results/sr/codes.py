"""Every coded concept that an SR holds, as literal tables; `docs/sr.md` shows them.

Codes of DICOM (DCM), SNOMED CT (SCT), LOINC (LN) and UCUM stand where the standard has a concept that means the same.
Where it has none, the code is private (`99NODULESERVE`), and its meaning here defines it. Private codes keep their
meaning over releases, and are never used again for another.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

SCHEME = "99NODULESERVE"
SCHEME_NAME = "Concepts of noduleserve"
LONGEST_MEANING = 64  # characters that DICOM allows


class Concept(NamedTuple):
    """A code, the scheme that it is of, and what it means."""

    value: str
    scheme: str
    meaning: str


class Feature(NamedTuple):
    """The concepts of one semantic feature.

    Attributes:
        name: of the feature.
        values: of its values, by their names in the features file.
        probability: names the measurement that says how probable the stated value is.
    """

    name: Concept
    values: dict[str, Concept]
    probability: Concept


def _private(value: str, meaning: str) -> Concept:
    return Concept(value, SCHEME, meaning)


# Of the document: where it stands in the tree -> concept.
TITLE = Concept("126000", "DCM", "Imaging Measurement Report")
PROCEDURE = Concept("25045-6", "LN", "CT unspecified body region")
COMMENT = Concept("121106", "DCM", "Comment")
NOTICE = _private("NS-001", "Notice about the release")
NOT_SCORED = _private("NS-002", "Nodule of the worklist without a score")
COUNT = _private("NS-003", "Nodules scored and not scored")

# Of a nodule's measurement group.
FINDING = Concept("27925004", "SCT", "Nodule")
FINDING_SITE = Concept("39607008", "SCT", "Lung")
CENTER = Concept("111010", "DCM", "Center")
PERCENT = Concept("%", "UCUM", "Percent")
PROBABILITY_OF_CANCER = Concept("111047", "DCM", "Probability of cancer")
MEAN = Concept("373098007", "SCT", "Mean")
CALIBRATED = _private("NS-011", "Cancer within one year, calibrated")
NOT_CALIBRATED = _private("NS-012", "Cancer within one year, not calibrated")
FOLD_CALIBRATED = _private("NS-013", "Probability of cancer by one fold, calibrated")
FOLD_NOT_CALIBRATED = _private("NS-014", "Probability of cancer by one fold, not calibrated")
FOLD_RANGE = _private("NS-015", "Highest minus lowest probability of cancer over folds")

PRESENT = Concept("52101004", "SCT", "Present")
ABSENT = Concept("272519000", "SCT", "Absent")
_LOBULATED = Concept("112135", "DCM", "Lobulated")
_SPICULATED = Concept("112136", "DCM", "Spiculated")
_IRREGULAR = Concept("49608001", "SCT", "Irregular")


def _present(name: Concept, probability: str) -> Feature:
    return Feature(name, {"present": PRESENT, "absent": ABSENT}, _private(probability, _stated(name.meaning)))


def _stated(meaning: str) -> str:
    return f"Probability of stated {meaning[0].lower()}{meaning[1:]}"[:LONGEST_MEANING]


# feature as the built-in features file names it -> its concepts
FEATURES: dict[str, Feature] = {
    "margin conspicuity": Feature(
        Concept("112007", "DCM", "Border definition"),
        {
            "well defined": Concept("260409000", "SCT", "Well defined"),
            "poorly defined": Concept("300841009", "SCT", "Poorly defined"),
        },
        _private("NS-201", "Probability of stated border definition"),
    ),
    "margins": Feature(
        Concept("112015", "DCM", "Border shape"),
        {
            "smooth": Concept("82280004", "SCT", "Smooth"),
            "lobulated": _LOBULATED,
            "spiculated": _SPICULATED,
            "irregular": _IRREGULAR,
        },
        _private("NS-202", "Probability of stated border shape"),
    ),
    "additional margins": Feature(
        _private("NS-103", "Second border shape on a smaller part of the border"),
        {
            "none": Concept("260413007", "SCT", "None"),
            "lobulated": _LOBULATED,
            "spiculated": _SPICULATED,
            "irregular": _IRREGULAR,
        },
        _private("NS-203", "Probability of stated second border shape"),
    ),
    "shape": Feature(
        Concept("300842002", "SCT", "Shape"),
        {
            "round": Concept("42700002", "SCT", "Round"),
            "oval": Concept("84360004", "SCT", "Ovoid shape"),
            "polygonal": _private("NS-301", "Polygonal shape"),
            "irregular": _IRREGULAR,
        },
        _private("NS-204", "Probability of stated shape"),
    ),
    "consistency": Feature(
        _private("NS-105", "Consistency of the nodule"),
        {
            "solid": _private("NS-302", "Solid nodule"),
            "part-solid": _private("NS-303", "Part-solid nodule"),
            "pure ground glass": _private("NS-304", "Pure ground-glass nodule"),
        },
        _private("NS-205", "Probability of stated consistency of the nodule"),
    ),
    "reticulation": _present(_private("NS-106", "Reticulation inside the nodule"), "NS-206"),
    "cyst-like spaces": _present(_private("NS-107", "Cyst-like spaces inside the nodule"), "NS-207"),
    "intra-nodular bronchiectasis": _present(_private("NS-108", "Bronchiectasis inside the nodule"), "NS-208"),
    "necrosis": _present(Concept("6574001", "SCT", "Necrosis"), "NS-209"),
    "cavitation": _present(_private("NS-110", "Cavitation of the nodule"), "NS-210"),
    "eccentric calcification": _present(_private("NS-111", "Eccentric calcification of the nodule"), "NS-211"),
    "airway cut-off": _present(_private("NS-112", "Airway cut-off at the nodule"), "NS-212"),
    "pleural attachment": _present(_private("NS-113", "Attachment of the nodule to the pleura"), "NS-213"),
    "pleural retraction": _present(_private("NS-114", "Retraction of the pleura to the nodule"), "NS-214"),
    "vascular convergence": _present(_private("NS-115", "Convergence of vessels to the nodule"), "NS-215"),
    "septal stretching": _present(_private("NS-116", "Stretched septa next to the nodule"), "NS-216"),
    "paracicatricial emphysema": _present(_private("NS-117", "Paracicatricial emphysema at the nodule"), "NS-217"),
}


def feature_of(feature: str, values: tuple[str, ...]) -> Feature:
    """The concepts of a feature as a release names it.

    A feature or a value that the table does not know, from a features file of a site's own, gets a private code
    from the hash of its name (`NSX-` and 12 digits): the same name has the same code everywhere.
    """
    known = FEATURES.get(feature)
    if known is None:
        meaning = feature[:LONGEST_MEANING]
        known = Feature(_private(_hashed(feature), meaning), {}, _private(_hashed(f"\n{feature}"), _stated(meaning)))
    named = {
        value: known.values.get(value) or _private(_hashed(f"{feature}\n{value}"), value[:LONGEST_MEANING])
        for value in values
    }
    return known._replace(values=named)


def _hashed(name: str) -> str:
    return f"NSX-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
