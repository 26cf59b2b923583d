"""From two tables to an evaluation: join them, account for every row, compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from noduleserve.errors import EvaluationError

from . import baseline as baselines
from . import calibration as calibrations
from . import discrimination as discriminations
from .figures import (
    Baseline,
    Counts,
    Estimate,
    Evaluation,
    Malignancy,
    Method,
    ScoreColumn,
    SemanticFeature,
    Subgroup,
)
from .matching import LABEL, Match, key_columns, label_of, match
from .positives import SEMANTIC, Rule, features_of, is_positive, labelled_features, read_rules, require_a_positive_text
from .published import beside
from .resampling import FEWEST_OF_A_CLASS, Cases, Resampling, Statistic, estimates
from .scored import (
    PATIENT,
    Key,
    Selection,
    is_scored,
    not_scored,
    notice,
    probability,
    probability_columns,
    score_column,
    select,
    warned,
)
from .subgroups import groupings
from .tables import Row, Table

_HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class Options:
    """What is asked of an evaluation.

    Attributes:
        key: columns to join by; none: pid and nodule_id as far as the labels have them.
        score: column to evaluate; "": calibrated_ensemble, or ensemble where the release has no calibration.
        release: id of the release whose rows count; "": the only one.
        failed: "exclude" leaves failed nodules out, "worst" counts them as scored as wrongly as can be.
        by: columns to form subgroups by.
        cuts: of columns with numbers, where to cut them.
        positive: rules that say which semantic labels are positive.
        baseline: column of a number known of each nodule, to stand beside the score; "": none.
        thresholds: scores at which to count what is called.
        specificities, sensitivities: at which to report the other one.
        calibration_bins: how many bins the scores are cut into.
        resampling: how intervals are made.
        cohort: name of the cohort; "": nothing is set beside the published numbers.
    """

    key: tuple[str, ...] = ()
    score: str = ""
    release: str = ""
    failed: Literal["exclude", "worst"] = "exclude"
    by: tuple[str, ...] = ()
    cuts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    baseline: str = ""
    thresholds: tuple[float, ...] = ()
    specificities: tuple[float, ...] = (0.8, 0.9, 0.95)
    sensitivities: tuple[float, ...] = (0.9, 0.95)
    calibration_bins: int = 10
    resampling: Resampling = field(default_factory=Resampling)
    cohort: str = ""


def evaluate(
    results: Table, labels: Table, options: Options | None = None, notices: Mapping[str, str] | None = None
) -> Evaluation:
    """Hold results against labels.

    Args:
        results: as `read_results` gives it.
        labels: as `read_labels` gives it.
        options: what is asked.
        notices: sentence that every output must carry, by release id, for results that do not carry it themselves.

    Raises:
        EvaluationError: any code of EVALUATION_CODES but those of reading and writing files.
    """
    options = options or Options()
    key = key_columns(labels, options.key)
    selection = select(results, key, options.release)
    column = score_column(selection, options.score)
    rules = read_rules(options.positive, results, labels)
    if not rules:  # the labels have a column for every rule
        _require_something_to_evaluate(results, labels)
    matched = match(selection, labels, key)
    numbers = baselines.read_numbers(matched.pairs, results, labels, options.baseline) if options.baseline else None
    known = _labels(matched, labels)
    semantic = _semantic(selection, matched, labels, rules, numbers, options)
    # Empty labels of malignancy are forgiven where the file was made for the semantic features.
    wanted = known or (LABEL in labels.columns and not rules)
    malignancy = _malignancy(selection, matched, known, column, numbers, options) if wanted else None
    return Evaluation(
        results=results.name,
        labels=labels.name,
        release=selection.release,
        notice=notice(list(selection.rows.values())) or (notices or {}).get(selection.release, ""),
        cohort=options.cohort,
        method=_method(key, column, options),
        counts=_counts(selection, matched, labels, known),
        malignancy=malignancy,
        semantic=semantic,
        subgroups=_subgroups(selection, matched, labels, known, column, options),
        beside=beside(malignancy, semantic) if options.cohort else (),
    )


def _require_something_to_evaluate(results: Table, labels: Table) -> None:
    if LABEL not in labels.columns and not labelled_features(results, labels):
        raise EvaluationError(
            "LABELS_COLUMNS",
            f"{labels.name} has no column {LABEL}, and none named as a semantic feature of {results.name}.",
            "Add label (1 cancer within a year, 0 none), or semantic.FEATURE.",
        )


def _labels(matched: Match, labels: Table) -> dict[Key, int]:
    """The label of malignancy of every matched nodule that has one; every label of the file is checked."""
    if LABEL not in labels.columns:
        return {}
    for row in labels.rows:
        label_of(labels, row)
    found = {ids: label_of(labels, row) for ids, (_, row) in matched.pairs.items()}
    return {ids: label for ids, label in found.items() if label is not None}


def _cases(
    selection: Selection, matched: Match, known: Mapping[Key, int], column: str, ids: Iterable[Key] | None = None
) -> Cases:
    """Scores and labels of the nodules that have a label; failed ones among them, with 0.5 as a stand-in."""
    some = [k for k in (known if ids is None else ids) if k in known]
    rows = [matched.pairs[k][0] for k in some]
    for row in rows:
        if not row.cells[PATIENT]:
            raise EvaluationError(
                "KEY_MISSING",
                f"{selection.table.name}, line {row.line}: {PATIENT} is empty.",
                "Intervals need to know which nodules are of one patient: give every row its pid.",
            )
    scores = [probability(selection.table, row, column) if is_scored(row) else 0.5 for row in rows]
    return Cases(
        np.array(scores, np.float64),
        np.array([known[k] for k in some], np.int64),
        np.array([row.cells[PATIENT] for row in rows], np.str_),
        np.array([not is_scored(row) for row in rows], np.bool_),
    )


def _counted(cases: Cases, options: Options) -> Cases:
    """The cases that discrimination is computed from."""
    if options.failed == "worst":
        return discriminations.as_wrong_as_can_be(cases)
    return cases.only(~cases.failed)


def _baseline(
    everyone: Cases, nodules: Iterable[Key], numbers: baselines.Numbers | None, options: Options
) -> Baseline | None:
    """The number beside the score; `nodules` are those of the cases, in the same order."""
    if numbers is None:
        return None
    values = numbers.of(list(nodules))
    counted = values if options.failed == "worst" else values[~everyone.failed]
    return baselines.compare(_counted(everyone, options), counted, numbers.column, numbers.source, options.resampling)


def _malignancy(
    selection: Selection,
    matched: Match,
    known: Mapping[Key, int],
    column: str,
    numbers: baselines.Numbers | None,
    options: Options,
) -> Malignancy:
    everyone = _cases(selection, matched, known, column)
    scored, counted = everyone.only(~everyone.failed), _counted(everyone, options)
    if not len(everyone):
        raise EvaluationError(
            "NOTHING_LABELLED", "Of the nodules that both files have, none has a label.", "Fill in the column label."
        )
    if not len(scored):
        raise EvaluationError(
            "NOTHING_SCORED",
            f"All {len(everyone)} nodules of {selection.table.name} that have a label failed.",
            "See error_code and error in their rows.",
        )
    at = options.resampling
    prevalence = counted.positives / len(counted)
    brier = _brier(everyone if options.failed == "worst" else scored, at)
    edges = calibrations.equal_width_edges(_HISTOGRAM_BINS)
    heights = [np.histogram(scored.scores[scored.labels == label], edges)[0].tolist() for label in (0, 1)]
    return Malignancy(
        discrimination=discriminations.discrimination(counted, at),
        one_class=discriminations.one_class(counted),
        brier=brier,
        brier_scaled=_scaled(brier.value, prevalence),
        operating_points=discriminations.operating_points(counted, options.specificities, options.sensitivities, at),
        confusions=discriminations.confusions(counted, options.thresholds, at),
        calibration=calibrations.calibration(scored, options.calibration_bins, at),
        bound=discriminations.bound(everyone),
        columns=_columns(selection, matched, known, options),
        roc=discriminations.roc_points(counted),
        precision_recall=discriminations.precision_recall_points(counted),
        histogram=(tuple(edges.tolist()), tuple(heights[0]), tuple(heights[1])),
        baseline=_baseline(everyone, known, numbers, options),
    )


def _brier(cases: Cases, resampling: Resampling) -> Estimate:
    errors = discriminations.squared_errors(cases)
    statistics: dict[str, Statistic] = {"brier": lambda r: (r.weights @ errors) / r.weights.sum(axis=1)}
    return estimates(cases, {"brier": float(errors.mean())}, statistics, resampling)["brier"]


def _scaled(brier: float | None, prevalence: float) -> float | None:
    worth = prevalence * (1 - prevalence)
    return 1 - brier / worth if brier is not None and worth > 0 else None


def _columns(
    selection: Selection, matched: Match, known: Mapping[Key, int], options: Options
) -> tuple[ScoreColumn, ...]:
    """Every column of probabilities that all scored rows have, without intervals."""
    found = []
    for name in probability_columns(selection.table):
        rows = [matched.pairs[ids][0] for ids in known]
        if not all(row.cells[name] for row in rows if is_scored(row)):
            continue
        everyone = _cases(selection, matched, known, name)
        scored, counted = everyone.only(~everyone.failed), _counted(everyone, options)
        errors = discriminations.squared_errors(everyone if options.failed == "worst" else scored)
        edges = calibrations.equal_width_edges(options.calibration_bins)
        ece = calibrations.binning("equal width", edges, scored, options.resampling.seed).ece
        found.append(ScoreColumn(name, *discriminations.areas(counted), float(errors.mean()), ece))
    return tuple(found)


def _semantic(
    selection: Selection,
    matched: Match,
    labels: Table,
    rules: list[Rule],
    numbers: baselines.Numbers | None,
    options: Options,
) -> tuple[SemanticFeature, ...]:
    labelled = labelled_features(selection.table, labels)
    ruled = {rule.feature for rule in rules}
    found = [_semantic_feature(selection, matched, labels, rule, numbers, options) for rule in rules]
    without = "The labels have a column for it, but no rule of --positive says which labels are positive."
    found += [SemanticFeature(feature, "", "", (), None, without) for feature in labelled if feature not in ruled]
    order = list(features_of(selection.table))
    return tuple(sorted(found, key=lambda feature: order.index(feature.feature)))


def _semantic_feature(
    selection: Selection,
    matched: Match,
    labels: Table,
    rule: Rule,
    numbers: baselines.Numbers | None,
    options: Options,
) -> SemanticFeature:
    column = rule.column
    rows = {ids: label for ids, (_, label) in matched.pairs.items() if label.cells[column]}
    require_a_positive_text(rule, Counter(row.cells[column] for row in labels.rows if row.cells[column]), labels)
    known = {ids: int(is_positive(rule, row.cells[column], labels, row)) for ids, row in rows.items()}
    counted = Counter((row.cells[column], bool(known[ids])) for ids, row in rows.items())
    listed = tuple((cell, positive, n) for (cell, positive), n in sorted(counted.items()))
    everyone = _cases(selection, matched, known, f"{SEMANTIC}{rule.feature}.{rule.value}")
    cases = _counted(everyone, options)
    if not len(cases):
        reason = "No nodule that was scored has a label of it."
        return SemanticFeature(rule.feature, rule.value, rule.text, listed, None, reason)
    found = discriminations.discrimination(cases, options.resampling)
    reason = discriminations.one_class(cases)
    beside_it = _baseline(everyone, known, numbers, options)
    return SemanticFeature(rule.feature, rule.value, rule.text, listed, found, reason, beside_it)


def _subgroups(
    selection: Selection, matched: Match, labels: Table, known: Mapping[Key, int], column: str, options: Options
) -> tuple[Subgroup, ...]:
    pairs = {ids: matched.pairs[ids] for ids in known}
    found = []
    for grouping in groupings(pairs, selection.table, labels, options.by, options.cuts):
        for name, members in grouping.members.items():
            cases = _cases(selection, matched, known, column, members)
            found.append(_subgroup(grouping.column, grouping.source, name, cases, options))
    return tuple(found)


def _subgroup(column: str, source: str, name: str, cases: Cases, options: Options) -> Subgroup:
    scored, counted = cases.only(~cases.failed), _counted(cases, options)
    discrimination = discriminations.discrimination(counted, options.resampling)
    errors = discriminations.squared_errors(cases if options.failed == "worst" else scored)
    return Subgroup(
        column,
        source,
        name,
        discrimination,
        float(errors.mean()) if len(errors) else None,
        float(scored.scores.mean()) if len(scored) else None,
        float(scored.labels.mean()) if len(scored) else None,
    )


def _method(key: tuple[str, ...], column: str, options: Options) -> Method:
    at = options.resampling
    return Method(
        key=key,
        score_column=column,
        failed=options.failed,
        resamples=at.number,
        seed=at.seed,
        confidence=at.confidence,
        fewest_of_a_class=FEWEST_OF_A_CLASS,
        calibration_bins=options.calibration_bins,
    )


def _counts(selection: Selection, matched: Match, labels: Table, known: Mapping[Key, int]) -> Counts:
    rows = list(selection.rows.values())
    failed = {ids: row for ids in known if not is_scored(row := matched.pairs[ids][0])}
    return Counts(
        results=len(rows),
        scored=sum(map(is_scored, rows)),
        not_scored=not_scored(rows),
        other_release=selection.other_release,
        superseded=selection.superseded,
        warned=warned(rows),
        labels=len(labels.rows),
        matched=len(matched.pairs),
        labelled=len(known),
        labelled_scored=len(known) - len(failed),
        results_without_label=matched.without_label,
        labels_without_result=matched.without_result,
        failed_labelled=tuple((*ids, _code(row)) for ids, row in failed.items()),
    )


def _code(row: Row) -> str:
    return row.cells.get("error_code") or row.cells["status"]
