"""Scores by scanner and slice thickness by hand."""

from __future__ import annotations

import math

import pytest

from noduleserve.results.report.scanners import UNKNOWN, Groups, scanner_name, thickness_range

EDGE = {"Manufacturer": "SIEMENS", "ManufacturerModelName": " Edge ", "SliceThickness": "1.0"}
OTHER = {"Manufacturer": "GE", "ManufacturerModelName": "", "SliceThickness": "2.5"}


def test_groups_by_hand() -> None:
    groups = Groups()
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        groups.add(EDGE, value, parked=False)
    groups.add(EDGE, math.nan, parked=True)
    groups.add(OTHER, 0.9, parked=False)
    for _ in range(3):
        groups.add({}, math.nan, parked=True)
    edge, other, unknown = groups.scanners
    assert [g.name for g in groups.scanners] == ["SIEMENS Edge", "GE", UNKNOWN]
    assert (edge.count, edge.parked, edge.share, edge.parked_share) == (6, 1, 0.6, pytest.approx(1 / 6))
    assert edge.quartiles == pytest.approx((0.2, 0.3, 0.4))
    assert other.quartiles == pytest.approx((0.9,) * 3)
    assert (unknown.count, unknown.parked_share) == (3, 1) and all(map(math.isnan, unknown.quartiles))
    assert [g.name for g in groups.thicknesses] == ["up to 1 mm", "over 1.5 to 2.5 mm", UNKNOWN]
    assert groups.known == 7
    assert sum(g.share for g in groups.scanners) == pytest.approx(1)


def test_few_is_counted_in_scores() -> None:
    groups = Groups()
    for n in range(20):
        groups.add(EDGE, 0.5, parked=False)
        groups.add(OTHER, 0.5 if n else math.nan, parked=not n)
    assert {group.name: group.few for group in groups.scanners} == {"SIEMENS Edge": False, "GE": True}


@pytest.mark.parametrize(
    ("thickness", "name"),
    [
        ("0.5", "up to 1 mm"),
        ("1", "up to 1 mm"),
        ("1.25", "over 1 to 1.5 mm"),
        ("2.500", "over 1.5 to 2.5 mm"),
        ("5", "over 2.5 mm"),
        ("", UNKNOWN),
        ("thin", UNKNOWN),
        ("nan", UNKNOWN),
        ("inf", UNKNOWN),
        ("-1", UNKNOWN),
        ("0", UNKNOWN),
    ],
)
def test_slice_thickness_of_every_kind(thickness: str, name: str) -> None:
    assert thickness_range({"SliceThickness": thickness}) == name


def test_a_scanner_without_words_is_not_known() -> None:
    assert scanner_name({}) == scanner_name({"Manufacturer": " "}) == UNKNOWN
