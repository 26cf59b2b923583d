"""The codes are those of the standard where they say so, ours are unambiguous, and the page shows them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.sr._concepts_dict import concepts as dictionary

from noduleserve.results.codes import RESULT_CODES
from noduleserve.results.sr.codes import FEATURES, SCHEME, Concept, feature_of
from noduleserve.results.sr.document import write_sr
from noduleserve.results.sr.tables import concept_rows, markdown

ROOT = Path(__file__).parents[3]
CONCEPTS = {concept for concept, _ in concept_rows()}


@pytest.mark.parametrize("concept", sorted(c for c in CONCEPTS if c.scheme != SCHEME), ids=lambda c: c.meaning)
def test_a_code_of_a_standard_means_what_the_dictionary_says(concept: Concept) -> None:
    if concept.scheme == "RFC5646":  # languages are no part of the dictionary
        assert concept.value == "en-US"
        return
    known = [code[concept.value][0] for code in dictionary[concept.scheme].values() if concept.value in code]
    assert concept.meaning.lower() in {meaning.lower() for meaning in known}


def test_private_codes_are_well_formed_and_stand_for_one_thing_each() -> None:
    private = [c for c in CONCEPTS if c.scheme == SCHEME]
    assert len(private) > 30
    assert len({c.value for c in private}) == len({c.meaning for c in private}) == len(private)
    assert all(len(c.value) <= 16 and len(c.meaning) <= 64 for c in CONCEPTS)


def test_every_built_in_feature_and_value_has_its_concepts() -> None:
    yaml = pytest.importorskip("yaml", reason="the features file is YAML")
    features = yaml.safe_load((ROOT / "export/text/features.yaml").read_text())["features"]
    assert {name: list(one["values"]) for name, one in features.items()} == {
        name: list(one.values) for name, one in FEATURES.items()
    }


def test_other_features_get_the_same_code_for_the_same_name() -> None:
    once, again = feature_of("halo", ("yes", "no")), feature_of("halo", ("no", "yes", "maybe"))
    assert once.name == again.name == Concept("NSX-a4e63bcacf6c", SCHEME, "halo")
    assert once.probability == again.probability and once.values["no"] == again.values["no"]
    assert once.values["no"] != feature_of("rim", ("no",)).values["no"]
    codes = {once.name.value, once.probability.value, *(c.value for c in again.values.values())}
    assert len(codes) == 5


def test_the_page_shows_the_tables() -> None:
    page = (ROOT / "docs/sr.md").read_text()
    assert markdown() in page
    assert "\n".join(f"| {code} | {meaning} |" for code, meaning in RESULT_CODES.items()) in page


@pytest.mark.parametrize("calibrated", [False, True])
def test_no_document_holds_a_code_that_the_page_does_not_show(  # type: ignore[no-untyped-def]
    calibrated, tmp_path, info, scored, made, all_labels
) -> None:
    info = replace(info, labels=all_labels, calibrated=calibrated)
    outcomes = [scored(number, (10, 9, 8), labels=all_labels, calibrated=calibrated) for number in range(2)]
    path = write_sr(tmp_path, made(), outcomes, info, preprocessing_version="1")
    used: set[Concept] = set()

    def gather(_: Dataset, element: Any) -> None:
        if element.keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence", "MeasurementUnitsCodeSequence"):
            used.update(Concept(c.CodeValue, c.CodingSchemeDesignator, c.CodeMeaning) for c in element.value)

    tree = dcmread(path)
    tree.walk(gather)
    assert len(used) > 60
    assert used - CONCEPTS == set()
