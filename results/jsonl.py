"""JSON Lines: one object a nodule; `jsonl.schema.json` is its schema."""

from __future__ import annotations

import datetime
import json
from functools import cache
from pathlib import Path
from typing import Any

from .base import Head, Written
from .columns import ct_series_uid, iso, mean, numbers, table_columns, text_or_none, utf8
from .outcome import Outcome, ReleaseInfo, Score
from .whole_file import WholeFile


class JsonLinesWriter:
    """One JSON object a line, in ASCII: what is beyond it stands as escapes, so that no tool splits a line wrongly.

    A float32 is written as the decimal number of the float64 that equals it.
    """

    def __init__(self, target: str, head: Head, *, embedding: bool = False) -> None:
        """Name the file.

        Args:
            target: of the file.
            head: of the run.
            embedding: whether the objects have an embedding, most of an object's bytes.
        """
        self.target, self._head, self._embedding, self._rows = target, head, embedding, 0
        self._whole = WholeFile(target)

    def check(self) -> None:
        """See ResultsWriter."""
        self._whole.check()

    def begin(self) -> None:
        """See ResultsWriter."""
        table_columns(self._head)  # a worklist that CSV could not hold is refused here too
        self._file = self._whole.open()

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """See ResultsWriter."""
        fields = json_object(outcome, self._head, time, embedding=self._embedding)
        line = json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        with self._whole.writing():
            self._file.write(line.encode("ascii") + b"\n")
        self._rows += 1

    def finish(self) -> Written:
        """See ResultsWriter."""
        self._whole.commit()
        return Written(self.target, self._rows)

    def abort(self) -> None:
        """See ResultsWriter."""
        self._whole.abort()


def json_object(
    outcome: Outcome, head: Head, time: datetime.datetime | None = None, *, embedding: bool = False
) -> dict[str, Any]:
    """One outcome as a line has it; missing numbers and texts are None."""
    return {
        "worklist": {column: utf8(outcome.nodule.columns.get(column, "")) for column in head.columns},
        "status": outcome.status,
        "release": text_or_none(outcome.score.release) if outcome.score else None,
        **_score_fields(outcome.score, head.info, embedding),
        "error_code": text_or_none(outcome.error_code),
        "error": text_or_none(outcome.error),
        "warnings": [{"code": w.code, "what": utf8(w.what), "mend": utf8(w.mend)} for w in outcome.warnings],
        "ct_series_uid": ct_series_uid(outcome),
        "scanner": {keyword: utf8(value) for keyword, value in outcome.scanner.items()},
        "outcome_at": None if time is None else iso(time),
        "notice": text_or_none(head.info.notice),
    }


@cache
def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of one line."""
    return json.loads(Path(__file__).with_name("jsonl.schema.json").read_text(encoding="utf-8"))


def _score_fields(score: Score | None, info: ReleaseInfo, embedding: bool) -> dict[str, Any]:
    names = ["raw", "ensemble", "calibrated", "calibrated_ensemble", "semantic", "view_attention"]
    if score is None:
        return dict.fromkeys([*names, "embedding"] if embedding else names)
    calibrated = numbers(score.calibrated)
    fields: dict[str, Any] = {
        "raw": numbers(score.raw),
        "ensemble": mean(score.raw),
        "calibrated": None if None in calibrated else calibrated,
        "calibrated_ensemble": mean(score.calibrated),
        "semantic": _by_feature(score, info),
        "view_attention": [numbers(fold) for fold in score.view_attention],
    }
    if embedding:  # a journal may have been kept without it
        fields["embedding"] = [numbers(fold) for fold in score.embedding] if score.embedding.size else None
    return fields


def _by_feature(score: Score, info: ReleaseInfo) -> dict[str, dict[str, float | None]]:
    features: dict[str, dict[str, float | None]] = {}
    for label, probability in zip(info.labels, numbers(score.semantic), strict=True):
        feature, _, value = label.partition(".")
        features.setdefault(feature, {})[value] = probability
    return features
