"""`noduleserve evaluate`: how good the scores of a run are, against labels."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import typer

from noduleserve.errors import EvaluationError
from noduleserve.release import Release

from .console import err, extra_missing


def evaluate(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results of `noduleserve score`.")],
    labels: Annotated[
        Path,
        typer.Option(help="CSV with pid, nodule_id and label (1 cancer within a year, 0 none), or semantic.FEATURE."),
    ],
    out: Annotated[Path | None, typer.Option(help="Also write a one-file HTML report here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers here.")] = None,
    key: Annotated[str, typer.Option(help="Columns to join by; default: pid,nodule_id, or nodule_id alone.")] = "",
    score: Annotated[
        str, typer.Option(help="Column to evaluate; default: calibrated_ensemble, or ensemble if not calibrated.")
    ] = "",
    release: Annotated[
        str, typer.Option(help="Only rows of this release: its id, or its folder (then its notice is known).")
    ] = "",
    failed: Annotated[
        Literal["exclude", "worst"],
        typer.Option(help="Failed nodules: left out, or counted as scored as wrongly as can be."),
    ] = "exclude",
    by: Annotated[str, typer.Option(help="Columns to form subgroups by, of the labels or the results.")] = "",
    bins: Annotated[
        list[str] | None, typer.Option(help="COLUMN:NUMBER,NUMBER: cut a column of --by that holds numbers.")
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            help="FEATURE=VALUE, FEATURE=VALUE:TEXT|TEXT, FEATURE=VALUE:<=NUMBER or FEATURE=VALUE:COLUMN<=NUMBER; "
            "see docs/evaluate.md."
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="Column of a number known of each nodule: its AUROC stands beside the score's.")
    ] = "",
    threshold: Annotated[str, typer.Option(help="Scores at which to count what is called.")] = "",
    specificity: Annotated[str, typer.Option(help="Specificities to report the sensitivity at.")] = "0.8,0.9,0.95",
    sensitivity: Annotated[str, typer.Option(help="Sensitivities to report the specificity at.")] = "0.9,0.95",
    calibration_bins: Annotated[int, typer.Option(min=2, max=100, help="Bins of the ECE and its plots.")] = 10,
    bootstrap: Annotated[int, typer.Option(min=0, max=100_000, help="Resamples of patients; 0: no intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    cohort: Annotated[str, typer.Option(help="Name of the cohort: sets its numbers beside the published ones.")] = "",
) -> None:
    """Hold the scores of a run against labels that somebody else gave.

    AUROC and AUPRC with intervals by bootstrap of patients, operating points, calibration, zero-shot semantic
    features, subgroups, a number such as the diameter beside the score; every row of both files is accounted for.
    Needs `noduleserve[evaluate]`.

    Examples:

        noduleserve evaluate results.csv --labels outcomes.csv --out evaluation.html --json evaluation.json

        noduleserve evaluate results.csv --labels outcomes.csv --by scanner,slice_thickness --bins slice_thickness:1.25,2.5

        noduleserve evaluate results.csv --labels readings.csv --positive "margin conspicuity=poorly defined:<=2"

        noduleserve evaluate results.csv --labels readings.csv --positive "consistency=solid:texture>=4.5"

        noduleserve evaluate results.csv --labels outcomes.csv --baseline diameter

        noduleserve evaluate results.csv --labels outcomes.csv --threshold 0.1,0.5 --failed worst --cohort "Our clinic 2025"
    """  # noqa: E501
    try:
        import matplotlib  # noqa: F401
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise extra_missing(error, "evaluate") from None
    from rich.console import Console

    from noduleserve.evaluation import evaluate as evaluation
    from noduleserve.evaluation.as_json import write_json
    from noduleserve.evaluation.page import write_page
    from noduleserve.evaluation.resampling import Resampling
    from noduleserve.evaluation.tables import read_labels, read_results
    from noduleserve.evaluation.terminal import renderable

    release_id, notices = _release(release)
    options = evaluation.Options(
        key=tuple(_names(key)),
        score=score,
        release=release_id,
        failed=failed,
        by=tuple(_names(by)),
        cuts=dict(_cuts(text) for text in bins or []),
        positive=tuple(positive or []),
        baseline=baseline.strip(),
        thresholds=_shares("--threshold", threshold),
        specificities=_shares("--specificity", specificity),
        sensitivities=_shares("--sensitivity", sensitivity),
        calibration_bins=calibration_bins,
        resampling=Resampling(bootstrap, seed),
        cohort=cohort.strip(),
    )
    with err.status("evaluating"):
        found = evaluation.evaluate(read_results(results), read_labels(labels), options, notices)
        if json_file:
            write_json(json_file, found)
        if out:
            write_page(out, found, command=shlex.join(["noduleserve", *sys.argv[1:]]))
    Console(highlight=False).print(renderable(found))
    for name, file in (("report", out), ("numbers", json_file)):
        if file:
            print(f"{name}: {file}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _shares(option: str, text: str) -> tuple[float, ...]:
    """Numbers from 0 to 1, each once, in the order given."""
    numbers = _numbers(option, text)
    if not all(0 <= number <= 1 for number in numbers):
        raise EvaluationError("EVALUATION_OPTION", f"{option} {text} is not from 0 to 1.", "Write, say, 0.9,0.95.")
    return tuple(dict.fromkeys(numbers))


def _cuts(text: str) -> tuple[str, tuple[float, ...]]:
    column, _, numbers = text.rpartition(":")
    cuts = _numbers("--bins", numbers)
    if not column.strip() or not cuts or list(cuts) != sorted(set(cuts)):
        raise EvaluationError(
            "EVALUATION_OPTION", f"--bins {text} is not COLUMN:NUMBER,NUMBER with ascending numbers.",
            "Write, say, slice_thickness:1.25,2.5.",
        )  # fmt: skip
    return column.strip(), cuts


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from noduleserve.evaluation.tables import number

    found = [number(name) for name in _names(text)]
    if None in found:
        raise EvaluationError(
            "EVALUATION_OPTION", f"{option} {text} is not a list of numbers.", "Separate numbers by commas."
        )
    return tuple(value for value in found if value is not None)


def _release(asked: str) -> tuple[str, dict[str, str]]:
    """The id of the release that was asked for, and the notices that are known."""
    demo = resources.files("noduleserve.demo").joinpath("release", "MANIFEST.json")
    notices = {}
    if demo.is_file():
        manifest = json.loads(demo.read_text(encoding="utf-8"))
        notices[manifest["release_id"]] = manifest["notice"]
    if not asked or not Path(asked).is_dir():
        return asked, notices
    opened = Release.open(Path(asked))
    return opened.id, notices | {opened.id: opened.manifest["notice"]}
