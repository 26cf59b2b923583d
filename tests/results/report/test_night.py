"""Counting a night: what goes in comes out, in memory that does not grow with what answers hold."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from report_making import failed, nodule, score_of, scored

from noduleserve.ct.doubt import InputWarning
from noduleserve.results.outcome import Outcome, Score
from noduleserve.results.report.night import LISTED, SMALL, gather
from noduleserve.results.report.verdict import of_rows, of_run, of_worklist


def untimed(*outcomes: Outcome) -> Iterator[tuple[Outcome, float]]:
    return ((outcome, math.nan) for outcome in outcomes)


def with_malignancy(number: int, value: float) -> Outcome:
    outcome = scored(number, views=False)
    return dataclasses.replace(outcome, score=dataclasses.replace(score_of(outcome), malignancy=value))


def many(number: int) -> Iterator[tuple[Outcome, float]]:
    """Outcomes of a night as a journal gives them, each with arrays of its own (9 kB)."""
    scanner = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Edge", "SliceThickness": "1"}
    for k in range(number):
        if k % 50 == 0:
            sentence = f"Slice {k} is missing. Mend: Send it again."
            yield Outcome(nodule(k), None, "SERIES_UNEVEN", sentence, scanner=scanner), float(k)
            continue
        value = (k * 7919 % number) / number
        score = Score(
            value,
            np.full(5, value, np.float32),
            np.full(5, np.nan, np.float32),
            np.zeros(35, np.float32),
            np.zeros((5, 256), np.float32),
            np.full((5, 9), 1 / 9, np.float32),
            "ns-1",
        )
        yield Outcome(nodule(k), score, seconds={"box": 0.5}, scanner=scanner), float(k)


def test_twenty_thousand_outcomes_stay_in_a_few_megabytes() -> None:
    next(many(1))  # what imports and caches take is not the night's
    tracemalloc.start()
    try:
        night = gather(many(20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (night.total, night.scored, night.parked) == (20_000, 19_600, 400)
    assert night.scored == len(night.scores.values) and len(night.times) == 20_000
    assert peak < 16e6, f"{peak / 1e6:.1f} MB"  # their arrays alone would take 120 MB
    best = [score_of(outcome).malignancy for outcome in night.top]
    assert best == sorted(night.scores.values, reverse=True)[:12]
    assert night.small is None
    assert night.parked_by["SERIES_UNEVEN"].count == 400
    assert night.parked_by["SERIES_UNEVEN"].mends == {"Send it again.": 400}
    assert night.stages == {"box": pytest.approx(9800)}


def test_the_highest_are_kept_and_the_earlier_of_equals_comes_first() -> None:
    values = [0.2, 0.9, 0.5, 0.9, math.nan, 0.7]
    night = gather(untimed(*(with_malignancy(n, value) for n, value in enumerate(values))), top=4)
    assert [outcome.nodule.number for outcome in night.top] == [1, 3, 5, 2]
    assert night.infinite == 1 and len(night.scores.values) == 5
    assert not gather(untimed(scored(0)), top=0).top


def test_no_more_than_so_many_are_named_and_all_are_counted() -> None:
    night = gather(untimed(*(failed(n, "Gone. Mend: Look.") for n in range(LISTED + 7))))
    held = night.parked_by["BOX_SHORT"]
    assert (held.count, len(held.named), held.named[-1].number) == (LISTED + 7, LISTED, LISTED)


def test_a_night_is_whole_up_to_a_limit() -> None:
    outcomes = [failed(n, "Gone.") for n in range(SMALL + 1)]
    assert gather(untimed(*outcomes[:-1])).small == outcomes[:-1]
    assert gather(untimed(*outcomes)).small is None


def test_warnings_are_counted_by_code_and_nodules_once() -> None:
    wide, air = (InputWarning(code, "So.", "Look.") for code in ("SPACING_WIDE", "CENTER_IN_AIR"))
    both = dataclasses.replace(scored(0), warnings=(wide, air))
    night = gather(untimed(both, dataclasses.replace(scored(1), warnings=(wide,)), scored(2)))
    assert night.warned == 2
    assert {code: held.count for code, held in night.warned_by.items()} == {"SPACING_WIDE": 2, "CENTER_IN_AIR": 1}


def test_scores_say_what_they_are() -> None:
    other = scored(1)
    other = dataclasses.replace(other, score=dataclasses.replace(score_of(other), release="ns-0"))
    mixed = gather(untimed(scored(0), other, scored(2, calibrated=False))).scores
    assert (mixed.releases, mixed.calibrated) == (("ns-0", "rel-7"), None)
    assert gather(untimed(scored(0))).scores.calibrated is True
    assert gather(untimed(failed(0, "Gone."))).scores.releases == ()


def test_every_row_of_the_worklist_is_accounted_for() -> None:
    rows = [nodule(n) for n in range(6)]
    night = gather(untimed(scored(0), failed(1, "Gone."), scored(3), scored(9), scored(4)))
    verdict = of_worklist(night, rows)
    assert (verdict.rows, verdict.scored, verdict.parked, verdict.missing) == (6, 3, 1, 2)
    assert [(one.number, one.pid, one.nodule_id) for one in verdict.named] == [(3, "P002", "n2"), (6, "P005", "n5")]
    assert verdict.strangers == 1
    assert verdict.state == "incomplete"
    assert verdict.sentence == "Not complete: 6 nodules in, 3 scored, 1 parked, 2 without an outcome."
    assert verdict.scored + verdict.parked + verdict.missing == verdict.rows


def test_twins_of_the_worklist_need_an_outcome_each() -> None:
    twin = dataclasses.replace(nodule(0), number=1)
    outcome = scored(0)
    assert of_worklist(gather(untimed(outcome)), [nodule(0), twin]).missing == 1
    both = gather(untimed(outcome, dataclasses.replace(outcome, nodule=twin)))
    assert of_worklist(both, [nodule(0), twin]).state == "complete"


def test_a_row_of_the_same_ids_at_another_place_is_another_row() -> None:
    moved = nodule(0)
    moved = dataclasses.replace(moved, columns={**moved.columns, "coordZ": "31"})
    assert of_worklist(gather(untimed(scored(0))), [moved]).missing == 1


def test_without_a_worklist_the_journal_counts_its_rows() -> None:
    night = gather(untimed(scored(0), scored(3), failed(4, "Gone.")))
    verdict = of_rows(night, 9, "the journal")
    assert (verdict.missing, verdict.state, verdict.ranges) == (6, "incomplete", "2 to 3, 6 to 9")
    assert of_rows(night, None).state == "unchecked"
    assert "How many nodules went in is not known" in of_rows(night, None).sentence
    assert of_rows(gather(untimed(scored(0))), 1, "the journal").sentence == (
        "Complete: 1 nodule in, 1 scored, 0 parked, none without an outcome."
    )
    long = of_rows(gather(untimed()), 2 * LISTED)
    assert long.ranges == f"1 to {LISTED} and {LISTED} more"


def test_a_run_is_complete_by_its_nature() -> None:
    verdict = of_run(gather(untimed(scored(7), failed(2, "Gone."))))
    assert (verdict.state, verdict.rows, verdict.strangers) == ("complete", 2, 0)
