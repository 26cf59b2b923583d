"""A number known of each nodule, such as its diameter, beside the score: how much does the score add to it?

Both are compared on exactly the nodules that have the number, and in the same resamples, so that the difference is
paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import EvaluationError

from .discrimination import auroc_of
from .figures import Baseline, Estimate
from .matching import find_column
from .resampling import Cases, Resamples, Resampling, Statistic, estimates
from .scored import Key
from .tables import Row, Table, number, quoted

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """The numbers of a column.

    Attributes:
        column: its name.
        source: "labels" or "results", whichever has it.
        known: number of each nodule that has one.
    """

    column: str
    source: str
    known: Mapping[Key, float]

    def of(self, nodules: Sequence[Key]) -> _Floats:
        """The numbers of some nodules, NaN where there is none, float64 [N]."""
        return np.array([self.known.get(ids, np.nan) for ids in nodules], np.float64)


def read_numbers(pairs: Mapping[Key, tuple[Row, Row]], results: Table, labels: Table, column: str) -> Numbers:
    """Read the column of --baseline.

    Args:
        pairs: row of the results and of the labels of every nodule.
        results, labels: where the column is looked for: in the labels first.
        column: its name.

    Raises:
        EvaluationError: BASELINE_COLUMN, BASELINE_INVALID.
    """
    found = find_column(pairs, results, labels, column)
    if found is None:
        raise EvaluationError(
            "BASELINE_COLUMN",
            f"Neither {labels.name} nor {results.name} has a column {quoted(column)}.",
            "Check --baseline.",
        )
    known = {ids: _number(found.table, row, column) for ids, row in found.rows.items() if row.cells[column]}
    return Numbers(column, found.source, known)


def _number(table: Table, row: Row, column: str) -> float:
    value = number(row.cells[column])
    if value is None:
        raise EvaluationError(
            "BASELINE_INVALID",
            f"{table.name}, line {row.line}: {column} is {quoted(row.cells[column])}, not a number.",
            "Leave the cell empty where the number is not known.",
        )
    return value


def compare(cases: Cases, numbers: _Floats, column: str, source: str, resampling: Resampling) -> Baseline:
    """Hold the number against the score.

    Args:
        cases: the nodules that the AUROC of the score is computed from.
        numbers: of each of them, NaN where there is none, float64 [N].
        column, source: where the numbers are from.
        resampling: how intervals are made.
    """
    has = np.isfinite(numbers)
    some, values = cases.only(has), numbers[has]
    descending, found = False, dict.fromkeys(("number", "score", "difference"), Estimate(None, reason=_none(some)))
    if not _none(some):
        descending = _area(some.labels, values) < 0.5
        found = _estimates(some, -values if descending else values, resampling)
    return Baseline(
        column=column,
        source=source,
        descending=descending,
        nodules=len(some),
        patients=len(np.unique(some.patients)),
        positives=some.positives,
        negatives=some.negatives,
        failed=int(some.failed.sum()),
        without=len(cases) - len(some),
        auroc=found["number"],
        score_auroc=found["score"],
        difference=found["difference"],
    )


def _none(cases: Cases) -> str:
    """Why there is no area under a curve, or ""."""
    if not len(cases):
        return "No nodule has both a score and the number."
    if cases.positives and cases.negatives:
        return ""
    kind = "positive" if cases.positives else "negative"
    return f"All {len(cases)} nodules that have the number are {kind}: no area under a curve exists."


def _area(labels: NDArray[np.int64], numbers: _Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, numbers))


def _estimates(cases: Cases, numbers: _Floats, resampling: Resampling) -> dict[str, Estimate]:
    """Both areas and their difference, where a higher number speaks for positive."""
    here, there = _area(cases.labels, cases.scores), _area(cases.labels, numbers)

    def of_number(resamples: Resamples) -> _Floats:
        return auroc_of(Resamples(numbers, resamples.labels, resamples.weights))

    statistics: dict[str, Statistic] = {
        "number": of_number,
        "score": auroc_of,
        "difference": lambda resamples: auroc_of(resamples) - of_number(resamples),
    }
    points = {"number": there, "score": here, "difference": here - there}
    return estimates(cases, points, statistics, resampling)
