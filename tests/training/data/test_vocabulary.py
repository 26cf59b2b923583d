"""The table from ratings to semantic features, at its edges."""

from __future__ import annotations

import itertools

import pytest

from noduleserve.export.text.features import Features
from noduleserve.training.data.ratings import labelled
from noduleserve.training.data.vocabulary import KINDS, RATINGS, SCALES, TABLE, mean_ratings, values_of


def test_features_and_values_are_those_of_the_features_file(features: Features) -> None:
    for rule in TABLE:
        assert rule.value in features.prompts[rule.feature]
        assert {rating for rating, _, _ in rule.conditions} <= set(RATINGS)


@pytest.mark.parametrize(
    ("ratings", "feature", "value"),
    [
        ({"texture": 1}, "consistency", "pure ground glass"),
        ({"texture": 1.99}, "consistency", "pure ground glass"),
        ({"texture": 2}, "consistency", "part-solid"),
        ({"texture": 4}, "consistency", "part-solid"),
        ({"texture": 4.01}, "consistency", "solid"),
        ({"margin": 3}, "margin conspicuity", "well defined"),
        ({"margin": 2.99}, "margin conspicuity", "poorly defined"),
        ({"spiculation": 3, "lobulation": 1}, "margins", "spiculated"),
        ({"spiculation": 2.99, "lobulation": 3}, "margins", "lobulated"),
        ({"spiculation": 3, "lobulation": 5}, "margins", "spiculated"),
        ({"spiculation": 1.9, "lobulation": 1.9}, "margins", "smooth"),
        ({"spiculation": 2, "lobulation": 1}, "margins", None),
        ({"spiculation": 2.9, "lobulation": 2.9}, "margins", None),
        ({"lobulation": 4}, "margins", None),  # spiculated comes first, and nobody knows
        ({"spiculation": 3, "lobulation": 3}, "additional margins", "lobulated"),
        ({"spiculation": 3, "lobulation": 1}, "additional margins", "none"),
        ({"spiculation": 1, "lobulation": 5}, "additional margins", "none"),
        ({"spiculation": 2.5, "lobulation": 3}, "additional margins", None),
        ({"sphericity": 3}, "shape", "oval"),
        ({"sphericity": 3.01}, "shape", "round"),
        ({"internalStructure": 4}, "cyst-like spaces", "present"),
        ({"internalStructure": 1}, "cyst-like spaces", "absent"),
        ({"internalStructure": 3}, "cyst-like spaces", "absent"),
        ({"calcification": 4}, "eccentric calcification", "present"),
        ({"calcification": 3}, "eccentric calcification", "absent"),
        ({"calcification": 6}, "eccentric calcification", "absent"),
        ({}, "consistency", None),
    ],
)
def test_the_table_at_its_edges(ratings: dict[str, float], feature: str, value: str | None) -> None:
    assert values_of(ratings).get(feature) == value


def test_every_texture_margin_and_sphericity_has_a_value() -> None:
    for fifths in range(5, 26):
        rating = fifths / 5
        values = values_of({"texture": rating, "margin": rating, "sphericity": rating})
        assert values.keys() == {"consistency", "margin conspicuity", "shape"}


def test_no_rating_is_both_smooth_and_another_margin() -> None:
    for spiculation, lobulation in itertools.product((1, 1.5, 2, 2.5, 3, 4, 5), repeat=2):
        holding = {
            rule.value
            for rule in TABLE
            if rule.feature == "margins" and rule.holds({"spiculation": spiculation, "lobulation": lobulation})
        }
        assert "smooth" not in holding or holding == {"smooth"}


def test_means_of_scales_and_the_commonest_of_kinds() -> None:
    readers = [
        {"margin": 2.0, "calcification": 6.0, "internalStructure": 1.0},
        {"margin": 5.0, "calcification": 4.0, "internalStructure": 4.0},
        {"margin": 5.0, "calcification": 4.0},
    ]
    means = mean_ratings(readers)
    assert means["margin"] == pytest.approx(4)
    assert means["calcification"] == 4
    assert "internalStructure" not in means  # one says 1, one says 4: no mean of these means anything
    assert set(SCALES) | set(KINDS) == set(RATINGS)


@pytest.mark.parametrize(
    ("malignancy", "label", "soft"),
    [((3, 4), 1, 0.75), ((3, 3), None, 0.5), ((2, 4), None, 0.5), ((1, 3, 3), 0, 1 / 3), ((), None, None)],
)
def test_labels_of_readers(malignancy: tuple[float, ...], label: int | None, soft: float | None) -> None:
    example = labelled("n", "p", [{"malignancy": rating} for rating in malignancy])
    assert example.label == label
    assert example.soft_label == soft


def test_shares_of_readers_leave_out_those_who_settle_nothing() -> None:
    readers = [{"texture": 5.0}, {"texture": 1.0}, {"texture": 5.0}, {"margin": 5.0}]
    example = labelled("n", "p", readers)
    assert example.shares("consistency") == {"solid": pytest.approx(2 / 3), "pure ground glass": pytest.approx(1 / 3)}
    assert example.shares("shape") == {}
