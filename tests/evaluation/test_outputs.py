"""Terminal, page and file of numbers; and the command that writes them."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from noduleserve.commands.evaluate import evaluate as command
from noduleserve.errors import EvaluationError
from noduleserve.evaluation import figures, published, wording
from noduleserve.evaluation.as_json import SCHEMA, document, write_json
from noduleserve.evaluation.evaluate import Options, evaluate
from noduleserve.evaluation.figures import Evaluation
from noduleserve.evaluation.page import write_page
from noduleserve.evaluation.resampling import Resampling
from noduleserve.evaluation.tables import read_labels, read_results
from noduleserve.evaluation.terminal import renderable

from .conftest import RELEASE, Rows, Write, scored

NOTICE = 'untrained <b>demo</b> & "weights"'
HOSTILE = '<script src="https://example.org/x.js"></script>[red]{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def full(cohort: tuple[Rows, Rows], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Everything that an evaluation can hold, with hostile texts wherever a file or an option gives them."""
    folder = tmp_path_factory.mktemp("full")
    results, labels = ([dict(row) for row in rows] for rows in cohort)
    labels = [row | {"scanner": HOSTILE if row["scanner"] == "B" else row["scanner"]} for row in labels[2:]]
    labels.append(labels[0] | {"pid": HOSTILE})
    paths = []
    for name, rows in ((f"results{len(results)}.csv", results), ("labels.csv", labels)):
        lines = [",".join(f'"{str(c).replace(chr(34), chr(34) * 2)}"' for c in r.values()) for r in rows]
        (folder / name).write_text("\n".join([",".join(rows[0]), *lines]), encoding="utf-8")
        paths.append(folder / name)
    options = Options(
        by=("scanner", "slice_thickness"),
        cuts={"slice_thickness": (1.25, 2.5)},
        positive=("margin=poorly defined:<=2",),
        thresholds=(0.1, 0.999),
        specificities=(0.9, 1.0),
        resampling=Resampling(60),
        cohort=HOSTILE,
    )
    return evaluate(read_results(paths[0]), read_labels(paths[1]), options, {RELEASE: NOTICE})


@pytest.fixture
def small(write: Write) -> tuple[Path, Path]:
    rows = [scored(f"P{k}", 1, k / 30) for k in range(30)]
    labels = [{"pid": f"P{k}", "nodule_id": 1, "label": int(k % 3 == 0)} for k in range(30)]
    return write("results.csv", rows), write("labels.csv", labels)


def printed(evaluation: Evaluation, width: int = 140) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115, PTH123
    console.print(renderable(evaluation))
    return console.export_text()


class _Page(HTMLParser):
    """Tags with their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(evaluation: Evaluation, folder: Path) -> str:
    write_page(folder / "report.html", evaluation, command="noduleserve evaluate " + HOSTILE)
    return (folder / "report.html").read_text(encoding="utf-8")


# --- the page -----------------------------------------------------------------------------------------------


def test_page_refers_to_nothing_outside_itself(full: Evaluation, tmp_path: Path) -> None:
    text = page_of(full, tmp_path)
    page = _Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    given = [(name, value or "") for _, attrs in page.tags for name, value in attrs.items()]
    pictures = [value for name, value in given if name == "src"]
    assert len(pictures) == 5
    assert all(value.startswith("data:image/svg+xml;base64,") for value in pictures)
    assert not [name for name, _ in given if name in ("href", "srcset", "data", "action") or name.startswith("on")]
    assert "url(" not in text and "@import" not in text
    assert any(attrs.get("http-equiv") == "Content-Security-Policy" for _, attrs in page.tags)
    for picture in pictures:
        svg = base64.b64decode(picture.partition(",")[2]).decode()
        assert re.findall(r'(?:href|src)="(?!#)', svg) == [] and re.findall(r"url\((?!#)", svg) == []


def test_page_shows_texts_as_texts(full: Evaluation, tmp_path: Path) -> None:
    text = _Page(page_of(full, tmp_path)).text
    assert NOTICE in text and HOSTILE in text
    assert f"scanner {HOSTILE}" in text and "49" not in text.split(HOSTILE)[1][:20]


def test_page_and_terminal_tell_the_numbers(full: Evaluation, tmp_path: Path) -> None:
    assert full.malignancy is not None
    found = full.malignancy.discrimination
    page, terminal = _Page(page_of(full, tmp_path)).text, " ".join(printed(full).split())
    for text in (page, terminal):
        for estimate in (found.auroc, found.auprc, full.malignancy.brier):
            assert wording.plain(estimate.value) in text and wording.interval(estimate) in text
        for group in full.subgroups:
            assert str(group.discrimination.nodules) in text and wording.plain(group.brier) in text
        assert "> 1.25 to 2.5" in text and "(not given)" in text
        assert NOTICE in text and RELEASE in text
        assert "no findings by themselves" in text and "fewer than 10 positives or negatives" in text
        assert "results without labels" in text
        assert "60 bootstrap resamples of patients" in text and "seed 0" in text
        assert "margin=poorly defined:<=2" in text


def test_cohorts_are_never_mixed_silently(full: Evaluation, tmp_path: Path) -> None:
    nameless = dataclasses.replace(full, cohort="", beside=())
    for text in (_Page(page_of(full, tmp_path)).text, " ".join(printed(full, 400).split())):
        assert f"{published.COHORT}, {published.SOURCE}" in text
        assert f"{HOSTILE}, {full.malignancy.discrimination.nodules} nodules of" in text  # type: ignore[union-attr]
        assert published.NOT_COMPARABLE in text
        assert "0.901" in text
    for text in (_Page(page_of(nameless, tmp_path)).text, " ".join(printed(nameless, 400).split())):
        assert published.COHORT not in text and published.SOURCE not in text


def test_one_class_is_a_sentence_everywhere(small: tuple[Path, Path], tmp_path: Path, write: Write) -> None:
    labels = write("labels.csv", [{"pid": f"P{k}", "nodule_id": 1, "label": 1} for k in range(30)])
    found = evaluate(read_results(small[0]), read_labels(labels), Options(resampling=Resampling(20)))
    for text in (_Page(page_of(found, tmp_path)).text, " ".join(printed(found).split())):
        assert "All 30 nodules with a label are positive" in text
        assert "nan" not in text.lower().split()
    json.dumps(document(found), allow_nan=False)


def test_the_same_evaluation_gives_the_same_pictures(full: Evaluation, tmp_path: Path) -> None:
    first, second = (re.findall(r'src="([^"]+)"', page_of(full, tmp_path)) for _ in range(2))
    assert first == second


# --- the file of numbers ------------------------------------------------------------------------------------


def test_numbers_keep_to_the_schema(full: Evaluation, tmp_path: Path) -> None:
    write_json(tmp_path / "numbers.json", full)
    written = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(written, schema)
    assert full.malignancy is not None
    assert written["malignancy"]["discrimination"]["auroc"]["value"] == full.malignancy.discrimination.auroc.value
    assert written["cohort"] == HOSTILE and written["published"]["cohort"] == published.COHORT
    for broken in ({"format": 2}, {"added": 1}, {"counts": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written | broken, schema)


def test_the_schema_knows_every_field() -> None:
    schema = json.loads(SCHEMA.read_text())
    known = {name: set(part["properties"]) for name, part in schema["$defs"].items()}
    known["Evaluation"] = set(schema["properties"]) - {"format", "published"}
    there = {
        name: {field.name for field in dataclasses.fields(kind)}
        for name, kind in vars(figures).items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
    assert known == there
    assert all(set(part["required"]) == set(part["properties"]) for part in schema["$defs"].values())


def test_an_older_file_stays_where_the_new_one_cannot_be_written(full: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="EVALUATION_UNWRITABLE"):
        write_json(tmp_path / "nowhere" / "numbers.json", full)
    (tmp_path / "folder").mkdir()
    with pytest.raises(EvaluationError, match="EVALUATION_UNWRITABLE"):
        write_json(tmp_path / "folder", full)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.9996, ">0.999"),
        (0.0004, "<0.001"),
        (0.9994, "0.999"),
        (None, "–"),
        (1.2, "1.200"),
    ],
)
def test_a_number_is_not_rounded_to_certainty(value: float | None, text: str) -> None:
    assert wording.plain(value) == text


def test_a_threshold_that_is_shown_calls_the_same_nodules() -> None:
    assert float(wording.threshold(0.203134628)) == 0.203134628


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
    made.command()(command)
    return made


def invoke(app: typer.Typer, *arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_writes_what_it_was_asked_for(app: typer.Typer, small: tuple[Path, Path], tmp_path: Path) -> None:
    out, numbers = tmp_path / "e.html", tmp_path / "e.json"
    done = invoke(
        app, small[0], "--labels", small[1], "--out", out, "--json", numbers, "--bootstrap", 50, "--seed", 3,
        "--threshold", "0.5", "--specificity", "0.5,0.5", "--sensitivity", "", "--calibration-bins", 4,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = json.loads(numbers.read_text())
    assert written["method"] | {"key": None} == {
        "key": None, "score_column": "ensemble", "failed": "exclude", "resamples": 50, "seed": 3, "confidence": 0.95,
        "fewest_of_a_class": 10, "calibration_bins": 4,
    }  # fmt: skip
    assert [p["target"] for p in written["malignancy"]["operating_points"]] == [0.5]
    confusion = written["malignancy"]["confusions"][0]
    assert (confusion["true_positives"], confusion["false_positives"]) == (5, 10)
    assert "AUROC" in done.output and str(out) in done.output.replace("\n", "")
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "options",
    [
        ("--threshold", "high"),
        ("--specificity", "1.5"),
        ("--bins", "1.25,2.5"),
        ("--bins", "thickness:2.5,1.25"),
        ("--bins", "thickness:"),
    ],
)
def test_options_that_cannot_be_read(app: typer.Typer, small: tuple[Path, Path], options: tuple[str, str]) -> None:
    done = invoke(app, small[0], "--labels", small[1], *options)
    assert isinstance(done.exception, EvaluationError) and done.exception.code == "EVALUATION_OPTION"


def test_the_demos_notice_is_known_by_its_release(app: typer.Typer, small: tuple[Path, Path]) -> None:
    manifest = json.loads(resources.files("noduleserve.demo").joinpath("release/MANIFEST.json").read_text())
    small[0].write_text(small[0].read_text().replace(RELEASE, manifest["release_id"]))
    done = invoke(app, small[0], "--labels", small[1], "--bootstrap", 0)
    assert done.exit_code == 0 and f"NOTICE: {manifest['notice']}" in done.output


def test_a_release_may_be_named_by_its_folder(app: typer.Typer, small: tuple[Path, Path]) -> None:
    with resources.as_file(resources.files("noduleserve.demo").joinpath("release")) as folder:
        done = invoke(app, small[0], "--labels", small[1], "--release", folder)
    assert isinstance(done.exception, EvaluationError) and done.exception.code == "RELEASE_ABSENT"


def test_help_has_examples(app: typer.Typer) -> None:
    output = invoke(app, "--help").output
    assert "Examples" in output and "--positive" in output and "--cohort" in output
    assert "--baseline diameter" in output and "texture>=4.5" in output


def test_importing_the_command_and_the_room_needs_no_extra() -> None:
    code = (
        "import sys, pkgutil, importlib, noduleserve.commands.evaluate, noduleserve.evaluation as room\n"
        "[importlib.import_module(f'noduleserve.evaluation.{m.name}') for m in pkgutil.iter_modules(room.__path__)]\n"
        "print(sorted({'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named(
    app: typer.Typer, small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = invoke(app, small[0], "--labels", small[1])
    assert "EXTRA_MISSING" in str(done.exception) and "noduleserve[evaluate]" in str(done.exception)
