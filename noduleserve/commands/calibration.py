"""`noduleserve convert-calibration` and `fit-calibration`: a checkpoint's calibration as plain numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import err, extra_missing

if TYPE_CHECKING:
    from noduleserve.export.checkpoint.fit_calibration import Fit

_EXTRAS = "export,calibration"


def convert_calibration(
    checkpoint: Annotated[Path, typer.Argument(help="Folder with fold_0/cal_0.pkl, fold_1/cal_1.pkl, ...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the pickles are trusted.")] = False,
) -> None:
    """Turn published calibration pickles into plain numbers, fold_K/calibration.json.

    Opening a pickle can run any code that is in it: do it only with files whose origin you trust.

    Example:

        noduleserve convert-calibration checkpoints/may --yes
    """
    try:
        import joblib  # noqa: F401

        from noduleserve.export.checkpoint.calibration import convert_calibration as convert
    except ModuleNotFoundError as error:
        raise extra_missing(error, _EXTRAS) from None

    err.print("Opening a pickle can run any code that is in it.", style="yellow")
    if not yes:
        typer.confirm("Do you trust these files?", abort=True, err=True)
    for file in convert(checkpoint):
        print(f"{file}: {file.read_text().strip()}")


def fit_calibration(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            help="Columns probability and label (one fold), or raw_0, raw_1, ... and label (results of `score`).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The checkpoint's folder, or for one fold a .json file.")],
    labels: Annotated[
        Path | None, typer.Option(help="CSV with pid, nodule_id, label, where the first file has no labels.")
    ] = None,
    parameters: Annotated[
        Literal["abm", "am", "ab"],
        typer.Option(
            help="What is fitted of sigmoid(a ln p - b ln(1-p) + c): all; a = b and c; a and b with 0.5 fixed."
        ),
    ] = "abm",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace calibrations that are there.")] = False,
) -> None:
    """Fit a beta calibration to scored nodules whose outcome is known, a fold at a time.

    The label is 1 for cancer, 0 for none. The nodules must be none that the model was trained on. What is written
    takes effect with the next export of the checkpoint.

    Examples:

        noduleserve fit-calibration results.csv --labels outcomes.csv --out checkpoints/may

        noduleserve fit-calibration held_out_0.csv --out checkpoints/may/fold_0/calibration.json
    """
    try:
        from noduleserve.export.checkpoint.fit_calibration import fit_folds, targets, write_fits
        from noduleserve.export.checkpoint.outcomes import read_outcomes
    except ModuleNotFoundError as error:
        raise extra_missing(error, _EXTRAS) from None

    err.print(
        "The nodules must not be those that the model was trained on, or the calibration will make it too sure.",
        style="yellow",
    )
    outcomes = read_outcomes(scores, labels)
    targets(len(outcomes.probabilities), out, overwrite=overwrite)  # before the fit, which takes longer
    if outcomes.failed:
        err.print(f"Failed rows of {scores.name}, left out: {outcomes.failed}.", markup=False)
    if labels and outcomes.unmatched_labels:
        err.print(
            f"Labels of {labels.name} that are of no row of {scores.name}: {outcomes.unmatched_labels}.", markup=False
        )
    fits = fit_folds(outcomes, parameters)
    for file, fit in zip(write_fits(fits, out, overwrite=overwrite), fits, strict=True):
        print(f"{file}: {_line(fit)}")


def _line(fit: Fit) -> str:
    losses = f"log loss {fit.log_loss[0]:.4f} -> {fit.log_loss[1]:.4f}, Brier {fit.brier[0]:.4f} -> {fit.brier[1]:.4f}"
    numbers = f"a {fit.a:.4g}, b {fit.b:.4g}, c {fit.c:.4g}"
    return f"{numbers}; {fit.n} nodules, {fit.events} with cancer; {losses}"
