"""Reads the numbers off a fitted betacal calibration; run as a script, it opens one published pickle and prints them.

`convert_calibration` runs it as a process of its own, by its path: nothing else of noduleserve is loaded beside the
pickle, so it imports nothing of noduleserve.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

PARAMETERS = ("abm", "am", "ab")  # as betacal names what it fits


def numbers_of(calibration: Any) -> dict[str, Any]:
    """The a, b, c of a fitted betacal.BetaCalibration, for sigmoid(a ln p - b ln(1-p) + c).

    betacal fits a logistic regression, on ln p and -ln(1-p) for "abm" (where one coefficient would be negative it is
    left out and stands as 0), on their sum for "am", on ln 2p and ln 2(1-p) without intercept for "ab".

    Raises:
        SystemExit: it is none.
    """
    if type(calibration).__name__ != "BetaCalibration" or calibration.parameters not in PARAMETERS:
        raise SystemExit(f"it is not a betacal.BetaCalibration with parameters {', '.join(PARAMETERS)}")
    fitted = calibration.calibrator_
    a, b = (float(number) for number in fitted.map_[:2])
    c = (a - b) * math.log(2) if calibration.parameters == "ab" else float(fitted.lr_.intercept_[0])
    return {"kind": "beta", "a": a, "b": b, "c": c}


if __name__ == "__main__":
    import joblib

    print(json.dumps(numbers_of(joblib.load(sys.argv[1]))))
