"""What an evaluation finds, as plain numbers: the same in the terminal, in report.html and in the file of numbers.

A number that cannot be given is None, never NaN, and a `reason` beside it says why. Probabilities, proportions and
areas are 0..1. A nodule counts as called where its score is at or above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the number, or None where there is none.
        low, high: the interval, both None where there is none.
        reason: why the value or the interval is missing, a sentence, or "".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Discrimination:
    """How well a score tells positives from negatives.

    Attributes:
        nodules, patients, positives, negatives: what the numbers are made of.
        failed: of the nodules, how many failed and count as scored as wrongly as can be (0 where they are left out).
        auroc: area under the ROC curve.
        auprc: average precision; the share of positives is what a score without meaning reaches.
    """

    nodules: int
    patients: int
    positives: int
    negatives: int
    failed: int
    auroc: Estimate
    auprc: Estimate


@dataclass(frozen=True)
class OperatingPoint:
    """What is reached where sensitivity or specificity is chosen beforehand.

    Attributes:
        chosen: "specificity" or "sensitivity".
        target: what it must at least be.
        threshold: the lowest score that is called, or None where no score is.
        sensitivity, specificity: at that threshold; the interval of the one that was not chosen comes from choosing
            the threshold anew in every resample, and the chosen one has none.
        note: what is to be known of this point, or "".
    """

    chosen: str
    target: float
    threshold: float | None
    sensitivity: Estimate
    specificity: Estimate
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """The four counts at a given threshold, and what follows from them; ppv and npv hold for this cohort only."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate


@dataclass(frozen=True)
class CalibrationBin:
    """Nodules whose scores lie close together.

    Attributes:
        low, high: of the scores in the bin, from `low` to below `high` (the last bin holds its `high`).
        nodules, positives: counts.
        mean_score, observed: mean of the scores, and share of positives; None where the bin is empty.
        observed_low, observed_high: Wilson's 95 % interval of `observed`, as if nodules were independent.
    """

    low: float
    high: float
    nodules: int
    positives: int
    mean_score: float | None
    observed: float | None
    observed_low: float | None
    observed_high: float | None


@dataclass(frozen=True)
class Binning:
    """One way of cutting the scores into bins, and the expected calibration error (ECE) that it gives.

    Attributes:
        kind: "equal width" or "equal mass".
        bins: in ascending order; fewer than asked for where equal scores would have to be parted.
        ece: the mean over nodules of |share of positives - mean score| of their bin.
        ece_if_calibrated: mean and 95th percentile of the ECE that scores without any error of calibration would
            show, for as many nodules with these scores: an ECE below that says nothing against the calibration.
    """

    kind: str
    bins: tuple[CalibrationBin, ...]
    ece: float
    ece_if_calibrated: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """Whether scores can be read as probabilities; failed nodules are never part of it.

    Attributes:
        nodules: what the numbers are made of.
        mean_score: mean of the scores.
        prevalence: share of positives.
        intercept: of a logistic model on logit(score) with the slope held at 1; 0 is right, above 0: scores too low.
        slope: of a logistic model on logit(score); 1 is right, below 1: scores too extreme.
        clipped: how many scores were moved away from 0 or 1 to have a logit.
        binnings: by equal width and by equal mass.
    """

    nodules: int
    mean_score: float
    prevalence: float
    intercept: Estimate
    slope: Estimate
    clipped: int
    binnings: tuple[Binning, ...]


@dataclass(frozen=True)
class ScoreColumn:
    """What another column of probabilities would give; without intervals."""

    column: str
    auroc: float | None
    auprc: float | None
    brier: float
    ece_equal_width: float


@dataclass(frozen=True)
class Bound:
    """AUROC, AUPRC and Brier score if every labelled nodule that failed had been scored as wrongly as can be.

    No scores of the failed nodules could give worse ones; for AUPRC, as far as the scores differ from one another.
    """

    failed_positives: int
    failed_negatives: int
    auroc: float | None
    auprc: float | None
    brier: float


@dataclass(frozen=True)
class Baseline:
    """A number known of each nodule beside the score, on exactly the nodules that have the number.

    Attributes:
        column, source: where the number is from, a column of the "labels" or of the "results".
        descending: a smaller number speaks for positive; whichever way round gives the larger AUROC here.
        nodules, patients, positives, negatives: what the numbers are made of.
        failed: of the nodules, how many failed and count as scored as wrongly as can be (0 where they are left out).
        without: how many nodules lack the number and are left out here.
        auroc: of the number.
        score_auroc: of the score.
        difference: score_auroc - auroc, its interval from the same resamples as theirs.
    """

    column: str
    source: str
    descending: bool
    nodules: int
    patients: int
    positives: int
    negatives: int
    failed: int
    without: int
    auroc: Estimate
    score_auroc: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Malignancy:
    """Everything about the probability of cancer within a year.

    Attributes:
        discrimination: areas under the curves.
        one_class: a sentence where all labels are alike, or "".
        brier: mean squared difference of score and label.
        brier_scaled: 1 - Brier score / that of the prevalence as everyone's score; None where all labels are alike.
        operating_points: at the chosen specificities and sensitivities.
        confusions: at the given thresholds.
        calibration: of the scored nodules.
        bound: what failed nodules could do at worst; None where none failed.
        columns: the probabilities of the results side by side.
        roc: points (1 - specificity, sensitivity) of the curve; none where all labels are alike.
        precision_recall: points (recall, precision) of the curve; none where all labels are alike.
        histogram: edges of bins of the score, and how many negatives and positives were scored within each.
        baseline: a number known of each nodule beside the score; None where none was asked for.
    """

    discrimination: Discrimination
    one_class: str
    brier: Estimate
    brier_scaled: float | None
    operating_points: tuple[OperatingPoint, ...]
    confusions: tuple[Confusion, ...]
    calibration: Calibration
    bound: Bound | None
    columns: tuple[ScoreColumn, ...]
    roc: tuple[tuple[float, float], ...]
    precision_recall: tuple[tuple[float, float], ...]
    histogram: tuple[tuple[float, ...], tuple[int, ...], tuple[int, ...]]
    baseline: Baseline | None


@dataclass(frozen=True)
class SemanticFeature:
    """One semantic feature against its labels.

    Attributes:
        feature, value: the probability that is evaluated, column `semantic.<feature>.<value>`.
        rule: which labels are positive, as it was given.
        labels: every label there is, whether it counts as positive, and how many nodules have it.
        discrimination: zero-shot areas under the curves; None where it is not evaluated.
        reason: why it is not evaluated, or a sentence where all labels are alike, or "".
        baseline: a number known of each nodule beside the score; None where none was asked for.
    """

    feature: str
    value: str
    rule: str
    labels: tuple[tuple[str, bool, int], ...]
    discrimination: Discrimination | None
    reason: str = ""
    baseline: Baseline | None = None


@dataclass(frozen=True)
class Subgroup:
    """The malignancy of the nodules that share a value of a column.

    Attributes:
        column, source: the column, and whether it is of the "labels" or of the "results".
        group: the shared value, or the range of numbers.
        discrimination: areas under the curves.
        brier: mean squared difference of score and label, or None where none was scored.
        mean_score, prevalence: of the scored nodules; None where none was scored.
    """

    column: str
    source: str
    group: str
    discrimination: Discrimination
    brier: float | None
    mean_score: float | None
    prevalence: float | None


@dataclass(frozen=True)
class Counts:
    """Every row of both files, accounted for.

    Attributes:
        results, scored: rows of the results (of the release), and how many have a score.
        not_scored: how many have none, by "status CODE".
        other_release: rows of other releases, left out because one release was chosen.
        superseded: failed rows of nodules that another row of the chosen release has a score for, or failed again.
        warned: scored rows by warning code.
        labels: rows of the labels.
        matched: nodules in both files.
        labelled, labelled_scored: of the matched, how many have a label of malignancy, and of these a score.
        results_without_label: ids of rows of the results that no row of the labels matches.
        labels_without_result: ids of rows of the labels that no row of the results matches.
        failed_labelled: ids and code of matched nodules that have a label of malignancy and no score.
    """

    results: int
    scored: int
    not_scored: dict[str, int]
    other_release: int
    superseded: int
    warned: dict[str, int]
    labels: int
    matched: int
    labelled: int
    labelled_scored: int
    results_without_label: tuple[tuple[str, ...], ...]
    labels_without_result: tuple[tuple[str, ...], ...]
    failed_labelled: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Method:
    """How the numbers were made.

    Attributes:
        key: columns that join results and labels.
        score_column: the probability that is evaluated.
        failed: "exclude" or "worst".
        resamples, seed, confidence: of the bootstrap; patients are drawn, with all their nodules.
        fewest_of_a_class: with fewer positives or negatives there is no interval.
        calibration_bins: asked for.
    """

    key: tuple[str, ...]
    score_column: str
    failed: str
    resamples: int
    seed: int
    confidence: float
    fewest_of_a_class: int
    calibration_bins: int


@dataclass(frozen=True)
class Beside:
    """One number of this cohort beside a published one.

    Attributes:
        measure: what both numbers are.
        here: the number of this cohort.
        published: the published number.
    """

    measure: str
    here: Estimate
    published: float


@dataclass(frozen=True)
class Evaluation:
    """All of it.

    Attributes:
        results, labels: base names of the two files.
        release: id of the release that gave the scores, or "" where the results name none.
        notice: the sentence that every output of the release must carry, or "".
        cohort: name of the cohort, or "".
        beside: this cohort's numbers beside the published ones; none where the cohort has no name.
    """

    results: str
    labels: str
    release: str
    notice: str
    cohort: str
    method: Method
    counts: Counts
    malignancy: Malignancy | None
    semantic: tuple[SemanticFeature, ...]
    subgroups: tuple[Subgroup, ...]
    beside: tuple[Beside, ...]
