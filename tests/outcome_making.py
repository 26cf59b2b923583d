"""Outcomes that tests make up: every number follows from the row's number, so that another process makes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noduleserve.ct.doubt import InputWarning
from noduleserve.journal.key import Key, key_of
from noduleserve.journal.record import OutcomeRecord, RunRecord
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import Nodule

RELEASE = "ns-1"
INFO = ReleaseInfo(RELEASE, folds=2, calibrated=False, labels=("margin.smooth", "margin.rough"), notice="made up")


def nodule(number: int, *, image: str = "/ct/a", problem: str = "") -> Nodule:
    center = (number / 3, -1e-7 * number, 12.5)
    columns = {
        "pid": f"p{number}",
        "nodule_id": str(number),
        "image_path": image,
        **dict(zip(("coordX", "coordY", "coordZ"), map(repr, center), strict=True)),
        "remark, with comma": f'says "{number}",\nand ünd 肺',
    }
    return Nodule(number, columns, f"p{number}", str(number), Path(image), None if problem else center, problem)


def score(number: int, release: str = RELEASE, *, folds: int = 2, width: int = 256) -> Score:
    random = np.random.default_rng(number)
    raw = random.random(folds, np.float32)
    return Score(
        malignancy=float(raw.mean()),
        raw=raw,
        calibrated=np.full(folds, np.nan, np.float32),
        semantic=random.random(2, np.float32),
        embedding=random.standard_normal((folds, width), np.float32),
        view_attention=random.random((folds, 9), np.float32),
        release=release,
    )


def key(number: int, release: str = RELEASE) -> Key:
    return key_of(nodule(number), release, "1", series_uid=f"1.2.{number}")


def scored(number: int, release: str = RELEASE) -> OutcomeRecord:
    filed = key(number, release)
    outcome = Outcome(
        nodule(number),
        score(number, release),
        seconds={"box": number / 7, "server": 0.25},
        warnings=(InputWarning("SPACING_WIDE", "Voxels are far apart.", "Look."),) if number % 2 else (),
        series_uid=filed.series_uid,
        scanner={"Manufacturer": "Made up"},
    )
    return OutcomeRecord(filed, outcome)


def parked(number: int, code: str = "CENTER_OUTSIDE") -> OutcomeRecord:
    filed = key(number)
    sentence = f"{code}. Mend: Do better."
    outcome = Outcome(nodule(number), error_code=code, error=sentence, series_uid=filed.series_uid)
    return OutcomeRecord(filed, outcome)


def run(rows: int, *, digest: str = "0" * 64, release: str = RELEASE) -> RunRecord:
    info = ReleaseInfo(release, INFO.folds, INFO.calibrated, INFO.labels, INFO.notice)
    return RunRecord("tonight.csv", digest, rows, tuple(nodule(0).columns), info, "1")


def bits(values: Score) -> list[object]:
    """All that a score holds, floats as their bits, so that NaN equals itself."""
    arrays = (values.raw, values.calibrated, values.semantic, values.embedding, values.view_attention)
    return [values.release, values.malignancy.hex(), *((a.dtype.str, a.shape, a.tobytes()) for a in arrays)]


def content(record: OutcomeRecord | None) -> list[object]:
    """All that a record holds but its time, and whether it was resumed, to be compared."""
    assert record is not None
    outcome = record.outcome
    numbers = None if outcome.score is None else bits(outcome.score)
    rest = (outcome.error_code, outcome.error, outcome.seconds, outcome.warnings, outcome.series_uid, outcome.scanner)
    return [record.key, outcome.nodule, list(outcome.nodule.columns), *rest, numbers]
