"""Opens one published calibration pickle and prints its numbers; run by `convert_calibration` as its own process."""

from __future__ import annotations

import json
import sys
from typing import Any

import joblib


def numbers_of(calibration: Any) -> dict[str, Any]:
    """The a, b, c of a fitted betacal.BetaCalibration with parameters "abm".

    betacal fits a logistic regression on ln p and -ln(1-p); a and b are its coefficients, c its intercept.
    """
    if type(calibration).__name__ != "BetaCalibration" or calibration.parameters != "abm":
        raise SystemExit("it is not a betacal.BetaCalibration with parameters='abm'")
    fitted = calibration.calibrator_
    a, b = fitted.map_[:2]
    return {"kind": "beta", "a": float(a), "b": float(b), "c": float(fitted.lr_.intercept_[0])}


if __name__ == "__main__":
    print(json.dumps(numbers_of(joblib.load(sys.argv[1]))))
