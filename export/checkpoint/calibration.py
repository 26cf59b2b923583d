"""Beta calibration as plain numbers: three for each fold, never a pickle.

They stand in fold_K/calibration.json: {"kind": "beta", "a": .., "b": .., "c": ..} for sigmoid(a ln p - b ln(1-p) + c),
and any further keys about where they come from. `noduleserve convert-calibration` writes these files from published
pickles, each read once in a process of its own; `noduleserve fit-calibration` fits new ones.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from noduleserve.errors import CheckpointError

from .arguments import read_args
from .model_json import FILE as MODEL_FILE
from .model_json import read_model_file

FILE = "calibration.json"
Numbers = dict[str, float]


def folds_of(folder: Path) -> int:
    """How many folds a checkpoint of any layout has, by model.json or args.txt alone: no weights are read.

    Raises:
        CheckpointError: MODEL_FILE, CHECKPOINT_NOT_FOUND (there is neither file), CHECKPOINT_ARGS, CHECKPOINT_TUNING.
    """
    if (folder / MODEL_FILE).exists():
        return read_model_file(folder).folds
    return int(read_args(folder)["n_splits"])


def read_calibration(folder: Path, folds: int) -> list[Numbers] | None:
    """The numbers a, b, c of each fold; None where no fold has any.

    Nothing but the calibrations themselves is read, so that an export can begin with it.

    Raises:
        CheckpointError: CALIBRATION_NOT_CONVERTED where there are pickles only, CALIBRATION_INCOMPLETE where some
            folds have numbers and others have not, CALIBRATION_INVALID.
    """
    files = [folder / f"fold_{k}" / FILE for k in range(folds)]
    there = [f.is_file() for f in files]
    if all(there):
        return [_numbers(file) for file in files]
    if any(there):
        missing = ", ".join(f"fold_{k}" for k, yes in enumerate(there) if not yes)
        raise CheckpointError(
            "CALIBRATION_INCOMPLETE",
            f"There is no {FILE} in {missing}, but there is in other folds.",
            "Calibrate every fold, or export with --no-calibration.",
        )
    if _pickles(folder):
        raise CheckpointError(
            "CALIBRATION_NOT_CONVERTED",
            "The checkpoint is calibrated, but only by pickles, which an export does not open.",
            f"Run `noduleserve convert-calibration {folder}` where you trust the files, or export with "
            "--no-calibration.",
        )
    return None


def convert_calibration(folder: Path) -> list[Path]:
    """Turn every fold's published pickle into numbers. This opens pickles, which can run code: only on trusted files.

    Each pickle is opened in a process of its own, which hands back three numbers and nothing else.

    Returns:
        The files written.

    Raises:
        CheckpointError: CALIBRATION_NOT_FOUND, CALIBRATION_INVALID.
    """
    pickles = _pickles(folder)
    if not pickles:
        raise CheckpointError(
            "CALIBRATION_NOT_FOUND",
            f"There is no fold_K/cal_K.pkl in {folder}.",
            "Name the checkpoint's folder.",
        )
    written = []
    for file in pickles:
        where = file.relative_to(folder).as_posix()
        # -P: modules beside the script do not shadow those that it imports
        command = [sys.executable, "-P", str(Path(__file__).with_name("unpickle_calibration.py")), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
            raise CheckpointError(
                "CALIBRATION_INVALID",
                f"{where} is not a fitted beta calibration: {reason}",
                "Install the extra noduleserve[calibration], or fit this fold's calibration again.",
            )
        _checked(done.stdout, where)
        target = file.parent / FILE
        target.write_text(done.stdout)
        written.append(target)
    return written


def _pickles(folder: Path) -> list[Path]:
    return sorted(folder.glob("fold_*/cal_*.pkl"))


def _numbers(file: Path) -> Numbers:
    return _checked(file.read_bytes(), f"{file.parent.name}/{file.name}")


def _checked(text: str | bytes, where: str) -> Numbers:
    try:
        content = json.loads(text)
        numbers = {key: float(content[key]) for key in "abc"}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _invalid(where, f"it does not hold the numbers a, b and c ({error})") from None
    if content.get("kind") != "beta" or not all(math.isfinite(v) for v in numbers.values()):
        raise _invalid(where, "it is not of the kind beta with finite numbers")
    if not rises(numbers):
        raise _invalid(where, "with a and b like these a higher raw score would not give a higher probability")
    return numbers


def rises(numbers: Numbers) -> bool:
    """Whether a higher raw score gives a higher calibrated probability."""
    return numbers["a"] >= 0 and numbers["b"] >= 0 and numbers["a"] + numbers["b"] > 0


def _invalid(where: str, why: str) -> CheckpointError:
    return CheckpointError("CALIBRATION_INVALID", f"{where}: {why}.", "Fit this fold's calibration again.")
