"""Numbers and facts as text, alike in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping

from . import published
from .figures import Baseline, Counts, Estimate, Evaluation, Malignancy, OperatingPoint

DASH = "–"
SUBGROUP_NOTE = (
    "Differences between subgroups are no findings by themselves: groups are small, their case mix differs (AUPRC "
    "depends on the share of positives), and of several groups some differ by chance. Groups with fewer than {n} "
    "positives or negatives have no interval."
)


def plain(value: float | None, digits: int = 3) -> str:
    """A number, or a dash; one that is not 1 or 0 is never rounded to it."""
    if value is None:
        return DASH
    text, step = f"{value:.{digits}f}", 10.0**-digits
    if value < 1 and float(text) == 1:
        return f">{1 - step:.{digits}f}"
    return f"<{step:.{digits}f}" if value > 0 and float(text) == 0 else text


def threshold(value: float | None) -> str:
    """A threshold to all digits that results.csv has, since a shorter one may call other nodules."""
    return DASH if value is None else f"{value:.9g}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """The interval, or a dash."""
    if estimate.low is None or estimate.high is None:
        return DASH
    return f"{plain(estimate.low, digits)} to {plain(estimate.high, digits)}"


def with_interval(estimate: Estimate, digits: int = 3) -> str:
    """A number and its interval, as "0.901 (0.870 to 0.930)"."""
    value = plain(estimate.value, digits)
    return value if estimate.low is None else f"{value} ({interval(estimate, digits)})"


def percent(share: float) -> str:
    """A share in percent, without digits that say nothing."""
    return f"{100 * share:.4g} %"


def counts(found: Counts) -> list[tuple[str, str]]:
    """Every row of both files, as names and sentences."""
    failed = ", ".join(f"{name} {n}" for name, n in found.not_scored.items())
    warned = ", ".join(f"{name} {n}" for name, n in found.warned.items())
    without = found.results - found.scored
    rows = [
        ("results", f"{found.results} rows: {found.scored} scored, {without} not" + (f" ({failed})" if failed else "")),
        ("labels", f"{found.labels} rows"),
        ("in both", f"{found.matched} nodules; {found.labelled} with a label, {found.labelled_scored} of these scored"),
        ("results without labels", str(len(found.results_without_label))),
        ("labels without results", str(len(found.labels_without_result))),
        ("labelled, but not scored", str(len(found.failed_labelled))),
        ("scored with a warning", warned),
        ("rows of other releases", f"{found.other_release}, left out" if found.other_release else ""),
        ("failed rows superseded", f"{found.superseded}, left out" if found.superseded else ""),
    ]
    return [(name, text) for name, text in rows if text]


def method(evaluation: Evaluation) -> list[str]:
    """How the numbers were made, a sentence each."""
    how = evaluation.method
    sentences = [
        f"The score is the column {how.score_column}; a nodule is called where its score is at or above a threshold.",
        f"Results and labels are joined by {' and '.join(how.key)}.",
        "Nodules that failed are left out of every number."
        if how.failed == "exclude"
        else "Nodules that failed count as scored as wrongly as can be, in every number but those of calibration.",
        "AUPRC is average precision.",
    ]
    if how.resamples:
        sentences.append(
            f"Intervals hold {percent(how.confidence)} of {how.resamples} bootstrap resamples of patients, each with "
            f"all nodules of theirs (seed {how.seed}); there is none with fewer than {how.fewest_of_a_class} positives "
            "or negatives."
        )
    else:
        sentences.append("No resampling was asked for: there are no intervals.")
    return sentences


def point(found: OperatingPoint) -> str:
    """What was chosen, as "specificity at least 0.95"."""
    return f"{found.chosen} at least {found.target:g}"


def reasons(malignancy: Malignancy) -> list[str]:
    """Why numbers or intervals of the malignancy are missing, each sentence once."""
    here = malignancy.discrimination
    estimates = {
        "AUROC": here.auroc,
        "AUPRC": here.auprc,
        "Brier score": malignancy.brier,
        "calibration intercept": malignancy.calibration.intercept,
        "calibration slope": malignancy.calibration.slope,
    }
    for p in malignancy.operating_points:
        name = "sensitivity" if p.chosen == "specificity" else "specificity"
        estimates[f"{name} at {point(p)}"] = p.sensitivity if p.chosen == "specificity" else p.specificity
    for c in malignancy.confusions:
        rates = {"sensitivity": c.sensitivity, "specificity": c.specificity, "PPV": c.ppv, "NPV": c.npv}
        estimates |= {f"{name} at the threshold {c.threshold:g}": rate for name, rate in rates.items()}
    return _by_reason({name: e for name, e in estimates.items() if e.reason != malignancy.one_class})


def _by_reason(estimates: Mapping[str, Estimate]) -> list[str]:
    """The reasons that estimates give, each with the names of all that give it."""
    by_reason: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate.reason:
            by_reason.setdefault(estimate.reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def baselines(evaluation: Evaluation) -> list[tuple[str, Baseline]]:
    """Every comparison with the baseline, with what is told apart; none where no baseline was asked for."""
    found = [("cancer within a year", evaluation.malignancy.baseline)] if evaluation.malignancy else []
    found += [(feature.rule, feature.baseline) for feature in evaluation.semantic]
    return [(name, baseline) for name, baseline in found if baseline]


def baseline_head(column: str) -> tuple[str, ...]:
    """Column heads of the comparison with the baseline."""
    without = f"without {column}"
    return ("", "nodules", "pos.", without, "AUROC, score", f"AUROC, {column}", "score - " + column, "speaks for it")


def baseline_row(name: str, found: Baseline) -> tuple[str, ...]:
    """One comparison with the baseline as texts, one for each head."""
    nodules = f"{found.nodules} ({found.failed} failed)" if found.failed else str(found.nodules)
    way = DASH if found.auroc.value is None else "smaller" if found.descending else "larger"
    areas = (with_interval(e) for e in (found.score_auroc, found.auroc, found.difference))
    return (name, nodules, str(found.positives), str(found.without), *areas, way)


def baseline_notes(evaluation: Evaluation) -> list[str]:
    """What is to be known of the comparisons with the baseline, and why numbers of them are missing."""
    found = baselines(evaluation)
    column, source = found[0][1].column, found[0][1].source
    notes = [
        f"{column} is a column of the {source}. Score and {column} are compared on the nodules that have it, in the "
        "same resamples. It is taken the way round that gives it the larger AUROC on all of these nodules, which "
        "favors it."
    ]
    if any(baseline.failed for _, baseline in found):
        notes.append(f"Failed nodules count as scored as wrongly as can be; their {column} is what it is.")
    for name, baseline in found:
        estimates = {"score": baseline.score_auroc, column: baseline.auroc, "difference": baseline.difference}
        notes += [f"{name}, {line}" for line in _by_reason(estimates)]
    return notes


def bound(malignancy: Malignancy, failed: str) -> str:
    """What the failed nodules could do at worst, or ""."""
    found = malignancy.bound
    if found is None:
        return ""
    who = f"{found.failed_positives} positive and {found.failed_negatives} negative nodules with a label failed."
    if failed == "worst":
        return f"{who} They count as scored as wrongly as can be."
    return (
        f"{who} Had they been scored as wrongly as can be: AUROC {plain(found.auroc)}, AUPRC {plain(found.auprc)}, "
        f"Brier score {plain(found.brier)}."
    )


def calibration_lines(malignancy: Malignancy) -> list[tuple[str, str]]:
    """Calibration as names and numbers."""
    found = malignancy.calibration
    lines = [
        ("mean score, share of positives", f"{plain(found.mean_score)}, {plain(found.prevalence)}"),
        ("intercept (0 is right)", with_interval(found.intercept)),
        ("slope (1 is right)", with_interval(found.slope)),
    ]
    for b in found.binnings:
        mean, most = b.ece_if_calibrated
        filled = sum(1 for k in b.bins if k.nodules)
        lines.append(
            (
                f"ECE, {len(b.bins)} bins of {b.kind}, {filled} filled",
                f"{plain(b.ece)} (flawless calibration would show {plain(mean)}, in 95 % of cases below {plain(most)})",
            )
        )
    if found.clipped:
        lines.append(("scores too near to 0 or 1 for a logit", f"{found.clipped}, moved by at most 0.000001"))
    return lines


def here_head(evaluation: Evaluation) -> str:
    """Column head of this cohort's numbers."""
    nodules = ""
    if evaluation.malignancy:
        found = evaluation.malignancy.discrimination
        nodules = f", {found.nodules} nodules of {found.patients} patients"
    release = f", release {evaluation.release}" if evaluation.release else ""
    return f"{evaluation.cohort}{nodules}{release}"


def published_head() -> str:
    """Column head of the published numbers."""
    return f"{published.COHORT}, {published.SOURCE}"
