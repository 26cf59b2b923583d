"""The HTML report is read back with a parser and compared with the numbers it was made from."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_making import (
    HOSTILE,
    INFO,
    LABELS,
    Node,
    failed,
    nodule,
    percent,
    render,
    score_of,
    scored,
    summary_rows,
)

from noduleserve.ct.doubt import InputWarning
from noduleserve.results.report.page import StageTime, write_report
from noduleserve.results.report.view_pictures import view_facts


def test_summary_has_the_numbers_given_highest_first(tmp_path: Path) -> None:
    outcomes = [scored(n, site=f"S{n}") for n in range(6)]
    root = render(tmp_path, outcomes)
    ordered = sorted(outcomes, key=lambda o: -score_of(o).malignancy)
    rows = summary_rows(root)
    assert len(rows) == 6
    for row, outcome in zip(rows, ordered, strict=True):
        score = score_of(outcome)
        margin, wall = score.semantic[:2], score.semantic[2:]
        number = outcome.nodule.number
        assert row == [
            str(number + 1),
            f"P{number:03d}",
            f"n{number}",
            f"{score.malignancy:.3f}",
            "",
            "calibrated",
            f"{score.calibrated.min():.3f}..{score.calibrated.max():.3f}",
            f"{('smooth', 'spiculated')[margin.argmax()]} {percent(margin.max(), 0)}",
            f"{('attached', 'not attached')[wall.argmax()]} {percent(wall.max(), 0)}",
            f"S{number}",
            "none",
        ]
    bars = root.one("table", cls="summary").all("rect", cls="fill")
    widths = [float(bar.attributes["width"]) for bar in bars]
    assert widths == pytest.approx([100 * score_of(o).malignancy for o in ordered], abs=0.006)


def test_section_shows_every_view_pixel_for_pixel(tmp_path: Path) -> None:
    outcomes = [scored(n) for n in range(3)]
    root = render(tmp_path, outcomes)
    for outcome in outcomes:
        section = root.one("article", id=f"nodule-{outcome.nodule.number}")
        figures = section.all("figure")
        weights = score_of(outcome).view_attention.mean(axis=0)
        assert outcome.views is not None
        for view, facts, weight, figure in zip(outcome.views, view_facts(), weights, figures, strict=True):
            image = figure.one("img")
            kind, _, data = image.attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (50, 50))
            np.testing.assert_array_equal(np.asarray(picture), np.rint(np.clip(view, 0, 1) * 255))
            assert figure.one("figcaption").text == f"{facts.name} {percent(float(weight))}"
            assert image.attributes["title"] == facts.technical
            assert facts.name in image.attributes["alt"] and facts.orientation in image.attributes["alt"]


def test_section_shows_folds_features_and_times(tmp_path: Path) -> None:
    outcome = scored(4, site="north")
    score = score_of(outcome)
    section = render(tmp_path, [outcome]).one("article")
    folds = [row.text.split() for row in section.one("table", cls="folds").one("tbody").all("tr")]
    assert folds[0] == ["raw", *(f"{value:.3f}" for value in score.raw)]
    assert folds[1] == ["calibrated", *(f"{value:.3f}" for value in score.calibrated)]
    assert len(section.all("circle", cls="raw")) == len(section.all("circle", cls="cal")) == 3
    tables = section.one(cls="features").all("table")
    assert [table.one("caption").text for table in tables] == ["margin", "wall contact"]
    rows = [row for table in tables for row in table.all("tr")]
    for row, label, value in zip(rows, LABELS, score.semantic, strict=True):
        assert row.text == f"{label.partition('.')[2]} {percent(float(value))}"
        assert float(row.one("rect", cls="fill").attributes["width"]) == pytest.approx(100 * value, abs=0.006)
    assert "open series 250 ms read box 12 ms server, send to answer 1.50 s" in section.text
    assert "image_path series/4 coordX 1.5 coordY -2.25 coordZ 30 site north" in section.text


def coded(root: Node, code: str) -> Node:
    """The part of the page that one code has."""
    (part,) = (part for part in root.all(cls="coded") if part.one("code").text == code)
    return part


def rows_of(table: Node) -> list[list[str]]:
    body = table.one("tbody").all("tr")
    return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in body]


def test_parked_nodules_stand_under_their_code_with_meaning_sentence_and_mend(tmp_path: Path) -> None:
    lost = failed(1, "There is no folder. Mend: Check image_path.", code="SERIES_NOT_FOUND")
    again = failed(3, "There is no file. Mend: Check image_path.", code="SERIES_NOT_FOUND")
    root = render(tmp_path, [scored(0), lost, failed(2, "", code="ROW"), again])
    assert root.one("ul", cls="counts").text == "4 outcomes 1 scored 3 parked"
    assert root.one(cls="verdict").text == "Complete: 4 nodules in, 1 scored, 3 parked, none without an outcome."
    assert "3 of 4: 2 × SERIES_NOT_FOUND, 1 × ROW." in root.text
    part = coded(root, "SERIES_NOT_FOUND")
    assert part.one("h3").text == "SERIES_NOT_FOUND 2 nodules 50.0 % of all"
    assert "There is no folder or file of that name." in part.text  # what the code stands for
    assert [item.text for item in part.all("li")] == ["Check image_path."]
    assert rows_of(part.one("table")) == [
        ["2", "P001", "n1", "There is no folder."],
        ["4", "P003", "n3", "There is no file."],
    ]
    assert rows_of(coded(root, "ROW").one("table")) == [["3", "P002", "n2", "–"]]
    assert len(root.all("article")) == len(summary_rows(root)) == 1


def test_many_of_one_code_are_folded_and_none_is_lost(tmp_path: Path) -> None:
    root = render(tmp_path, [failed(n, "Gone. Mend: Send it.") for n in range(30)])
    part = coded(root, "BOX_SHORT")
    tables = part.all("table")
    assert [len(rows_of(table)) for table in tables] == [5, 25]
    assert part.one("details").one("summary").text == "25 more"
    assert [row[0] for table in tables for row in rows_of(table)] == [str(n + 1) for n in range(30)]


def test_warnings_stand_beside_every_number_they_concern(tmp_path: Path) -> None:
    wide = InputWarning("SPACING_WIDE", "Voxels are 3 <mm> apart.", "Prefer a finer one.")
    air = InputWarning("CENTER_IN_AIR", "All of it is air.", "Look at it.")
    outcomes = [
        dataclasses.replace(scored(0), warnings=(wide, air)),
        scored(1),
        dataclasses.replace(scored(2), warnings=(wide,)),
        dataclasses.replace(failed(3, "Gone."), warnings=(air,)),
    ]
    root = render(tmp_path, outcomes)
    assert root.one("ul", cls="counts").text == "4 outcomes 3 scored 1 parked 2 scored with a warning"
    assert {row[2]: row[-1] for row in summary_rows(root)} == {
        "n0": "SPACING_WIDE CENTER_IN_AIR",
        "n1": "none",
        "n2": "SPACING_WIDE",
    }
    assert [row[:3] for row in rows_of(coded(root, "SPACING_WIDE").one("table"))] == [
        ["1", "P000", "n0"],
        ["3", "P002", "n2"],
    ]
    assert rows_of(coded(root, "CENTER_IN_AIR").one("table")) == [["1", "P000", "n0"]]  # of scored nodules only
    listed = root.one("article", id="nodule-0").one("ul", cls="warnings")
    assert [item.text for item in listed.all("li")] == [
        "SPACING_WIDE Voxels are 3 <mm> apart. Prefer a finer one.",
        "CENTER_IN_AIR All of it is air. Look at it.",
    ]
    assert not root.one("article", id="nodule-1").all("ul", cls="warnings")
    assert "names what is doubtful" in root.text
    assert "names what is doubtful" not in render(tmp_path, [scored(0)]).text


def test_without_calibration_nothing_shows_nan(tmp_path: Path) -> None:
    broken = scored(2)
    score = dataclasses.replace(
        score_of(broken),
        malignancy=float("nan"),
        raw=np.full(3, np.nan, np.float32),
        semantic=np.full(4, np.nan, np.float32),
        view_attention=np.full((3, 9), np.nan, np.float32),
    )
    outcomes = [dataclasses.replace(broken, score=score, seconds={"box": float("nan")})]
    outcomes += [scored(n, calibrated=False) for n in range(2)]
    stages = [StageTime("box", float("nan")), StageTime("run", 0.0, whole=True)]
    root = render(tmp_path, outcomes, dataclasses.replace(INFO, calibrated=False), stages=stages)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert not re.search(r"\bnan\b|\binf\b", text, re.IGNORECASE)
    assert [row[5] for row in summary_rows(root)] == ["raw"] * 3
    assert summary_rows(root)[-1][3] == "–"
    raw = score_of(outcomes[1]).raw
    assert f"{raw.min():.3f}..{raw.max():.3f}" in [row[6] for row in summary_rows(root)]
    assert "raw: this release has no calibration" in root.one("dl", cls="facts").text


def test_page_is_self_contained_and_hostile_text_stays_text(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, release=HOSTILE, notice=HOSTILE, labels=(*LABELS[:3], f"wall contact.{HOSTILE}"))
    outcomes = [
        dataclasses.replace(scored(0), nodule=nodule(0, HOSTILE, **{HOSTILE: HOSTILE})),
        failed(1, f"{HOSTILE} Mend: {HOSTILE}", code=HOSTILE, pid=HOSTILE),
    ]
    stages = [StageTime(HOSTILE, 1.0, HOSTILE, HOSTILE)]
    root = render(tmp_path, outcomes, info, stages=stages, title=HOSTILE, worklist=HOSTILE, command=HOSTILE)
    everything = root.all()
    allowed = {"img": 9, "script": 0, "link": 0, "iframe": 0, "object": 0, "form": 0}
    assert {tag: len(root.all(tag)) for tag in allowed} == allowed
    ids = [node.attributes["id"] for node in everything if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in everything:
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                assert value.startswith("data:image/png;base64,") or (value[0] == "#" and value[1:] in ids)
    style = root.one("style").text
    assert "url(" not in style and "@import" not in style
    assert (
        root.one("meta", **{"http-equiv": "Content-Security-Policy"})
        .attributes["content"]
        .startswith("default-src 'none'")
    )
    assert root.one("title").text == root.one("h1").text == HOSTILE
    assert [row[1] for row in summary_rows(root)] == [HOSTILE]
    assert rows_of(coded(root, HOSTILE).one("table")) == [["2", HOSTILE, "n1", HOSTILE]]


def test_notice_is_in_plain_sight_and_only_where_set(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, notice="Untrained demo weights.")
    root = render(tmp_path, [scored(0), scored(1)], info)
    first = next(child for child in root.one("header", cls="page").children if isinstance(child, Node))
    assert (first.text, first.attributes["role"]) == ("Untrained demo weights.", "note")
    assert all(article.one("p", cls="notice").text == "Untrained demo weights." for article in root.all("article"))
    assert not render(tmp_path, [scored(0)]).all(cls="notice")


def test_long_run_details_only_the_highest(tmp_path: Path) -> None:
    outcomes = [scored(n, views=False) for n in range(30)] + [failed(30 + n, "Gone.") for n in range(5)]
    root = render(tmp_path, outcomes, detailed=4)
    highest = sorted(outcomes[:30], key=lambda o: -score_of(o).malignancy)
    shown = [article.attributes["id"] for article in root.all("article")]
    assert shown == [f"nodule-{o.nodule.number}" for o in highest[:4]]
    assert [row[0] for row in summary_rows(root)] == [str(o.nodule.number + 1) for o in highest]
    assert len(root.one("table", cls="summary").all("a")) == 4
    assert "The 4 of highest malignancy among 30 scored nodules are shown in full" in root.text
    assert not root.all("img") and len(root.all("figcaption")) == 36
    assert root.text.count("The run was not asked to keep the views") == 4


def test_a_night_too_long_for_a_table_shows_the_highest_alone(tmp_path: Path) -> None:
    outcomes = [scored(n, views=False) for n in range(201)]
    root = render(tmp_path, outcomes, detailed=3)
    highest = sorted(outcomes, key=lambda o: -score_of(o).malignancy)[:3]
    assert [row[0] for row in summary_rows(root)] == [str(o.nodule.number + 1) for o in highest]
    assert "The 3 highest of 201 scored nodules" in root.one("table", cls="summary").text


def test_many_worklist_columns_go_to_the_sections(tmp_path: Path) -> None:
    further = {f"column{n}": f"value{n}" for n in range(9)}
    outcome = dataclasses.replace(scored(0), nodule=nodule(0, **further))
    root = render(tmp_path, [outcome])
    assert summary_rows(root)[0][-7:-1] == [f"value{n}" for n in range(6)]
    assert "Further columns of the worklist (3) stand" in root.one("table", cls="summary").one("caption").text
    assert all(f"{name} {value}" in root.one("article").text for name, value in further.items())


def test_features_beyond_the_main_ones_are_folded(tmp_path: Path) -> None:
    labels = tuple(f"feature {n}.{value}" for n in range(7) for value in ("yes", "no"))
    outcome = scored(0)
    score = dataclasses.replace(score_of(outcome), semantic=np.linspace(0, 1, 14, dtype=np.float32))
    root = render(tmp_path, [dataclasses.replace(outcome, score=score)], dataclasses.replace(INFO, labels=labels))
    names = [table.one("caption").text for table in root.one("article").all("table") if table.all("caption")]
    assert names == [f"feature {n}" for n in range(7)]
    folded = root.one("article").one("details")
    assert folded.one("summary").text == "2 further features"
    assert [row[0] for table in folded.all("table") for row in rows_of(table)] == ["yes", "no"] * 2
    assert [top for table in folded.all("table") for top in (table.one("tr", cls="top").text,)] == [
        f"no {percent(11 / 13)}",
        f"no {percent(1)}",
    ]


def test_stage_times_are_compared_with_the_whole_run(tmp_path: Path) -> None:
    stages = [StageTime("encoder", 15.0, "server", "busy"), StageTime("whole run", 10.0, whole=True)]
    root = render(tmp_path, [scored(n) for n in range(4)], stages=stages)
    rows = root.one("table", cls="stages").one("tbody").all("tr")
    assert rows[0].text == "encoder server 15.00 s 150.0 % 3.75 s busy"
    assert rows[1].text == "whole run 10.00 s 100.0 % 2.50 s"
    assert [float(row.one("rect", cls="fill").attributes["width"]) for row in rows] == [100, 66.67]
    assert "do not add up to the time of the run" in root.text
    assert "0.4 nodules a second" in root.text
    # Without stages of a whole run, those of the nodules themselves.
    rows = render(tmp_path, [scored(0), scored(1)]).one("table", cls="stages").one("tbody").all("tr")
    assert [row.text for row in rows][:2] == ["open series client 500 ms 250 ms", "read box client 25 ms 12 ms"]
    assert not render(tmp_path, [dataclasses.replace(scored(0), seconds={})]).all("table", cls="stages")


def test_answers_of_another_release_are_pointed_out(tmp_path: Path) -> None:
    outcome = scored(0)
    odd = dataclasses.replace(score_of(outcome), release="rel-8", semantic=np.ones(3, np.float32))
    root = render(tmp_path, [dataclasses.replace(outcome, score=odd), scored(1)])
    assert "1 answer came from another release" in root.text
    assert "answered by release rel-8" in root.one("article", id="nodule-0").text
    assert "smooth –" in root.one("article", id="nodule-0").one(cls="features").text


def test_tables_have_headers_and_pictures_have_words(tmp_path: Path) -> None:
    root = render(tmp_path, [scored(0), failed(1, "Gone.")], stages=[StageTime("run", 1.0, whole=True)])
    assert root.one("html").attributes["lang"] == "en"
    for table in root.all("table"):
        headers = table.all("th")
        assert headers and all(th.attributes["scope"] in ("col", "row") for th in headers)
    assert all(image.attributes["alt"] for image in root.all("img"))
    for drawing in root.all("svg"):
        assert "aria-label" in drawing.attributes or drawing.attributes["aria-hidden"] == "true"
    head = root.one("table", cls="summary").one("thead").all("th")
    assert len(head) == len(summary_rows(root)[0])


def test_empty_run_and_lost_old_file(tmp_path: Path) -> None:
    root = render(tmp_path, [])
    assert root.one("ul", cls="counts").text == "0 outcomes 0 scored 0 parked"
    before = (tmp_path / "report.html").read_bytes()
    short = dataclasses.replace(scored(0), views=np.zeros((2, 50, 50), np.float32))
    with pytest.raises(ValueError):
        write_report(tmp_path / "report.html", [short], INFO)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.0001, "<0.001"),
        (0.99999, ">0.999"),
        (0.0005, "0.001"),
        (0.25, "0.250"),
    ],
)
def test_malignancy_is_never_rounded_to_certainty(tmp_path: Path, value: float, shown: str) -> None:
    outcome = scored(0)
    score = dataclasses.replace(score_of(outcome), malignancy=value)
    assert summary_rows(render(tmp_path, [dataclasses.replace(outcome, score=score)]))[0][3] == shown
