"""`noduleserve report`: a phantom's night from worklist to page, by journal and by table, without a server."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from report_making import Node, Page, score_of, scored, summary_rows
from typer.testing import CliRunner

from noduleserve.commands.report import report
from noduleserve.demo.command import RELEASE
from noduleserve.demo.phantom import make_phantom, write_dicom, write_worklist
from noduleserve.errors import NoduleserveError
from noduleserve.journal.journal import Journal
from noduleserve.journal.key import key_of
from noduleserve.journal.record import OutcomeRecord, RunRecord
from noduleserve.release import Release
from noduleserve.results.base import Head
from noduleserve.results.csv_table import CsvWriter
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.worklist.table import read_worklist

EDGE = {"Manufacturer": "Made up", "ManufacturerModelName": "Phantom", "SliceThickness": "4"}


@dataclasses.dataclass(frozen=True)
class Night:
    """A night of five nodules: four scored, one of them on a CT that is gone by the morning, and one parked."""

    folder: Path
    worklist: Path
    journal: Path
    table: Path
    release: Release
    outcomes: list[Outcome]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    phantom = make_phantom(7, (128, 96, 60), (2.7, 2.7, 4.0))
    write_dicom(phantom, folder / "ct")
    write_worklist(phantom, folder / "ct", folder / "tonight.csv")
    _move_first_row(folder / "tonight.csv")
    shutil.copytree(folder / "ct", folder / "moved")
    release = Release.open(RELEASE)
    manifest = release.manifest
    info = ReleaseInfo(release.id, 5, True, tuple(manifest["labels"]), manifest["notice"])
    outcomes = [_outcome(nodule, info) for nodule in read_worklist(folder / "tonight.csv")]
    _write(folder, outcomes, info)
    shutil.rmtree(folder / "moved")
    return Night(folder, folder / "tonight.csv", folder / "night.journal", folder / "results.csv", release, outcomes)


def _move_first_row(worklist: Path) -> None:
    """The first row's CT is one that will be gone."""
    lines = worklist.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace(",ct,", ",moved,")
    worklist.write_text("".join(lines))


def _outcome(nodule: object, info: ReleaseInfo) -> Outcome:
    number = nodule.number  # type: ignore[attr-defined]
    if number == 4:
        sentence = "Slice 7 is missing. Mend: Send the series again."
        return Outcome(nodule, None, "SERIES_UNEVEN", sentence, scanner=EDGE)  # type: ignore[arg-type]
    rng = np.random.default_rng(number)
    raw = np.full(info.folds, 0.9 - number / 10, np.float32) + np.linspace(-0.05, 0.05, info.folds, dtype=np.float32)
    score = dataclasses.replace(
        score_of(scored(number, views=False)),
        malignancy=float(raw.astype(float).mean()),
        raw=raw,
        calibrated=raw,
        semantic=rng.random(len(info.labels), np.float32),
        view_attention=rng.dirichlet(np.ones(9), info.folds).astype(np.float32),
        embedding=np.zeros((info.folds, 256), np.float32),
        release=info.release,
    )
    return Outcome(nodule, score, seconds={"box": 0.25}, scanner=EDGE)  # type: ignore[arg-type]


def _write(folder: Path, outcomes: Sequence[Outcome], info: ReleaseInfo) -> None:
    columns = tuple(outcomes[0].nodule.columns)
    with Journal.open(folder / "night.journal") as journal:
        journal.append(RunRecord("tonight.csv", "0" * 64, len(outcomes), columns, info, "2"))
        for outcome in outcomes:
            journal.append(OutcomeRecord(key_of(outcome.nodule, info.release, "2"), outcome))
    writer = CsvWriter(str(folder / "results.csv"), Head(columns, info))
    writer.begin()
    for outcome in outcomes:
        writer.add(outcome)
    writer.finish()


def command(*arguments: object) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(report)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, NoduleserveError):
        raise done.exception
    return done.exit_code, done.output


def page(path: Path) -> Node:
    return Page(path.read_text(encoding="utf-8")).root


def test_from_a_journal_with_all_there_is(night: Night, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    status, output = command(
        night.journal, "--out", out, "--worklist", night.worklist, "--release", RELEASE, "--reference", night.journal
    )
    root = page(out)
    assert status == 3
    assert "Complete: 5 nodules in, 4 scored, 1 parked, none without an outcome.\n" in output
    assert output.endswith(f"report: {out}\n")
    assert root.one("h1").text == "Morning report"
    assert [row[1:4] for row in summary_rows(root)] == [
        ["PHANTOM-001", f"N{n + 1}", f"{0.9 - n / 10:.3f}"] for n in range(4)
    ]
    articles = root.all("article")
    assert [len(article.all("img")) for article in articles] == [0, 9, 9, 9]
    assert "No views are shown: [SERIES_NOT_FOUND] There is no folder or file moved." in articles[0].text
    assert "SERIES_UNEVEN 1 nodule 20.0 % of all A slice is missing, or the distance" in root.text
    assert "Made up Phantom few" in root.text
    assert "within its tolerances when it was exported" in root.text
    assert f"Release {night.release.id} Preprocessing 2 Package noduleserve" in root.one(cls="colophon").text
    notice = night.release.manifest["notice"]
    assert notice and all(part.text == notice for part in root.all(cls="notice"))
    assert not root.all(cls="alarm")


def test_the_views_are_those_of_the_ct(night: Night, tmp_path: Path) -> None:
    from noduleserve.results.report.reread import reread
    from noduleserve.results.report.view_pictures import png_uri

    command(night.journal, "--out", tmp_path / "r.html", "--top", 2)
    second = page(tmp_path / "r.html").all("article")[1]
    (views,) = reread([night.outcomes[1]])
    assert not isinstance(views, str) and float(views.std()) > 0.05
    assert [image.attributes["src"] for image in second.all("img")] == [png_uri(view) for view in views]


def test_a_table_leaves_out_what_it_lacks_and_says_so(night: Night, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    status, output = command(night.table, "--out", out)
    root = page(out)
    assert status == 3
    assert "How many nodules went in is not known here." in output
    assert root.one(cls="verdict").attributes["class"] == "verdict unchecked"
    left_out = root.all("ul")[-1].text
    for said in ("--worklist", "--reference", "--release", "no attention of views", "no scanner"):
        assert said in left_out
    assert [len(article.all("img")) for article in root.all("article")] == [0, 9, 9, 9]
    assert {part.text for part in root.all(cls="notice")} == {night.release.manifest["notice"]}
    assert not root.all(id="flow") and not root.all(id="scanners") and not root.all(id="times")
    assert [row[3] for row in summary_rows(root)] == ["0.900", "0.800", "0.700", "0.600"]


def test_rows_of_the_worklist_without_an_outcome_are_named(night: Night, tmp_path: Path) -> None:
    longer = night.folder / "longer.csv"
    longer.write_text(night.worklist.read_text() + "PHANTOM-001,N9,ct,1,2,3,solid,9\n")
    status, output = command(night.journal, "--out", tmp_path / "r.html", "--worklist", longer, "--no-views")
    assert status == 3
    assert "Not complete: 6 nodules in, 4 scored, 1 parked, 1 without an outcome." in output
    root = page(tmp_path / "r.html")
    body = root.one("table", cls="bare").one("tbody").text
    assert body == "6 PHANTOM-001 N9"
    assert not root.all("img") and "No views are shown: The report was made with --no-views." in root.text


def test_a_night_that_is_all_scored_ends_in_nought(night: Night, tmp_path: Path) -> None:
    with night.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "four.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows[:-1])
    status, output = command(tmp_path / "four.csv", "--out", tmp_path / "r.html", "--no-views")
    assert (status, "4 scored, 0 parked" in output) == (0, True)


def test_the_part_of_a_table_is_an_alarm_and_top_0_shows_none_in_full(night: Night, tmp_path: Path) -> None:
    part = tmp_path / "results.csv.part"
    shutil.copy(night.table, part)
    command(part, "--out", tmp_path / "r.html", "--top", 0)
    root = page(tmp_path / "r.html")
    assert "a run that broke off or still goes on" in root.one(cls="alarm").text
    assert not root.all("article") and len(summary_rows(root)) == 4
    assert "mean over 5 folds" in root.one("dl", cls="facts").text


def test_a_journal_whose_run_broke_off_is_not_complete(night: Night, tmp_path: Path) -> None:
    info = ReleaseInfo(night.release.id, 5, True, (), "")
    with Journal.open(tmp_path / "short.journal") as journal:
        journal.append(RunRecord("tonight.csv", "0" * 64, 5, tuple(night.outcomes[0].nodule.columns), info, "2"))
        journal.append(OutcomeRecord(key_of(night.outcomes[2].nodule, info.release, "2"), night.outcomes[2]))
    status, output = command(tmp_path / "short.journal", "--out", tmp_path / "r.html", "--no-views")
    assert status == 3
    assert "Not complete: 5 nodules in, 1 scored, 0 parked, 4 without an outcome." in output
    assert "Rows 1 to 2, 4 to 5." in page(tmp_path / "r.html").text


def test_another_releases_folder_is_an_alarm_and_its_parity_is_not_shown(night: Night, tmp_path: Path) -> None:
    other = dataclasses.replace(score_of(night.outcomes[0]), release="ns-ffffffffffffffffffff")
    outcome = dataclasses.replace(night.outcomes[0], score=other)
    writer = CsvWriter(
        str(tmp_path / "other.csv"),
        Head(
            tuple(outcome.nodule.columns), ReleaseInfo(other.release, 5, True, tuple(night.release.manifest["labels"]))
        ),
    )
    writer.begin()
    writer.add(outcome)
    writer.finish()
    command(tmp_path / "other.csv", "--out", tmp_path / "r.html", "--release", RELEASE, "--no-views")
    root = page(tmp_path / "r.html")
    assert f"{night.release.id}, not the release that scored ({other.release})" in root.one(cls="alarm").text
    assert "Parity" not in root.one("dl", cls="facts").text and not root.all(cls="notice")


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("pid,nodule_id\n1,2\n")
    for name, code in (("list.csv", "RESULTS_COLUMNS"), ("none.csv", "RESULTS_UNREADABLE")):
        with pytest.raises(NoduleserveError) as caught:
            command(tmp_path / name, "--out", tmp_path / "r.html")
        assert caught.value.code == code
    assert not (tmp_path / "r.html").exists()
