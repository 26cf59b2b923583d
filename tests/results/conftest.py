"""Outcomes with every oddity that a worklist or a release may bring, for all formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noduleserve.ct.doubt import InputWarning
from noduleserve.results.base import Head
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import Nodule

MakeOutcome = Callable[..., Outcome]
COLUMNS = ("pid", "nodule_id", "image_path", "coordX", "coordY", "coordZ", "remark, with comma")
LABELS = ("margin.smooth", "margin.not smooth", "shape.round", "shape.oval 1.5", "größe.klein")


@pytest.fixture(scope="session")
def head() -> Head:
    """Of a run of a release with three folds."""
    return Head(COLUMNS, ReleaseInfo("ns-1", 3, calibrated=True, labels=LABELS, notice="untrained demo weights"))


@pytest.fixture(scope="session")
def make_outcome() -> MakeOutcome:
    """Makes the outcome of one row; numbers are random but the same for the same row."""

    def make(
        number: int,
        *,
        error: str = "",
        calibrated: bool = True,
        labels: int = len(LABELS),
        remark: str = "",
        pid: str = "",
        warnings: tuple[str, ...] = (),
        release: str = "ns-1",
    ) -> Outcome:
        pid = pid or f"p{number}"
        center = (number + 0.1, -0.0, 1 / 3)
        columns = dict(zip(COLUMNS, (pid, "1", f"ct/{number}", *map(repr, center), remark), strict=True))
        nodule = Nodule(number, columns, pid, "1", Path("/ct") / str(number), center)
        doubts = tuple(InputWarning(code, f"{code} is so.", "Look.") for code in warnings)
        if error:
            return Outcome(nodule, error_code=error, error=f"{error}, which is bad. Mend: Do better.", warnings=doubts)
        rng = np.random.default_rng(number)
        raw, other = rng.random(3, np.float32), rng.random(3, np.float32)
        score = Score(
            malignancy=float((other if calibrated else raw).mean()),
            raw=raw,
            calibrated=other if calibrated else np.full(3, np.nan, np.float32),
            semantic=rng.random(labels, np.float32),
            embedding=rng.random((3, 4), np.float32),
            view_attention=rng.random((3, 9), np.float32),
            release=release,
        )
        return Outcome(nodule, score, warnings=doubts)

    return make


@pytest.fixture(scope="session")
def odd_outcomes(make_outcome: MakeOutcome) -> list[Outcome]:
    """A night with everything in it."""
    return [
        make_outcome(0),
        make_outcome(1, error="CENTER_OUTSIDE"),
        make_outcome(2, calibrated=False),
        make_outcome(3, remark='says "yes",\r\nthen\nno', pid="=cmd|' /C calc'!A0"),
        make_outcome(4, remark="ältere Aufnahme \u2028 肺 🫁", pid="-1+1", warnings=("SPACING_WIDE", "CENTER_IN_AIR")),
        make_outcome(6, error="SERVER_LOST", remark="\t=1;2", warnings=("SPACING_WIDE",)),
    ]
