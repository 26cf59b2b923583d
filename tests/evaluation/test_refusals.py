"""What cannot be evaluated is refused with a code; rows that are left out are counted."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noduleserve.errors import EvaluationError
from noduleserve.evaluation.codes import EVALUATION_CODES
from noduleserve.evaluation.evaluate import Options, evaluate
from noduleserve.evaluation.figures import Evaluation
from noduleserve.evaluation.resampling import Resampling
from noduleserve.evaluation.tables import read_labels, read_results

from .conftest import RELEASE, Write, failed, scored

ROOT = Path(__file__).parents[2]
RESULTS = [scored("A", 1, 0.9), scored("A", 2, 0.2), scored("B", 1, 0.4), scored("C", 7, 0.1)]
LABELS = [
    {"pid": "A", "nodule_id": 1, "label": 1},
    {"pid": "A", "nodule_id": 2, "label": 0},
    {"pid": "B", "nodule_id": 1, "label": 0},
    {"pid": "C", "nodule_id": 7, "label": ""},
]
Held = Callable[..., Evaluation]


@pytest.fixture
def held(write: Write) -> Held:
    """Holds rows of results against rows of labels, without resampling."""

    def evaluated(results: Any = RESULTS, labels: Any = LABELS, **options: Any) -> Evaluation:
        tables = read_results(write("results.csv", results)), read_labels(write("labels.csv", labels))
        return evaluate(*tables, Options(resampling=Resampling(0), **options))

    return evaluated


def without(rows: list[dict[str, object]], column: str) -> list[dict[str, object]]:
    return [{name: cell for name, cell in row.items() if name != column} for row in rows]


def changed(rows: list[dict[str, object]], at: int, **cells: object) -> list[dict[str, object]]:
    return [row | cells if k == at else row for k, row in enumerate(rows)]


FEATURED = [row | {"semantic.margin.sharp": 0.3, "semantic.margin.blurred": 0.7} for row in RESULTS]
RATED = [row | {"margin": k + 1} for k, row in enumerate(LABELS)]
OTHER = "ns-ffffffffffffffffffff"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no status": ("RESULTS_COLUMNS", {"results": without(RESULTS, "status")}, "status"),
    "no pid": ("RESULTS_COLUMNS", {"results": without(RESULTS, "pid")}, "pid"),
    "no such score": ("RESULTS_COLUMNS", {"score": "raw_0"}, "raw_0"),
    "a score that is none": ("RESULTS_COLUMNS", {"score": "pid"}, "pid"),
    "no scores": ("RESULTS_COLUMNS", {"results": without(RESULTS, "ensemble")}, "ensemble"),
    "a status of its own": ("RESULTS_STATUS", {"results": changed(RESULTS, 2, status="fine")}, "line 4"),
    "score above one": ("RESULTS_SCORE", {"results": changed(RESULTS, 1, ensemble=1.2)}, "line 3"),
    "score is NaN": ("RESULTS_SCORE", {"results": changed(RESULTS, 1, ensemble="nan")}, "line 3"),
    "score is missing": ("RESULTS_SCORE", {"results": changed(RESULTS, 1, ensemble="")}, "line 3"),
    "some calibrated": ("RESULTS_SCORE", {"results": changed(RESULTS, 0, calibrated_ensemble=0.5)}, "1 of 4"),
    "a nodule twice": ("RESULTS_DUPLICATE", {"results": [*RESULTS, scored("A", 1, 0.3)]}, "lines 2 and 6"),
    "failed and scored": ("RESULTS_DUPLICATE", {"results": [*RESULTS, failed("A", 1)]}, "lines 2 and 6"),
    "two releases": ("RELEASES_MIXED", {"results": changed(RESULTS, 0, release=OTHER)}, OTHER),
    "release not there": ("RELEASE_ABSENT", {"release": OTHER}, OTHER),
    "nodule ids repeat": ("KEY_AMBIGUOUS", {"key": ("nodule_id",)}, "two patients"),
    "only nodule_id": ("KEY_AMBIGUOUS", {"labels": without(LABELS, "pid")}, "two patients"),
    "no key": ("KEY_MISSING", {"labels": without(LABELS, "nodule_id")}, "nodule_id"),
    "key is empty": ("KEY_MISSING", {"labels": changed(LABELS, 1, nodule_id="")}, "line 3"),
    "labelled twice": ("LABELS_DUPLICATE", {"labels": [*LABELS, LABELS[0]]}, "lines 2 and 6"),
    "label is 2": ("LABEL_INVALID", {"labels": changed(LABELS, 1, label=2)}, "line 3"),
    "label is yes": ("LABEL_INVALID", {"labels": changed(LABELS, 1, label="yes")}, "'yes'"),
    "label of a nodule without result": (
        "LABEL_INVALID",
        {"labels": [*LABELS, {"pid": "Z", "nodule_id": 1, "label": "?"}]},
        "line 6",
    ),
    "nothing to evaluate": ("LABELS_COLUMNS", {"labels": without(LABELS, "label")}, "label"),
    "two columns of a feature": (
        "LABELS_COLUMNS",
        {"results": FEATURED, "labels": [row | {"semantic.margin": 1} for row in RATED]},
        "semantic.margin",
    ),
    "nothing in common": ("NOTHING_LABELLED", {"labels": [{"pid": "A", "nodule_id": "01", "label": 1}]}, "'A, 01'"),
    "labels are empty": ("NOTHING_LABELLED", {"labels": [row | {"label": ""} for row in LABELS]}, "none has a label"),
    "all failed": ("NOTHING_SCORED", {"results": [failed("A", 1), failed("B", 1)]}, "All 2 nodules"),
    "rule without value": ("POSITIVE_RULE", {"positive": ("margin",)}, "is no rule"),
    "rule of no feature": ("POSITIVE_RULE", {"positive": ("edge=sharp",)}, "They have margin"),
    "rule without labels": ("POSITIVE_RULE", {"positive": ("margin=sharp",), "labels": LABELS}, "no column for"),
    "rule of no value": ("POSITIVE_RULE", {"positive": ("margin=round",)}, "sharp, blurred"),
    "rule of no number": ("POSITIVE_RULE", {"positive": ("margin=sharp:<=x",)}, "no number"),
    "rule with nothing after the colon": ("POSITIVE_RULE", {"positive": ("margin=sharp:",)}, "after the colon"),
    "rule of a text that no label is": ("POSITIVE_RULE", {"positive": ("margin=sharp:7|1",)}, "'7'"),
    "rule of a column that is not there": (
        "POSITIVE_RULE",
        {"positive": ("margin=sharp:texture>=4.5",)},
        "the column 'texture', which labels.csv does not have",
    ),
    "column compared with no number": (
        "POSITIVE_RULE",
        {"positive": ("margin=sharp:nodule_id>=x",), "labels": LABELS},
        "no number",
    ),
    "text that is no label, though another column is compared": (
        "POSITIVE_RULE",
        {"positive": ("margin=sharp:3 or nodule_id>=2|1",)},
        "'3 or nodule_id>=2'",
    ),
    "text in a column that is compared": (
        "LABEL_INVALID",
        {"positive": ("margin=sharp:pid>=2",)},
        "line 2: the label of margin (pid) is 'A'",
    ),
    "no such baseline": ("BASELINE_COLUMN", {"baseline": "diameter"}, "'diameter'"),
    "baseline is a text": ("BASELINE_INVALID", {"baseline": "pid"}, "labels.csv, line 2: pid is 'A'"),
    "baseline is infinite": (
        "BASELINE_INVALID",
        {"baseline": "size", "results": [row | {"size": "inf"} for row in RESULTS]},
        "results.csv, line 2",
    ),
    "rating without a number rule": ("LABEL_INVALID", {"positive": ("margin=sharp",)}, "none of the feature's values"),
    "text under a number rule": (
        "LABEL_INVALID",
        {"positive": ("margin=sharp:>2",), "labels": changed(RATED, 2, margin="soft")},
        "line 4",
    ),
    "no such subgroup": ("SUBGROUP_COLUMN", {"by": ("scanner",)}, "'scanner'"),
    "bins of another column": ("SUBGROUP_COLUMN", {"cuts": {"margin": (1.0,)}}, "--by"),
    "bins of a text": ("SUBGROUP_NUMBER", {"by": ("pid",), "cuts": {"pid": (1.0,)}}, "line 2"),
    "too many subgroups": (
        "SUBGROUP_MANY",
        {
            "results": [scored(f"P{k}", 1, 0.5) for k in range(40)],
            "labels": [{"pid": f"P{k}", "nodule_id": 1, "label": k % 2} for k in range(40)],
            "by": ("pid",),
        },
        "40 different values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_code(name: str, held: Held) -> None:
    code, given, says = REFUSED[name]
    if "positive" in given or "cuts" in given:
        given = {"results": FEATURED, "labels": RATED} | given
    with pytest.raises(EvaluationError) as caught:
        held(**given)
    assert caught.value.code == code
    assert says in caught.value.sentence
    assert caught.value.mend


def test_a_column_that_is_not_there_is_refused_with_those_that_are(held: Held) -> None:
    with pytest.raises(EvaluationError) as caught:
        held(results=FEATURED, labels=RATED, positive=("margin=sharp: texture >= 4.5",))
    assert caught.value.mend == "It has pid, nodule_id, label, margin."


def test_the_same_rows_without_fault_are_evaluated(held: Held) -> None:
    """Every refusal above is of a change to these rows."""
    found = held()
    assert found.malignancy is not None and found.malignancy.discrimination.auroc.value == 1.0
    held(results=FEATURED, labels=RATED, positive=("margin=sharp:<=2",), by=("pid",), baseline="nodule_id")


def test_every_code_that_is_raised_is_in_the_table_and_the_other_way_round() -> None:
    files = [*(ROOT / "evaluation").glob("*.py"), ROOT / "noduleserve" / "commands" / "evaluate.py"]
    texts = {
        node.value
        for file in files
        if file.name != "codes.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(EVALUATION_CODES) <= texts
    raised = {
        node.args[0].value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "EvaluationError"
        and isinstance(node.args[0], ast.Constant)
    }
    assert raised <= set(EVALUATION_CODES)
    assert len(raised) > 15


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("results.csv.part", b"pid,nodule_id\n", "RESULTS_INCOMPLETE"),
        ("results.xlsx", b"PK", "RESULTS_FORMAT"),
        ("results.csv", b"", "RESULTS_COLUMNS"),
        ("results.csv", b"pid,pid\n", "RESULTS_COLUMNS"),
        ("results.csv", b"pid,nodule_id\nA\n", "RESULTS_UNREADABLE"),
        ("results.csv", b"pid,nodule_id\n\xff,1\n", "RESULTS_UNREADABLE"),
        ("results.csv", b'pid,nodule_id\n"A,1\n', "RESULTS_UNREADABLE"),
        ("absent.csv", None, "RESULTS_UNREADABLE"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvaluationError) as caught:
        read_results(path)
    assert caught.value.code == code
    assert name in caught.value.sentence and str(tmp_path) not in caught.value.sentence


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_labels_may_be_separated_as_spreadsheets_do(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = [["pid", "nodule_id", "label"], ["A", "1", "1"]]
    path.write_text("\ufeff" + "\n".join(separator.join(row) for row in rows) + "\n\n", encoding="utf-8")
    table = read_labels(path)
    assert table.columns == ("pid", "nodule_id", "label")
    assert [row.cells for row in table.rows] == [{"pid": "A", "nodule_id": "1", "label": "1"}]


def test_a_chosen_release_takes_its_rows_only(held: Held) -> None:
    mixed = [*RESULTS, scored("A", 1, 0.1, release=OTHER), scored("B", 1, 0.8, release=OTHER), failed("A", 2)]
    found = held(results=mixed, release=RELEASE)
    assert (found.release, found.counts.results, found.counts.other_release, found.counts.superseded) == (
        RELEASE,
        4,
        2,
        1,
    )
    assert found.malignancy is not None and found.malignancy.discrimination.auroc.value == 1.0
    other = held(results=mixed, release=OTHER)
    assert (other.counts.scored, other.counts.other_release) == (2, 4)
    # A 2 has a score of the first release only: of this one it may be the failure.
    assert other.counts.failed_labelled == (("A", "2", "SERIES_UNEVEN"),)
    assert other.malignancy is not None and other.malignancy.discrimination.auroc.value == 0.0


def test_nodule_id_alone_joins_where_it_is_unique(held: Held) -> None:
    results = changed(RESULTS, 2, nodule_id=3)
    labels = [{"nodule_id": row["nodule_id"], "label": label} for row, label in zip(results, (1, 0, 0, 0), strict=True)]
    found = held(results=results, labels=labels)
    assert found.method.key == ("nodule_id",) and found.counts.matched == 4
    assert found.malignancy is not None and found.malignancy.discrimination.patients == 3


def test_one_class_is_told_and_holds_no_nan(held: Held) -> None:
    found = held(labels=[row | {"label": 0} for row in LABELS]).malignancy
    assert found is not None
    assert found.one_class == found.discrimination.auroc.reason != ""
    assert found.discrimination.auroc.value is None and found.brier_scaled is None
    assert found.brier.value == pytest.approx((0.81 + 0.04 + 0.16 + 0.01) / 4)


def test_every_code_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "evaluate.md").read_text()
    assert [code for code, meaning in EVALUATION_CODES.items() if f"| {code} | {meaning} |" not in text] == []
