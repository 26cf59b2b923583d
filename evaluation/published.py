"""The numbers that the method was published with, and their cohort: to be read beside others, never as one with them.

From the abstract of Zhuang et al., arXiv 2504.21344v3 (J Biomed Inform 172 (2025) 104947).
"""

from __future__ import annotations

from dataclasses import dataclass

from .figures import Beside, Estimate, Malignancy, SemanticFeature

SOURCE = "Zhuang et al., arXiv 2504.21344v3"
COHORT = "NLST test set"
NOT_COMPARABLE = (
    "Numbers of different cohorts are not comparable: they depend on who was screened and on which scanners, on how "
    "nodules and labels came about, and AUPRC on the share of positives."
)
FEATURES_DIFFER = (
    "How the semantic features were split into positive and negative for the published numbers may differ from the "
    "rules given here."
)


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        measure: what it is.
        value: the number.
        features: names under which a release may have the semantic feature; none: it is of the malignancy.
    """

    measure: str
    value: float
    features: tuple[str, ...] = ()


AUROC = Published("AUROC, cancer within a year", 0.901)
AUPRC = Published("AUPRC, cancer within a year", 0.776)
ZERO_SHOT = (
    Published("zero-shot AUROC, nodule margin", 0.807, ("margin", "margins", "margin conspicuity", "nodule margin")),
    Published("zero-shot AUROC, nodule consistency", 0.812, ("consistency", "nodule consistency")),
    Published("zero-shot AUROC, pleural attachment", 0.840, ("pleural attachment",)),
)


def beside(malignancy: Malignancy | None, semantic: tuple[SemanticFeature, ...]) -> tuple[Beside, ...]:
    """This cohort's numbers with their published counterparts; those without a counterpart are left out."""
    rows = []
    if malignancy:
        here = malignancy.discrimination
        rows += [Beside(AUROC.measure, here.auroc, AUROC.value), Beside(AUPRC.measure, here.auprc, AUPRC.value)]
    for published in ZERO_SHOT:
        for feature in semantic:
            if feature.feature in published.features and feature.discrimination:
                rows.append(Beside(f"{published.measure} (here {feature.rule})", _auroc(feature), published.value))
    return tuple(rows)


def _auroc(feature: SemanticFeature) -> Estimate:
    assert feature.discrimination is not None
    return feature.discrimination.auroc
