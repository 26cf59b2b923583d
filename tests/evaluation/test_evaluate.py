"""The whole: every row accounted for, failed nodules, semantic features, subgroups, the published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from noduleserve.evaluation import published
from noduleserve.evaluation.evaluate import Options, evaluate
from noduleserve.evaluation.figures import Evaluation
from noduleserve.evaluation.resampling import Resampling
from noduleserve.evaluation.tables import read_labels, read_results
from noduleserve.results.base import Head
from noduleserve.results.csv_table import CsvWriter
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import Nodule

from .conftest import RELEASE, Rows, Write, failed, scored

FAST = Resampling(60)


@pytest.fixture
def held(write: Write, cohort: tuple[Rows, Rows]) -> Any:
    def evaluated(results: Rows = cohort[0], labels: Rows = cohort[1], **options: Any) -> Evaluation:
        tables = read_results(write("results.csv", results)), read_labels(write("labels.csv", labels))
        return evaluate(*tables, Options(**({"resampling": FAST} | options)))

    return evaluated


def joined(cohort: tuple[Rows, Rows]) -> list[tuple[Any, Any]]:
    by_ids = {(row["pid"], row["nodule_id"]): row for row in cohort[1]}
    return [(row, by_ids[row["pid"], row["nodule_id"]]) for row in cohort[0] if row["status"] == "scored"]


def test_numbers_are_those_of_the_rows(held: Any, cohort: tuple[Rows, Rows]) -> None:
    pairs = joined(cohort)
    y, s = [label["label"] for _, label in pairs], [row["ensemble"] for row, _ in pairs]
    found = held().malignancy
    assert found.discrimination.auroc.value == pytest.approx(roc_auc_score(y, s))
    assert found.discrimination.auprc.value == pytest.approx(average_precision_score(y, s))
    assert found.brier.value == pytest.approx(np.mean((np.array(s) - y) ** 2))
    share = np.mean(y)
    assert found.brier_scaled == pytest.approx(1 - found.brier.value / (share * (1 - share)))
    for estimate in (found.discrimination.auroc, found.discrimination.auprc, found.brier, found.calibration.slope):
        assert estimate.low < estimate.value < estimate.high
    assert sum(found.histogram[1]) + sum(found.histogram[2]) == len(pairs)
    folds = {c.column: c for c in found.columns}
    assert set(folds) == {"raw_0", "raw_1", "ensemble"}
    assert folds["raw_1"].auroc == pytest.approx(roc_auc_score(y, [row["raw_1"] for row, _ in pairs]))


def test_every_row_is_accounted_for(held: Any, cohort: tuple[Rows, Rows]) -> None:
    results, labels = cohort
    extra = {"pid": "nobody", "nodule_id": 1, "label": 1}
    warned = [dict(row) | {"warnings": "SLICES_THICK;NEAR_EDGE" if k == 3 else ""} for k, row in enumerate(results)]
    unlabelled = [dict(row) | {"label": ""} if k == 5 else row for k, row in enumerate(labels[1:])]
    counts = held(results=warned, labels=[*unlabelled, extra]).counts
    fails = sum(row["status"] == "failed" for row in results)
    assert fails > 3
    assert (counts.results, counts.scored, counts.not_scored) == (
        len(results), len(results) - fails, {"failed SERIES_UNEVEN": fails},
    )  # fmt: skip
    assert (counts.labels, counts.matched) == (len(labels), len(labels) - 1)
    assert counts.labels_without_result == (("nobody", "1"),)
    assert counts.results_without_label == ((labels[0]["pid"], str(labels[0]["nodule_id"])),)
    assert counts.labelled == counts.matched - 1
    assert counts.labelled - counts.labelled_scored == len(counts.failed_labelled)
    assert counts.warned == {"SLICES_THICK": 1, "NEAR_EDGE": 1}


def test_failed_nodules_are_left_out_or_count_as_wrong(held: Any, cohort: tuple[Rows, Rows]) -> None:
    results, labels = cohort
    by_ids = {(row["pid"], row["nodule_id"]): row["label"] for row in labels}
    y = [by_ids[row["pid"], row["nodule_id"]] for row in results]
    worst = [
        row["ensemble"] if row["status"] == "scored" else 2 - 3 * label for row, label in zip(results, y, strict=True)
    ]
    left_out, counted = held().malignancy, held(failed="worst").malignancy
    assert counted.discrimination.auroc.value == pytest.approx(roc_auc_score(y, worst))
    assert left_out.bound == counted.bound
    assert left_out.bound.auroc == counted.discrimination.auroc.value < left_out.discrimination.auroc.value
    assert left_out.bound.brier == pytest.approx(counted.brier.value)
    fails = sum(row["status"] == "failed" for row in results)
    assert (left_out.discrimination.failed, counted.discrimination.failed) == (0, fails)
    assert counted.discrimination.nodules == left_out.discrimination.nodules + fails
    assert counted.calibration == left_out.calibration  # a failed nodule has no score that could be calibrated


def test_parked_rows_are_not_scored(held: Any) -> None:
    rows = [scored("A", 1, 0.9), scored("B", 1, 0.2), failed("C", 1, "ANSWER_LATE") | {"status": "parked"}]
    found = held(results=rows, labels=[{"pid": p, "nodule_id": 1, "label": int(p == "A")} for p in "ABC"])
    assert found.counts.not_scored == {"parked ANSWER_LATE": 1}
    assert found.counts.failed_labelled == (("C", "1", "ANSWER_LATE"),)


def test_calibrated_scores_come_first(held: Any) -> None:
    rows = [scored("A", 1, 0.9, calibrated_ensemble=0.3), scored("B", 1, 0.2, calibrated_ensemble=0.4)]
    labels = [{"pid": p, "nodule_id": 1, "label": int(p == "A")} for p in "AB"]
    found = held(results=rows, labels=labels)
    assert (found.method.score_column, found.malignancy.discrimination.auroc.value) == ("calibrated_ensemble", 0.0)
    assert held(results=rows, labels=labels, score="ensemble").malignancy.discrimination.auroc.value == 1.0
    empty = [row | {"calibrated_ensemble": ""} for row in rows]
    assert held(results=empty, labels=labels).method.score_column == "ensemble"


def test_semantic_feature_by_its_rule(held: Any, cohort: tuple[Rows, Rows]) -> None:
    found = held(positive=("margin=poorly defined:<=2",)).semantic
    pairs = joined(cohort)
    y = [label["margin"] <= 2 for _, label in pairs]
    s = [row["semantic.margin.poorly defined"] for row, _ in pairs]
    assert len(found) == 1 and found[0].value == "poorly defined"
    assert found[0].discrimination.auroc.value == pytest.approx(roc_auc_score(y, s))
    assert found[0].discrimination.positives == sum(y)
    assert [(text, positive) for text, positive, _ in found[0].labels] == [(str(k), k <= 2) for k in range(1, 6)]
    opposite = held(positive=("margin=sharp:>2",)).semantic[0]
    assert opposite.discrimination.auroc.value == pytest.approx(found[0].discrimination.auroc.value)


def test_semantic_feature_by_texts(held: Any) -> None:
    names = ["semantic.margin.poorly defined", "semantic.margin.sharp", "semantic.wall.a:b"]
    rows = [
        scored(p, 1, 0.5, **dict(zip(names, n, strict=True)))
        for p, n in zip("ABC", ((9, 1, 1), (1, 9, 2), (4, 6, 3)), strict=True)
    ]
    rows = [{k: v / 10 if k in names else v for k, v in row.items()} for row in rows]
    words = ("Poorly Defined", "sharp", "")
    labels = [
        {"pid": p, "nodule_id": 1, "semantic.margin": w, "wall": x} for p, w, x in zip("ABC", words, "xyz", strict=True)
    ]
    margin, wall = held(results=rows, labels=labels, positive=("wall=a:b:Y|z", "margin=poorly defined")).semantic
    assert margin.labels == (("Poorly Defined", True, 1), ("sharp", False, 1))
    assert margin.discrimination.auroc.value == 1.0
    assert (wall.value, wall.discrimination.positives, wall.discrimination.auroc.value) == ("a:b", 2, 1.0)
    without_rule = held(results=rows, labels=labels, positive=("margin=poorly defined",))
    assert without_rule.malignancy is None
    assert [f.feature for f in without_rule.semantic if f.discrimination is None and "no rule" in f.reason] == ["wall"]


def test_semantic_feature_by_the_numbers_of_another_column(held: Any, cohort: tuple[Rows, Rows]) -> None:
    results, labels = cohort
    rng = np.random.default_rng(3)
    texture = [round(float(t), 1) for t in rng.uniform(1, 5, len(labels))]
    rated = [row | {"texture": t if k % 9 else ""} for k, (row, t) in enumerate(zip(labels, texture, strict=True))]
    pairs = [(row, label) for row, label in joined((results, rated)) if label["texture"] != ""]
    rules = ("margin=sharp:texture>=3.5", "margin=sharp:>=3", "margin=sharp: texture < 2")
    high, own, low = held(labels=rated, positive=rules).semantic
    for found, y in ((high, [n["texture"] >= 3.5 for _, n in pairs]), (low, [n["texture"] < 2 for _, n in pairs])):
        expected = roc_auc_score(y, [row["semantic.margin.sharp"] for row, _ in pairs])
        assert found.discrimination.auroc.value == pytest.approx(expected)
        assert (found.discrimination.nodules, found.discrimination.positives) == (len(pairs), sum(y))
    assert own.discrimination.nodules > high.discrimination.nodules  # of the column margin, which has no gaps
    # Neither a label of malignancy nor a column of the feature is needed.
    bare = [{name: row[name] for name in ("pid", "nodule_id", "texture")} for row in rated]
    alone = held(labels=bare, positive=rules[:1])
    assert alone.malignancy is None and alone.semantic == (high,)


@pytest.mark.parametrize(
    ("rule", "positive", "negative"),
    [
        ("margin=sharp:size>=3", {"Size>=3": 1}, {"b": 1, "c": 2}),  # stands as a label: a text
        ("margin=sharp:size>=3|b", {"Size>=3": 1, "b": 1}, {"c": 2}),
        ("margin=sharp:size>=2", {"2": 1, "3": 1}, {"1": 1}),  # stands nowhere: the column
        ("margin=sharp:size=1", {"1": 1}, {"2": 1, "3": 1}),
        ("margin=sharp:size <2.5", {"1": 1, "2": 1}, {"3": 1}),
        ("margin=sharp:size>2>3", {"4": 1}, {"2": 1, "3": 1}),  # the column size>2
    ],
)
def test_texts_that_read_like_comparisons(
    held: Any, rule: str, positive: dict[str, int], negative: dict[str, int]
) -> None:
    rows = [scored(p, 1, 0.5, **{"semantic.margin.sharp": 0.4, "semantic.margin.blurred": 0.6}) for p in "ABCD"]
    columns = {"margin": ["Size>=3", "b", "c", "c"], "size": ["", 1, 2, 3], "size>2": [4, 3, 2, ""]}
    labels = [{"pid": p, "nodule_id": 1} | {n: cells[k] for n, cells in columns.items()} for k, p in enumerate("ABCD")]
    (found,) = held(results=rows, labels=labels, positive=(rule,)).semantic
    assert {cell: n for cell, up, n in found.labels if up} == positive
    assert {cell: n for cell, up, n in found.labels if not up} == negative
    assert (found.discrimination.positives, found.discrimination.negatives) == (
        sum(positive.values()), sum(negative.values()),
    )  # fmt: skip


def test_subgroups_by_text_and_by_bins(held: Any, cohort: tuple[Rows, Rows]) -> None:
    found = held(by=("scanner", "slice_thickness"), cuts={"slice_thickness": (1.25, 2.5)}).subgroups
    assert [(g.column, g.group) for g in found] == [
        *(("scanner", name) for name in ("A", "B", "rare")),
        *(("slice_thickness", name) for name in ("<= 1.25", "> 1.25 to 2.5", "> 2.5", "(not given)")),
    ]
    pairs = joined(cohort)
    for column in ("scanner", "slice_thickness"):
        assert sum(g.discrimination.nodules for g in found if g.column == column) == len(pairs)
    thin = [(r, n) for r, n in pairs if n["slice_thickness"] in ("1", "1.25")]
    expected = roc_auc_score([n["label"] for _, n in thin], [r["ensemble"] for r, _ in thin])
    by_name = {g.group: g for g in found}
    assert by_name["<= 1.25"].discrimination.auroc.value == pytest.approx(expected)
    assert by_name["A"].discrimination.auroc.low is not None
    rare = by_name["rare"].discrimination
    assert min(rare.positives, rare.negatives) < 10 and rare.auroc.low is None and "fewer than 10" in rare.auroc.reason


def test_a_subgroup_may_have_no_score_or_one_class(held: Any) -> None:
    rows = [scored("A", 1, 0.9), scored("B", 1, 0.2), failed("C", 1)]
    labels = [{"pid": p, "nodule_id": 1, "label": int(p == "A"), "site": s} for p, s in zip("ABC", "xyz", strict=True)]
    x, _, z = held(results=rows, labels=labels, by=("site",)).subgroups
    assert (x.discrimination.nodules, x.brier) == (1, pytest.approx(0.01))
    assert "All 1 nodules with a label are positive" in x.discrimination.auroc.reason
    assert (z.discrimination.nodules, z.brier, z.mean_score) == (0, None, None)
    assert z.discrimination.auroc.reason == "None of these nodules was scored."
    assert held(results=rows, labels=labels, by=("status",)).subgroups[0].source == "results"


def test_published_numbers_stand_beside_a_named_cohort_only(held: Any) -> None:
    rule = ("margin=poorly defined:<=2",)
    assert held(positive=rule).beside == ()
    found = held(positive=rule, cohort="Our clinic")
    assert [(b.published, b.here) for b in found.beside] == [
        (0.901, found.malignancy.discrimination.auroc),
        (0.776, found.malignancy.discrimination.auprc),
        (0.807, found.semantic[0].discrimination.auroc),
    ]
    assert [p.value for p in published.ZERO_SHOT] == [0.807, 0.812, 0.840]


def test_reads_what_score_writes(tmp_path: Path) -> None:
    """The real writer of results, with a score to every digit it keeps."""
    info = ReleaseInfo(RELEASE, 2, True, ("margin.sharp", "margin.blurred"), notice="not for patients")
    path = tmp_path / "results.csv"
    table = CsvWriter(str(path), Head(("pid", "nodule_id"), info))
    table.begin()
    for number, p in enumerate((0.125, 0.75, None)):
        ids = {"pid": f"P{number}", "nodule_id": "1"}
        nodule = Nodule(number, ids, ids["pid"], "1", Path("/ct"), (0.0, 0.0, 0.0))
        if p is None:
            table.add(Outcome(nodule, error_code="CENTER_OUTSIDE", error="It is outside."))
            continue
        folds = np.float32([p, p])
        none = np.zeros((2, 1), np.float32)
        score = Score(p, folds, folds / 2, np.float32([p, 1 - p]), none, none, RELEASE)
        table.add(Outcome(nodule, score))
    table.finish()
    labels = tmp_path / "labels.csv"
    labels.write_text("pid,nodule_id,label,margin\nP0,1,0,blurred\nP1,1,1,sharp\nP2,1,1,sharp\n")
    options = Options(resampling=Resampling(0), positive=("margin=sharp",))
    found = evaluate(read_results(path), read_labels(labels), options)
    assert (found.release, found.notice) == (RELEASE, "not for patients")
    assert found.counts.not_scored == {"failed CENTER_OUTSIDE": 1}
    assert found.malignancy is not None
    assert found.malignancy.brier.value == pytest.approx((0.0625**2 + 0.625**2) / 2)
    assert found.semantic[0].discrimination is not None and found.semantic[0].discrimination.auroc.value == 1.0
