"""What a journal holds: outcomes, runs, and rows that share an outcome; each to the fields of a line and back.

`docs/journal.md` specifies the fields.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.doubt import InputWarning
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import Nodule

from .key import Key

_ARRAYS = ("raw", "calibrated", "semantic", "view_attention", "embedding")
_MOST_ROWS = 10**7


def now() -> datetime:
    """The time in UTC, to the millisecond, as records keep it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True, eq=False)
class OutcomeRecord:
    """An outcome and what it is filed under; a later one of the same key stands for all earlier ones.

    Attributes:
        key: of the nodule.
        outcome: without its views, which are made anew from the CT where they are wanted.
        time: when it came, UTC, milliseconds.
    """

    kind: ClassVar[str] = "outcome"
    key: Key
    outcome: Outcome
    time: datetime = field(default_factory=now)

    def outcome_of(self, nodule: Nodule) -> Outcome:
        """The outcome as that of another row of the same key."""
        return replace(self.outcome, nodule=nodule, resumed=True)

    def fields(self, *, embedding: bool = True) -> dict[str, Any]:
        """As a line has it; without the embedding where it is not wanted (most of a record's bytes).

        Raises:
            ValueError: where the outcome holds what cannot be given back to the bit.
        """
        outcome = self.outcome
        if (outcome.score is None) == (not outcome.error_code):
            raise ValueError("an outcome has either a score or an error code")
        if outcome.score is not None and outcome.score.release != self.key.release:
            raise ValueError("a score is filed under the release that gave it")
        if outcome.nodule.nodule_id != self.key.nodule_id:
            raise ValueError("an outcome is filed under the key of its own nodule")
        if outcome.series_uid and outcome.series_uid != self.key.series_uid:
            raise ValueError("an outcome is filed under the series that it came from")
        return {
            "kind": self.kind,
            "key": self.key.text,
            "time": _text_of(self.time),
            "release": self.key.release,
            "error_code": outcome.error_code,
            "error": outcome.error,
            "nodule": _nodule_fields(outcome.nodule),
            "series": self.key.series,
            "center": list(self.key.center),
            "preprocessing": self.key.preprocessing,
            "warnings": [{"code": w.code, "what": w.what, "mend": w.mend} for w in outcome.warnings],
            "seconds": {stage: float(seconds) for stage, seconds in outcome.seconds.items()},
            "scanner": outcome.scanner,
            "score": None if outcome.score is None else _score_fields(outcome.score, embedding),
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> OutcomeRecord:
        """From the fields of a line."""
        nodule = _nodule(fields["nodule"])
        x, y, z = fields["center"]
        key = Key(fields["series"], nodule.nodule_id, (x, y, z), fields["release"], fields["preprocessing"])
        outcome = Outcome(
            nodule=nodule,
            score=None if fields["score"] is None else _score(fields["score"]),
            error_code=fields["error_code"],
            error=fields["error"],
            seconds=fields["seconds"],
            warnings=tuple(InputWarning(w["code"], w["what"], w["mend"]) for w in fields["warnings"]),
            series_uid=key.series_uid,
            scanner=fields["scanner"],
        )
        return cls(key, outcome, datetime.fromisoformat(fields["time"]))


@dataclass(frozen=True, eq=False)
class RowRecord:
    """A row of the worklist whose outcome is in the journal already: a twin of another row, or one of a run before.

    Attributes:
        key: what its outcome is filed under.
        nodule: the row.
        time: when it was met, UTC, milliseconds.
    """

    kind: ClassVar[str] = "row"
    key: Key
    nodule: Nodule
    time: datetime = field(default_factory=now)

    def fields(self) -> dict[str, Any]:
        """As a line has it."""
        return {
            "kind": self.kind,
            "key": self.key.text,
            "time": _text_of(self.time),
            "nodule": _nodule_fields(self.nodule),
        }


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The beginning of a run.

    A run with the worklist, release and preprocessing of the run before it takes that run up: rows that have an outcome
    keep it. Any other run begins with no row done.

    Attributes:
        worklist: name of the worklist's file, without its folder.
        worklist_sha256: of the worklist's rows, see `worklist_digest`.
        rows: how many rows the worklist has; as many must be there in the end.
        columns: the worklist's columns in its order.
        info: of the release that scores.
        preprocessing: version of the preprocessing.
        cut_bytes: length of a torn end that was cut off when the journal was opened for this run.
        time: UTC, milliseconds.
    """

    kind: ClassVar[str] = "run"
    worklist: str
    worklist_sha256: str
    rows: int
    columns: tuple[str, ...]
    info: ReleaseInfo
    preprocessing: str
    cut_bytes: int = 0
    time: datetime = field(default_factory=now)

    def takes_up(self, before: RunRecord) -> bool:
        """Whether the rows that the run before has done are done."""
        mine, theirs = ((r.worklist_sha256, r.info.release, r.preprocessing) for r in (self, before))
        return mine == theirs

    def fields(self) -> dict[str, Any]:
        """As a line has it."""
        return {
            "kind": self.kind,
            "time": _text_of(self.time),
            "worklist": self.worklist,
            "worklist_sha256": self.worklist_sha256,
            "rows": self.rows,
            "columns": list(self.columns),
            "release": {
                "release": self.info.release,
                "folds": self.info.folds,
                "calibrated": self.info.calibrated,
                "labels": list(self.info.labels),
                "notice": self.info.notice,
            },
            "preprocessing": self.preprocessing,
            "cut_bytes": self.cut_bytes,
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RunRecord:
        """From the fields of a line."""
        release = fields["release"]
        info = ReleaseInfo(
            release["release"], release["folds"], release["calibrated"], tuple(release["labels"]), release["notice"]
        )
        return cls(
            worklist=fields["worklist"],
            worklist_sha256=fields["worklist_sha256"],
            rows=fields["rows"],
            columns=tuple(fields["columns"]),
            info=info,
            preprocessing=fields["preprocessing"],
            cut_bytes=fields["cut_bytes"],
            time=datetime.fromisoformat(fields["time"]),
        )


Record = OutcomeRecord | RowRecord | RunRecord


def nodule_of(fields: Mapping[str, Any]) -> Nodule:
    """The worklist's row that an outcome's or a row's line was written for."""
    return _nodule(fields["nodule"])


def _text_of(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nodule_fields(nodule: Nodule) -> dict[str, Any]:
    if not 0 <= nodule.number < _MOST_ROWS:
        raise ValueError(f"a row's number must be in 0..{_MOST_ROWS - 1}")
    return {
        "number": nodule.number,
        "pid": nodule.pid,
        "nodule_id": nodule.nodule_id,
        "image_path": str(nodule.image_path),
        "series_uid": nodule.series_uid,
        "center": None if nodule.center is None else [float(millimetres) for millimetres in nodule.center],
        "problem": nodule.problem,
        "columns": nodule.columns,
    }


def _nodule(fields: Mapping[str, Any]) -> Nodule:
    center: tuple[float, float, float] | None = None
    if fields["center"] is not None:
        x, y, z = fields["center"]
        center = (float(x), float(y), float(z))
    return Nodule(
        number=fields["number"],
        columns=fields["columns"],
        pid=fields["pid"],
        nodule_id=fields["nodule_id"],
        image_path=Path(fields["image_path"]),
        center=center,
        problem=fields["problem"],
        series_uid=fields["series_uid"],
    )


def _score_fields(score: Score, embedding: bool) -> dict[str, Any]:
    if not math.isfinite(score.malignancy):
        raise ValueError("a score without a probability is no score")
    arrays = {name: getattr(score, name) for name in _ARRAYS if embedding or name != "embedding"}
    fields = {name: _array_fields(name, array) for name, array in arrays.items()}
    return {"malignancy": float(score.malignancy), "release": score.release, **fields}


def _score(fields: Mapping[str, Any]) -> Score:
    arrays = {name: _array(fields[name]) for name in _ARRAYS if name in fields}
    # No embedding is an empty one a fold: nothing that could be taken for numbers.
    arrays.setdefault("embedding", np.zeros((len(arrays["raw"]), 0), np.float32))
    return Score(malignancy=float(fields["malignancy"]), release=fields["release"], **arrays)


def _array_fields(name: str, array: NDArray[np.float32]) -> dict[str, Any]:
    if array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype}, not float32, and would not come back as it is")
    return {"shape": list(array.shape), "f4": b64encode(array.astype("<f4").tobytes()).decode("ascii")}


def _array(fields: Mapping[str, Any]) -> NDArray[np.float32]:
    flat = np.frombuffer(b64decode(fields["f4"], validate=True), "<f4")
    return flat.reshape(fields["shape"]).astype(np.float32)
