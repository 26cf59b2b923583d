"""Fitting a beta calibration to scored nodules whose outcome is known, a fold at a time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from betacal import BetaCalibration
from numpy.typing import NDArray

from noduleserve.errors import CheckpointError

from .calibration import FILE, folds_of, rises
from .outcomes import Outcomes
from .unpickle_calibration import numbers_of

Parameters = Literal["abm", "am", "ab"]
FEWEST, FEWEST_OF_A_CLASS = 20, 5  # nodules; below, three numbers follow chance
# What a probability that a table rounds to 1 is taken for: half a step of float32 below it. A results file holds
# float32, and the logarithm of an exact 0 would outweigh every other nodule.
NEAREST_TO_ONE = 1 - 2.0**-25
# No calibration at all (a = b = 1, c = 0) is among what is fitted, so that a fit which is worse by more is none.
WORSE = 1e-3  # log loss


@dataclass(frozen=True)
class Fit:
    """One fold's calibration sigmoid(a ln p - b ln(1-p) + c), and how well it describes what it was fitted on.

    Attributes:
        a, b, c: the numbers; a and b are not negative.
        parameters: what was fitted, as betacal names it: abm all three, am with a = b, ab with c = (a - b) ln 2, so
            that 0.5 stays 0.5.
        n: nodules.
        events: nodules with cancer among them.
        log_loss: mean of -ln(probability of what came true), raw and calibrated; nats.
        brier: mean squared difference of probability and label, raw and calibrated.
    """

    a: float
    b: float
    c: float
    parameters: Parameters
    n: int
    events: int
    log_loss: tuple[float, float]
    brier: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """What fold_K/calibration.json holds: the numbers, then where they come from."""
        return {
            "kind": "beta",
            "a": self.a,
            "b": self.b,
            "c": self.c,
            "parameters": self.parameters,
            "method": f"maximum likelihood, betacal {metadata.version('betacal')}",
            "n": self.n,
            "events": self.events,
            "log_loss": dict(zip(("before", "after"), self.log_loss, strict=True)),
            "brier": dict(zip(("before", "after"), self.brier, strict=True)),
        }


def fit_folds(outcomes: Outcomes, parameters: Parameters = "abm") -> list[Fit]:
    """Fit each fold.

    Raises:
        CheckpointError: CALIBRATION_TOO_FEW (fewer than 20 nodules, or than 5 with or without cancer),
            CALIBRATION_FIT (what there is has no calibration, and why).
    """
    _require_enough(outcomes.labels)
    folds = range(len(outcomes.probabilities))
    where = [f"fold {fold}: " if len(folds) > 1 else "" for fold in folds]
    return [_fit(outcomes.probabilities[fold], outcomes.labels, parameters, where[fold]) for fold in folds]


def _require_enough(labels: NDArray[np.int64]) -> None:
    events = int(labels.sum())
    others = len(labels) - events
    if len(labels) < FEWEST or min(events, others) < FEWEST_OF_A_CLASS:
        raise CheckpointError(
            "CALIBRATION_TOO_FEW",
            f"There are {events} nodules with cancer and {others} without.",
            f"A calibration is fitted to {FEWEST} nodules or more, and to {FEWEST_OF_A_CLASS} or more of each.",
        )


def _fit(probabilities: NDArray[np.float64], labels: NDArray[np.int64], parameters: Parameters, where: str) -> Fit:
    p = inside(probabilities)
    with_cancer, without = p[labels == 1], p[labels == 0]
    if p.min() == p.max():
        raise _no_fit(where, "all probabilities are the same", "Check the column.")
    if with_cancer.min() >= without.max():
        raise _no_fit(
            where,
            "every nodule with cancer scores at least as high as any without, so that the likelihood has no maximum",
            "Use more nodules; if these are the training data, use others.",
        )
    numbers = _betacal(p, labels, parameters)
    if not rises(numbers):
        raise _no_fit(
            where,
            f"by a = {numbers['a']:.3g}, b = {numbers['b']:.3g} a higher score would not give a higher probability",
            "With other parameters there may be one."
            if parameters == "ab"
            else "Check that 1 is the label of cancer and that scores and labels are of the same nodules.",
        )
    after = calibrated(p, **numbers)
    log_loss, brier = (log_loss_of(p, labels), log_loss_of(after, labels)), (_brier(p, labels), _brier(after, labels))
    if not np.isfinite(log_loss).all() or log_loss[1] > log_loss[0] + WORSE:
        raise _no_fit(where, "the fit did not come to a maximum of the likelihood", "Use more nodules.")
    return Fit(**numbers, parameters=parameters, n=len(p), events=int(labels.sum()), log_loss=log_loss, brier=brier)


def _no_fit(where: str, why: str, mend: str) -> CheckpointError:
    return CheckpointError("CALIBRATION_FIT", f"There is no calibration: {where}{why}.", mend)


def inside(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities with those of exactly 0 and 1 moved off the ends, no further in than any other."""
    between = probabilities[(probabilities > 0) & (probabilities < 1)]
    lowest = min(1 - NEAREST_TO_ONE, between.min(initial=1.0))
    highest = max(NEAREST_TO_ONE, between.max(initial=0.0))
    return np.clip(probabilities, lowest, highest)


def _betacal(p: NDArray[np.float64], labels: NDArray[np.int64], parameters: Parameters) -> dict[str, float]:
    with warnings.catch_warnings():  # betacal turns all warnings of the process off for good
        fitted = BetaCalibration(parameters=parameters).fit(p.reshape(-1, 1), labels)
    numbers = numbers_of(fitted)
    return {key: float(numbers[key]) for key in "abc"}


def calibrated(p: NDArray[np.float64], a: float, b: float, c: float) -> NDArray[np.float64]:
    """sigmoid(a ln p - b ln(1-p) + c)."""
    return np.exp(-np.logaddexp(0, -(a * np.log(p) - b * np.log1p(-p) + c)))


def log_loss_of(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean of -ln(probability of what came true), nats."""
    return float(-np.mean(np.log(np.where(labels == 1, p, 1 - p))))


def _brier(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(np.mean((p - labels) ** 2))


def write_fits(fits: Sequence[Fit], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write fold_K/calibration.json of each fold, or one file; all of them or, where one is refused, none.

    Args:
        fits: of each fold.
        out: a checkpoint's folder with as many folds, or, for one fold, a .json file.
        overwrite: whether a file that is there may be replaced.

    Returns:
        The files written.

    Raises:
        CheckpointError: CALIBRATION_OUT (neither a checkpoint's folder nor a .json file, or it cannot be written),
            CALIBRATION_FOLDS (another number of folds), CALIBRATION_EXISTS, and what `folds_of` raises.
    """
    files = targets(len(fits), out, overwrite=overwrite)
    parts = [file.with_name(f".{file.name}.part") for file in files]
    try:
        for fit, part in zip(fits, parts, strict=True):
            part.write_text(json.dumps(fit.as_json(), indent=1) + "\n")
        for part, file in zip(parts, files, strict=True):
            part.replace(file)
    except OSError as error:
        raise CheckpointError(
            "CALIBRATION_OUT", f"{out} cannot be written ({error.strerror}).", "Check --out."
        ) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return files


def targets(folds: int, out: Path, *, overwrite: bool = False) -> list[Path]:
    """The files that `write_fits` would write; raises as it does."""
    if out.is_dir():
        there = folds_of(out)
        missing = [f"fold_{k}" for k in range(there) if not (out / f"fold_{k}").is_dir()]
        if there != folds or missing:
            what = f"has no {', '.join(missing)}" if missing else f"has {there} folds, but the scores are of {folds}"
            raise CheckpointError(
                "CALIBRATION_FOLDS",
                f"{out} {what}.",
                "Score with a release of this checkpoint, or name one fold's file, such as fold_0/calibration.json.",
            )
        files = [out / f"fold_{k}" / FILE for k in range(folds)]
    elif folds == 1 and out.suffix == ".json" and out.parent.is_dir():
        files = [out]
    else:
        kind = (
            "a checkpoint's folder" if folds > 1 else "a checkpoint's folder nor a .json file in a folder that exists"
        )
        raise CheckpointError(
            "CALIBRATION_OUT", f"{out} is {'not' if folds > 1 else 'neither'} {kind}.", "Check --out."
        )
    existing = [file for file in files if file.exists()]
    if existing and not overwrite:
        raise CheckpointError(
            "CALIBRATION_EXISTS",
            f"There is a calibration already: {', '.join(map(str, existing[:3]))}{' ...' if existing[3:] else ''}.",
            "Give --overwrite to replace it.",
        )
    return files
