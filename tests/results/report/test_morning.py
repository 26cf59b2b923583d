"""The sections of the morning report: each with the numbers it was made from, and absent where they are not known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from report_making import HOSTILE, INFO, WHEN, Node, Page, failed, score_of, scored

from noduleserve.errors import NoduleserveError
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.report.about import About, Parity, ParityLine
from noduleserve.results.report.distribution import compare
from noduleserve.results.report.night import Night, gather
from noduleserve.results.report.page import Reference, write_night
from noduleserve.results.report.verdict import Verdict, of_rows

EDGE = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Edge", "SliceThickness": "1.0"}


def outcomes(number: int, shift: float = 0.0, **changes: object) -> Iterator[tuple[Outcome, float]]:
    """A night without views, one outcome a second and an hour's pause in its middle."""
    for k in range(number):
        outcome = dataclasses.replace(scored(k, views=False), **changes)  # type: ignore[arg-type]
        value = min((k + 0.5) / number + shift, 1.0)
        score = dataclasses.replace(score_of(outcome), malignancy=value)
        at = WHEN.timestamp() - 9000 + k + (3600 if k >= number // 2 else 0)
        yield dataclasses.replace(outcome, score=score), at


def page(
    tmp_path: Path,
    night: Night,
    *,
    verdict: Verdict | None = None,
    info: ReleaseInfo = INFO,
    reference: Reference | None = None,
    **about: object,
) -> Node:
    path = tmp_path / "morning.html"
    told = About(WHEN, **about)  # type: ignore[arg-type]
    views = ["The CT is elsewhere."] * len(night.top)
    write_night(path, night, verdict or of_rows(night, night.total), info, told, views, reference=reference)
    return Page(path.read_text(encoding="utf-8")).root


def table(root: Node, cls: str, number: int = 0) -> list[list[str]]:
    rows = root.all("table", cls=cls)[number].one("tbody").all("tr")
    return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in rows]


def headings(root: Node) -> list[str]:
    return [heading.attributes["id"] for heading in root.all("h2")]


def test_a_whole_night_has_every_section_in_order(tmp_path: Path) -> None:
    night = gather([*outcomes(120, scanner=EDGE), (failed(120, "Gone."), math.nan)])
    reference = Reference("last.journal", gather(outcomes(150)))
    root = page(tmp_path, night, reference=reference, verdict=of_rows(night, 123, "the journal"))
    expected = ["missing", "parked", "nodules", "scores", "flow", "times", "scanners", "reading", "made"]
    assert headings(root) == expected
    for drawing in root.all("svg"):
        if "aria-hidden" not in drawing.attributes and "aria-label" not in drawing.attributes:
            named = drawing.attributes["aria-labelledby"].split()
            assert [drawing.one(id=name).tag for name in named] == ["title", "desc"]
    ids = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    targets = {link.attributes["href"] for link in root.all("a")}
    assert {target.removeprefix("#") for target in targets} <= set(ids)


def test_an_empty_night_has_none_of_them(tmp_path: Path) -> None:
    root = page(tmp_path, gather([]))
    assert headings(root) == ["reading", "made"]
    assert root.one(cls="verdict").text == "Complete: 0 nodules in, 0 scored, 0 parked, none without an outcome."


def test_without_times_scanners_or_stages_their_sections_are_absent(tmp_path: Path) -> None:
    night = gather((outcome, math.nan) for outcome, _ in outcomes(30, seconds={}))
    root = page(tmp_path, night, left_out=("Throughput is not known.",))
    assert headings(root) == ["nodules", "scores", "reading", "made"]
    assert root.all("li")[-1].text == "Throughput is not known."
    assert not root.all(id="shift")


def test_few_scores_are_no_distribution(tmp_path: Path) -> None:
    assert "scores" not in headings(page(tmp_path, gather(outcomes(19))))
    assert "scores" in headings(page(tmp_path, gather(outcomes(20))))


def test_the_verdict_names_rows_and_strangers(tmp_path: Path) -> None:
    night = gather(outcomes(3))
    root = page(tmp_path, night, verdict=of_rows(night, 6, "the journal"))
    assert root.one(cls="verdict").attributes["class"] == "verdict incomplete"
    assert "3 rows of 6 have neither a score nor a reason, as the journal counts them." in root.text
    assert "Rows 4 to 6." in root.text
    root = page(tmp_path, night, verdict=of_rows(night, 2, "the journal"))
    assert "1 outcome is of no row of the worklist." in root.text


def test_scores_are_drawn_and_tabled_beside_the_reference(tmp_path: Path) -> None:
    tonight, before = gather(outcomes(200)), gather(outcomes(200, shift=0.3))
    root = page(tmp_path, tonight, reference=Reference("last.journal", before))
    rows = table(root, "histogram")
    assert len(rows) == 20 and rows[0] == ["0.00..0.05", "5.0 %", "0.0 %"]
    assert rows[-1] == ["0.95..1.00", "5.0 %", "35.0 %"]
    quantiles = table(root, "quantiles")
    assert quantiles[4] == ["half (median)", "0.500", "0.800"]
    assert quantiles[0] == ["lowest", "0.003", "0.302"] and quantiles[-1] == ["highest", "0.998", "1.000"]
    shift = compare(before.scores, tonight.scores)
    assert f"Population stability index {shift.index:.3f}: large shift." in root.text
    assert len(table(root, "bins")) == len(shift.bins)
    chart = root.one("svg", **{"aria-labelledby": "histogram-title histogram-desc"})
    heights = [float(bar.attributes["height"]) for bar in chart.all("rect", cls="fill")]
    assert heights == pytest.approx([100 * 5 / 35] * 20, abs=0.01)
    assert len(chart.all("path", cls="before")) == 1
    assert not page(tmp_path, tonight).all("path", cls="before")


def test_no_index_is_given_where_it_would_mislead(tmp_path: Path) -> None:
    small = Reference("small.csv", gather(outcomes(99)))
    root = page(tmp_path, gather(outcomes(200)), reference=small)
    assert "No stability index is given. The reference night has 99 scores; below 100" in root.text
    assert not root.all("table", cls="bins")
    other = Night()
    for outcome, at in outcomes(150):
        other.add(dataclasses.replace(outcome, score=dataclasses.replace(score_of(outcome), release="rel-6")), at)
    root = page(tmp_path, gather(outcomes(200)), reference=Reference("other.journal", other))
    assert "The releases differ (rel-6 then, rel-7 tonight)" in root.text


def test_the_course_of_the_night_shows_the_pause(tmp_path: Path) -> None:
    root = page(tmp_path, gather(outcomes(400)))
    assert "1 pause of 1 min 00 s or more" in root.text
    assert table(root, "pauses") == [["03-04 02:39:26", "60 min 01 s"]]
    rates = table(root, "rates")
    assert sum(int(row[1]) for row in rates) == 400
    chart = root.one("svg", **{"aria-labelledby": "rates-title rates-desc"})
    (pause,) = chart.all("rect", cls="pause")
    assert float(pause.attributes["width"]) == pytest.approx(100 * 3601 / 3999, abs=0.01)


def test_scanners_are_split_and_small_groups_marked(tmp_path: Path) -> None:
    night = gather(outcomes(40, scanner=EDGE))
    for outcome, at in outcomes(3, scanner={"Manufacturer": "GE <b>", "SliceThickness": "2"}):
        night.add(outcome, at)
    night.add(dataclasses.replace(failed(50, "Gone."), scanner=EDGE))
    root = page(tmp_path, night)
    assert table(root, "groups") == [
        ["SIEMENS Edge", "41 93.2 %", "0.500 0.256..0.744", "", "1 2.4 %"],
        ["GE <b> few", "3 6.8 %", "0.500 0.333..0.667", "", "0 0.0 %"],
    ]
    assert [row[0] for row in table(root, "groups", 1)] == ["up to 1 mm", "over 1.5 to 2.5 mm few"]


def test_release_parity_and_how_the_page_was_made_are_told(tmp_path: Path) -> None:
    links = (ParityLine("graph (a -> b)", 2e-7, 1e-4), ParityLine("slots", 3e-3, 1e-6))
    info = dataclasses.replace(INFO, notice="Untrained.")
    root = page(
        tmp_path, gather(outcomes(3)), info=info, parity=Parity("4 nodules", links),
        preprocessing="2", command="noduleserve report x", results="tonight.journal", worklist="tonight.csv",
    )  # fmt: skip
    assert "no probability moved by more than 3.0e-03" in root.text
    assert table(root, "parity") == [["graph (a -> b)", "2.0e-07", "1e-04"], ["slots", "3.0e-03", "1e-06"]]
    assert [cell.text for cell in root.all("td", cls="failed")] == ["3.0e-03"]
    assert root.one(cls="colophon").text.startswith("Made 2026-03-04 05:06:07 UTC From tonight.journal Release rel-7")
    assert "Command noduleserve report x" in root.one(cls="colophon").text
    first = next(child for child in root.one("header", cls="page").children if isinstance(child, Node))
    assert (first.text, first.attributes["class"]) == ("Untrained.", "notice")
    missed = page(tmp_path, gather(outcomes(3)), parity=Parity("4 nodules", links, missed=True))
    assert "This release missed its tolerances" in missed.text
    assert "Parity" not in page(tmp_path, gather(outcomes(3))).text


def test_two_releases_in_one_night_are_an_alarm(tmp_path: Path) -> None:
    night = gather(outcomes(5))
    for outcome, at in outcomes(2):
        night.add(dataclasses.replace(outcome, score=dataclasses.replace(score_of(outcome), release="rel-8")), at)
    root = page(tmp_path, night, alarms=("Look here.",))
    alarms = [node.text for node in root.all(cls="alarm")]
    assert alarms[0] == "Look here."
    assert "2 answers came from another release than rel-7: 2 from rel-8" in alarms[1]


def test_views_that_cannot_be_shown_leave_their_sentence(tmp_path: Path) -> None:
    root = page(tmp_path, gather(outcomes(3), top=2))
    assert [part.all("p")[0].text for part in root.all(cls="views")] == ["No views are shown: The CT is elsewhere."] * 2
    assert len(root.all("figcaption")) == 18  # attention is known all the same
    unattended = gather(outcomes(3), top=1)
    score = dataclasses.replace(score_of(unattended.top[0]), view_attention=np.full((3, 9), np.nan, np.float32))
    night = gather([(dataclasses.replace(unattended.top[0], score=score), 0.0)])
    root = page(tmp_path, night)
    assert "Neither views nor their attention are shown: The CT is elsewhere." in root.text
    assert not root.all("figcaption")


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    scanner = {"Manufacturer": HOSTILE, "ManufacturerModelName": HOSTILE}
    night = gather(outcomes(120, scanner=scanner))
    night.add(failed(500, f"{HOSTILE} Mend: {HOSTILE}", code=HOSTILE, pid=HOSTILE))
    info = dataclasses.replace(INFO, release=HOSTILE, notice=HOSTILE)
    parity = Parity(HOSTILE, (ParityLine(HOSTILE, 0.0, 1.0),), notes=(HOSTILE,))
    root = page(
        tmp_path, night, info=info, reference=Reference(HOSTILE, gather(outcomes(120))), parity=parity,
        title=HOSTILE, worklist=HOSTILE, results=HOSTILE, command=HOSTILE, preprocessing=HOSTILE,
        meanings={HOSTILE: HOSTILE}, alarms=(HOSTILE,), left_out=(HOSTILE,),
    )  # fmt: skip
    assert not any(root.all(tag) for tag in ("script", "img", "link", "iframe", "object", "form"))
    assert root.all(cls="alarm")[0].text == root.one("h1").text == root.all(cls="notice")[0].text == HOSTILE
    for node in root.all():
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("#")
            if name == "style":
                assert value.startswith("left:")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoduleserveError) as caught:
        write_night(tmp_path / "no" / "r.html", gather([]), of_rows(gather([]), 0), INFO, About(WHEN), [])
    assert caught.value.code == "RESULTS_UNWRITABLE"
