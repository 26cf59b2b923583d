"""What the tuner leaves behind: the settings as TOML, the trials as a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings

from ..record.record import Cell, Line, Plot, Table
from .duel import Duel, Load
from .search import Trial

_GOALS = {"throughput": "nodules a second", "latency": "the median latency of one nodule at a time"}


def settings_text(
    settings: ServerSettings, confirmed: Duel, load: Load, release: Release, machine: dict[str, Any]
) -> str:
    """A file for `--settings`, with what speaks for it in comments."""
    manifest, processor = release.manifest, machine["processor"]
    lines = [
        f"# For `noduleserve serve --settings`, found by `noduleserve bench tune` on {datetime.now(UTC):%Y-%m-%d}.",
        f"# Release {release.id}, target {manifest['target']}, precision {manifest['precision']}.",
        f"# Machine: {processor.get('model') or 'unknown processor'}, {processor['cores_usable']} cores.",
        f"# Goal: {load.goal}, {load.concurrency} in flight.",
        f"# {_GOALS[load.goal].capitalize()}: {confirmed.ratio:.3f} times as good as with the release's own settings "
        f"({min(confirmed.ratios):.3f} to {max(confirmed.ratios):.3f} in {len(confirmed.ratios)} turns;",
        f"# those against themselves {min(confirmed.own_ratios):.3f} to {max(confirmed.own_ratios):.3f}). "
        f"Scores differ by {confirmed.difference:.1e} at most.",
    ]
    lines += [f"{name} = {value}" for name, value in settings.chosen.items()]
    return "\n".join(lines) + "\n"


def trials_table(trials: Sequence[Trial], confirmed: Trial | None, load: Load) -> Table:
    """Everything that was tried, with what it was held against in the same turns."""
    rows: list[tuple[Cell, ...]] = []
    for trial in [*trials, *([confirmed] if confirmed else [])]:
        found = trial.duel
        own = found.own_figures if found else None
        figures = found.figures if found else None
        rows.append(
            (
                trial.stage,
                str(trial.settings),
                found.ratio if found else None,
                min(found.ratios) if found else None,
                max(found.ratios) if found else None,
                len(found.ratios) if found else None,
                figures.rate if figures else None,
                own.rate if own else None,
                _ms(figures.p50.seconds) if figures else None,
                _ms(own.p50.seconds) if own else None,
                _ms(figures.p95.seconds) if figures else None,
                _ms(own.p95.seconds) if own else None,
                trial.memory_mb,
                figures.failed if figures else None,
                found.difference if found else None,
                trial.counts,
                trial.error or None,
            )
        )
    return Table(
        "trials",
        f"Settings against the release's own, {load.goal}, {load.concurrency} in flight",
        (
            *("stage", "settings", "ratio", "ratio_lowest", "ratio_highest", "turns"),
            *("nodules_per_s", "own_nodules_per_s", "p50_ms", "own_p50_ms", "p95_ms", "own_p95_ms"),
            *("memory_mb", "errors", "score_difference", "counts", "why_not"),
        ),
        rows,
        keys=("stage", "settings"),
        better={"ratio": "higher", "nodules_per_s": "higher", "p50_ms": "lower", "p95_ms": "lower"},
    )


def trials_plot(trials: Sequence[Trial]) -> Plot | None:
    """Ratios of what counts, with the span of their turns; None where nothing does."""
    counted = [(trial, trial.duel) for trial in trials if trial.duel and trial.counts]
    if not counted:
        return None
    return Plot(
        "ratios",
        "Settings against the release's own (1 = as good)",
        "settings",
        "ratio",
        [
            Line(
                "median, lowest and highest turn",
                [str(trial.settings).replace(", ", "\n") for trial, _ in counted],
                [median(duel.ratios) for _, duel in counted],
                [min(duel.ratios) for _, duel in counted],
                [max(duel.ratios) for _, duel in counted],
            )
        ],
        kind="bars",
    )


def verdict(best: ServerSettings, confirmed: Trial | None) -> str:
    """What the tuner found, in a sentence."""
    if not best.chosen or confirmed is None:
        return "Nothing that was tried was better: the release's own settings are the best here."
    found = confirmed.duel
    if found is None or not found.counts:
        return (
            f"{best} could not be confirmed ({confirmed.error or 'errors, or other scores'}): keep the release's own."
        )
    span = f"{found.ratio:.3f} ({min(found.ratios):.3f} to {max(found.ratios):.3f}) times as good"
    own = f"the release's own against itself {min(found.own_ratios):.3f} to {max(found.own_ratios):.3f}"
    if not found.better:
        return f"{best}: {span}, {own}. That is within chance: the release's own settings are as good."
    return f"{best}: {span}, {own}."


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
