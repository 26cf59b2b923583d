"""An evaluation on the terminal, as tables of rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import published, wording
from .figures import Discrimination, Evaluation, Malignancy, SemanticFeature, Subgroup
from .wording import interval, plain, threshold, with_interval

_IDS = 10  # of each kind that are listed; the file of numbers has all


def renderable(evaluation: Evaluation) -> RenderableType:
    """All of it, to be printed by rich."""
    parts: list[RenderableType] = []
    if evaluation.notice:
        parts.append(Text(f"NOTICE: {evaluation.notice}", style="bold yellow"))
    title = f"{evaluation.results} against {evaluation.labels}"
    parts.append(Text(title + (f", release {evaluation.release}" if evaluation.release else ""), style="bold"))
    parts += [_pairs("", wording.counts(evaluation.counts)), *_ids(evaluation), Text()]
    if evaluation.malignancy:
        parts += _malignancy(evaluation.malignancy, evaluation)
    if evaluation.semantic:
        parts.append(_semantic(evaluation.semantic))
    if found := wording.baselines(evaluation):
        rows = (wording.baseline_row(name, baseline) for name, baseline in found)
        column = found[0][1].column
        parts.append(_table(f"Beside the baseline {column}", wording.baseline_head(column), rows))
        parts += [*(Text(line, style="dim") for line in wording.baseline_notes(evaluation)), Text()]
    if evaluation.subgroups:
        parts.append(_subgroups(evaluation.subgroups))
        parts.append(Text(wording.SUBGROUP_NOTE.format(n=evaluation.method.fewest_of_a_class), style="dim"))
    if evaluation.beside:
        parts += _beside(evaluation)
    return Group(*parts, Text(), *(Text(line, style="dim") for line in wording.method(evaluation)))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A table of texts, none of which is taken for markup; the first `left` columns are words, the others numbers."""
    table = Table(
        title=Text(title, style="bold") if title else None, title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for place, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = _table(title, ("", ""), rows, left=2)
    table.show_header = False
    return table


def _ids(evaluation: Evaluation) -> list[Text]:
    found = evaluation.counts
    kinds = {
        "results without labels": found.results_without_label,
        "labels without results": found.labels_without_result,
        "labelled, but not scored": found.failed_labelled,
    }
    lines = []
    for name, ids in kinds.items():
        if ids:
            more = f", and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
            lines.append(Text(f"{name}: {', '.join(' '.join(i) for i in ids[:_IDS])}{more}", style="yellow"))
    return lines


def _malignancy(found: Malignancy, evaluation: Evaluation) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if found.one_class:
        parts.append(Text(found.one_class, style="bold red"))
    scaled = f"; scaled {plain(found.brier_scaled)}" if found.brier_scaled is not None else ""
    rows = [
        ("nodules", _who(found.discrimination)),
        ("AUROC", with_interval(found.discrimination.auroc)),
        ("AUPRC", f"{with_interval(found.discrimination.auprc)}; by chance {plain(_share(found.discrimination))}"),
        ("Brier score", f"{with_interval(found.brier)}{scaled}"),
    ]
    parts.append(_pairs("Cancer within a year", rows))
    if line := wording.bound(found, evaluation.method.failed):
        parts.append(Text(line, style="yellow"))
    parts += [Text(), _pairs("Calibration", wording.calibration_lines(found)), Text()]
    if found.operating_points:
        columns = ("chosen", "threshold", "sensitivity", "specificity")
        points = (
            (wording.point(p), threshold(p.threshold), with_interval(p.sensitivity), with_interval(p.specificity))
            for p in found.operating_points
        )
        parts += [_table("Operating points", columns, points)]
        parts += [Text(f"{wording.point(p)}: {p.note}", style="dim") for p in found.operating_points if p.note]
        parts.append(Text())
    if found.confusions:
        parts += [*_confusions(found), Text()]
    measures = ("column", "AUROC", "AUPRC", "Brier", "ECE")
    probabilities = (
        (c.column, plain(c.auroc), plain(c.auprc), plain(c.brier), plain(c.ece_equal_width)) for c in found.columns
    )
    parts += [_table("Every column of probabilities, without intervals", measures, probabilities)]
    return [*parts, *(Text(line, style="dim") for line in wording.reasons(found)), Text()]


def _confusions(found: Malignancy) -> list[RenderableType]:
    counts = _table(
        "At given thresholds",
        ("threshold", "TP", "FP", "TN", "FN"),
        (
            (f"{c.threshold:g}", *map(str, (c.true_positives, c.false_positives, c.true_negatives, c.false_negatives)))
            for c in found.confusions
        ),
    )
    rates = _table(
        "",
        ("threshold", "sensitivity", "specificity", "PPV", "NPV"),
        (
            (f"{c.threshold:g}", *map(with_interval, (c.sensitivity, c.specificity, c.ppv, c.npv)))
            for c in found.confusions
        ),
    )
    return [counts, rates]


def _semantic(features: Sequence[SemanticFeature]) -> RenderableType:
    rows = [
        (f.rule or f.feature, _who(f.discrimination), with_interval(f.discrimination.auroc))
        if f.discrimination
        else (f.rule or f.feature, "not evaluated", wording.DASH)
        for f in features
    ]
    table = _table("Semantic features, zero-shot", ("positive", "nodules", "AUROC"), rows, left=2)
    notes = [Text(f"{f.rule or f.feature}: {f.reason}", style="dim") for f in features if f.reason]
    return Group(table, *notes, Text())


def _subgroups(groups: Sequence[Subgroup]) -> RenderableType:
    columns = ("subgroup", "n", "patients", "pos.", "AUROC", "interval", "AUPRC", "interval", "Brier", "mean", "share")
    rows = []
    for g in groups:
        d = g.discrimination
        areas = (plain(d.auroc.value), interval(d.auroc), plain(d.auprc.value), interval(d.auprc))
        who = (str(d.nodules), str(d.patients), str(d.positives))
        rows.append((f"{g.column} {g.group}", *who, *areas, plain(g.brier), plain(g.mean_score), plain(g.prevalence)))
    return Group(_table("Subgroups (mean score, share of positives)", columns, rows))


def _beside(evaluation: Evaluation) -> list[RenderableType]:
    columns = ("", wording.here_head(evaluation), wording.published_head())
    rows = ((b.measure, with_interval(b.here), plain(b.published)) for b in evaluation.beside)
    return [
        Text(),
        _table("Beside the published numbers", columns, rows),
        Text(f"{published.NOT_COMPARABLE} {published.FEATURES_DIFFER}", style="yellow"),
    ]


def _who(found: Discrimination) -> str:
    failed = f", {found.failed} of them failed" if found.failed else ""
    return (
        f"{found.nodules} of {found.patients} patients: {found.positives} positive, {found.negatives} negative{failed}"
    )


def _share(found: Discrimination) -> float:
    return found.positives / found.nodules
