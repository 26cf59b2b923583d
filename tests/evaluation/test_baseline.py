"""A number known of each nodule beside the score: the same nodules, the same resamples, the better way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import typer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from noduleserve.commands.evaluate import evaluate as command
from noduleserve.evaluation import wording
from noduleserve.evaluation.as_json import SCHEMA, document
from noduleserve.evaluation.evaluate import Options, evaluate
from noduleserve.evaluation.figures import Baseline, Estimate, Evaluation
from noduleserve.evaluation.resampling import Resampling
from noduleserve.evaluation.tables import read_labels, read_results

from .conftest import Rows, Write, failed, scored
from .test_outputs import HOSTILE, _Page, page_of, printed

RULE = "margin=sharp:>=3"
SEMANTIC = "semantic.margin.sharp"


@pytest.fixture(scope="module")
def measured(cohort: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    """The cohort with diameters, which grow with cancer and shrink with the rating; every eleventh is not known."""
    rng = np.random.default_rng(5)
    labels = []
    for k, row in enumerate(cohort[1]):
        size = 6 + 2.5 * int(row["label"]) - 0.8 * int(row["margin"]) + rng.normal(0, 2)  # type: ignore[call-overload]
        labels.append(row | {"diameter": "" if k % 11 == 0 else round(size, 1)})
    return cohort[0], labels


@pytest.fixture
def held(write: Write, measured: tuple[Rows, Rows]) -> Any:
    def evaluated(results: Rows = measured[0], labels: Rows = measured[1], **options: Any) -> Evaluation:
        tables = read_results(write("results.csv", results)), read_labels(write("labels.csv", labels))
        chosen = {"resampling": Resampling(40), "baseline": "diameter", "positive": (RULE,)} | options
        return evaluate(*tables, Options(**chosen))

    return evaluated


def pairs(measured: tuple[Rows, Rows], known: bool = True) -> list[tuple[Any, Any]]:
    """Scored rows with their labels, those with a diameter or those without."""
    by_ids = {(row["pid"], row["nodule_id"]): row for row in measured[1]}
    found = [(row, by_ids[row["pid"], row["nodule_id"]]) for row in measured[0] if row["status"] == "scored"]
    return [(row, label) for row, label in found if (label["diameter"] != "") == known]


def told(evaluation: Evaluation) -> tuple[Baseline, Baseline]:
    """Those of the malignancy and of the one rule."""
    assert evaluation.malignancy is not None
    first, second = evaluation.malignancy.baseline, evaluation.semantic[0].baseline
    assert first is not None and second is not None
    return first, second


def truth(found: list[tuple[Any, Any]], semantic: bool) -> tuple[Any, Any, Any]:
    """Labels, scores and diameters."""
    y = [label["margin"] >= 3 if semantic else label["label"] for _, label in found]
    s = [row[SEMANTIC if semantic else "ensemble"] for row, _ in found]
    return np.array(y, int), np.array(s, float), np.array([label["diameter"] for _, label in found], float)


# --- the numbers --------------------------------------------------------------------------------------------


def test_areas_are_those_of_the_nodules_that_have_the_number(held: Any, measured: tuple[Rows, Rows]) -> None:
    evaluation = held()
    for found, semantic in zip(told(evaluation), (False, True), strict=True):
        y, s, diameters = truth(pairs(measured), semantic)
        area = roc_auc_score(y, diameters)
        assert found.descending == semantic == (area < 0.5)  # a small nodule speaks for a smooth margin
        assert found.auroc.value == pytest.approx(max(area, 1 - area)) and found.auroc.value > 0.55
        assert found.score_auroc.value == pytest.approx(roc_auc_score(y, s))
        assert found.difference.value == pytest.approx(found.score_auroc.value - found.auroc.value)
        assert (found.nodules, found.positives, found.negatives) == (len(y), sum(y), len(y) - sum(y))
        assert found.patients == len({row["pid"] for row, _ in pairs(measured)})
        assert found.without == len(pairs(measured, known=False)) > 10
        assert (found.column, found.source, found.failed) == ("diameter", "labels", 0)
    whole = evaluation.malignancy.discrimination
    assert whole.nodules == told(evaluation)[0].nodules + told(evaluation)[0].without
    assert whole.auroc.value != told(evaluation)[0].score_auroc.value


@pytest.mark.parametrize("semantic", [False, True])
def test_intervals_are_of_the_same_resamples(held: Any, measured: tuple[Rows, Rows], semantic: bool) -> None:
    """Patients drawn by plain loops, their nodules repeated, both areas by scikit-learn."""
    found = told(held(resampling=Resampling(12, seed=4)))[semantic]
    some = pairs(measured)
    y, s, diameters = truth(some, semantic)
    way = -1 if semantic else 1
    names = sorted({row["pid"] for row, _ in some})
    draws = np.random.default_rng(4).multinomial(len(names), np.full(len(names), 1 / len(names)), size=12)
    drawn: dict[str, list[float]] = {"auroc": [], "score_auroc": [], "difference": []}
    for times in draws:
        often = dict(zip(names, times, strict=True))
        chosen = [k for k, (row, _) in enumerate(some) for _ in range(often[row["pid"]])]
        there, here = roc_auc_score(y[chosen], way * diameters[chosen]), roc_auc_score(y[chosen], s[chosen])
        for name, value in zip(drawn, (there, here, here - there), strict=True):
            drawn[name].append(value)
    for name, values in drawn.items():
        estimate: Estimate = getattr(found, name)
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    # What the areas share falls out of their difference: it is no wider than intervals of two cohorts would make it.
    apart = np.quantile(np.subtract.outer(drawn["score_auroc"], drawn["auroc"]), [0.025, 0.975])
    assert found.difference.high - found.difference.low < apart[1] - apart[0]


def test_a_failed_nodule_keeps_its_number(held: Any, measured: tuple[Rows, Rows]) -> None:
    found = told(held(failed="worst"))[0]
    by_ids = {(row["pid"], row["nodule_id"]): row for row in measured[1]}
    both = [(row, by_ids[row["pid"], row["nodule_id"]]) for row in measured[0]]
    both = [(row, label) for row, label in both if label["diameter"] != ""]
    y, diameters = [n["label"] for _, n in both], [n["diameter"] for _, n in both]
    s = [row["ensemble"] if row["status"] == "scored" else 2 - 3 * n["label"] for row, n in both]
    assert found.auroc.value == pytest.approx(roc_auc_score(y, diameters))
    assert found.score_auroc.value == pytest.approx(roc_auc_score(y, s))
    assert found.failed == sum(row["status"] == "failed" for row, _ in both) > 3
    assert found.nodules == len(both)


def test_the_labels_come_first_and_the_results_second(held: Any) -> None:
    rows = [scored(p, 1, s, size=n) for p, s, n in zip("ABC", (0.9, 0.2, 0.4), (3, 1, 2), strict=True)]
    rows.append(failed("D", 1) | {"size": ""})
    labels = [{"pid": p, "nodule_id": 1, "label": int(p in "AD")} for p in "ABCD"]
    options = {"positive": (), "baseline": "size"}
    found = held(results=rows, labels=labels, **options).malignancy.baseline
    assert (found.source, found.descending, found.auroc.value) == ("results", False, 1.0)
    worst = held(results=rows, labels=labels, failed="worst", **options).malignancy.baseline
    assert (worst.nodules, worst.without, worst.failed) == (3, 1, 0)
    other = [row | {"size": k} for k, row in enumerate(labels)]
    found = held(results=rows, labels=other, **options).malignancy.baseline
    assert (found.source, found.descending, found.auroc.value) == ("labels", True, 1.0)


def test_a_number_that_says_nothing_and_one_that_says_the_same(held: Any, measured: tuple[Rows, Rows]) -> None:
    flat = told(held(labels=[row | {"diameter": 5} for row in measured[1]]))[0]
    assert (flat.auroc.value, flat.descending) == (0.5, False)
    assert "same in every resample" in flat.auroc.reason and flat.difference.low is not None
    same = held(baseline="ensemble").malignancy.baseline
    assert (same.source, same.difference.value) == ("results", 0.0)
    assert "same in every resample" in same.difference.reason


@pytest.mark.parametrize(("only", "why"), [(2, "No nodule has both"), (1, "nodules that have the number are positive")])
def test_nothing_to_compare_is_a_sentence(
    held: Any, measured: tuple[Rows, Rows], tmp_path: Path, only: int, why: str
) -> None:
    labels = [row | {"diameter": 5 if row["label"] == only else ""} for row in measured[1]]
    evaluation = held(labels=labels, positive=())
    found = evaluation.malignancy.baseline
    assert found.auroc.value is found.score_auroc.value is found.difference.value is None
    assert why in found.auroc.reason and found.auroc == found.difference
    for text in (_Page(page_of(evaluation, tmp_path)).text, " ".join(printed(evaluation, 400).split())):
        assert found.auroc.reason in text
    jsonschema.validate(json.loads(json.dumps(document(evaluation), allow_nan=False)), json.loads(SCHEMA.read_text()))


# --- what is shown ------------------------------------------------------------------------------------------


def test_terminal_page_and_file_tell_it(held: Any, measured: tuple[Rows, Rows], tmp_path: Path) -> None:
    named = [{HOSTILE if name == "diameter" else name: cell for name, cell in row.items()} for row in measured[1]]
    evaluation = held(labels=named, baseline=HOSTILE)
    page, terminal = _Page(page_of(evaluation, tmp_path)).text, " ".join(printed(evaluation, 500).split())
    for text in (page, terminal):
        assert f"Beside the baseline {HOSTILE}" in text and f"{HOSTILE} is a column of the labels" in text
        for found, way in zip(told(evaluation), ("larger", "smaller"), strict=True):
            for estimate in (found.auroc, found.score_auroc, found.difference):
                assert wording.with_interval(estimate) in text and estimate.low is not None
            assert way in text and str(found.without) in text
    written = json.loads(json.dumps(document(evaluation), allow_nan=False))
    jsonschema.validate(written, json.loads(SCHEMA.read_text()))
    assert [written["malignancy"]["baseline"]["descending"], written["semantic"][0]["baseline"]["descending"]] == [
        False, True,
    ]  # fmt: skip
    worst = " ".join(printed(held(labels=named, baseline=HOSTILE, failed="worst"), 500).split())
    sentence = f"Failed nodules count as scored as wrongly as can be; their {HOSTILE} is what it is."
    assert sentence in worst and sentence not in terminal


def test_without_a_baseline_nothing_but_null_is_said(held: Any, tmp_path: Path) -> None:
    evaluation = held(baseline="")
    written = document(evaluation)
    assert written["malignancy"]["baseline"] is None and written["semantic"][0]["baseline"] is None
    jsonschema.validate(json.loads(json.dumps(written)), json.loads(SCHEMA.read_text()))
    for text in (_Page(page_of(evaluation, tmp_path)).text, printed(evaluation)):
        assert "baseline" not in text and "diameter" not in text


def test_the_command_takes_it(held: Any, tmp_path: Path) -> None:
    expected = told(held())[0]
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    numbers = tmp_path / "numbers.json"
    given = [tmp_path / "results.csv", "--labels", tmp_path / "labels.csv", "--json", numbers]
    done = CliRunner().invoke(app, [*map(str, given), "--bootstrap", "40", "--baseline", " diameter "])
    assert done.exit_code == 0, done.output
    written = json.loads(numbers.read_text())
    assert written["malignancy"]["baseline"]["difference"]["low"] == expected.difference.low
    assert written["semantic"][0]["baseline"] is None  # no rule: not evaluated
    assert "Beside the baseline diameter" in done.output
