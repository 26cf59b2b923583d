"""What the journal of a soak must show: every row once, with the outcome that it was made for, and the right score."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noduleserve.journal.contents import Contents, open_for_reading
from noduleserve.journal.line import BadLine, decode, lines_of
from noduleserve.results.outcome import Score

TOLERANCE = 1e-6  # of scores: the encoder's batches differ between runs
_ARRAYS = ("raw", "calibrated", "semantic", "view_attention", "embedding")


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        what: must hold.
        found: what was found.
        good: whether it holds.
    """

    what: str
    found: str
    good: bool


@dataclass(frozen=True)
class Row:
    """What the journal has for a row of the worklist."""

    nodule_id: str
    error_code: str
    malignancy: float | None


def rows_of(journal: Path) -> dict[int, Row]:
    """The rows of the last run, by their number in the worklist."""
    with Contents.open(journal) as contents:
        return {
            record.outcome.nodule.number: Row(
                record.outcome.nodule.nodule_id,
                record.outcome.error_code,
                None if record.outcome.score is None else record.outcome.score.malignancy,
            )
            for record in contents.rows()
        }


def check_rows(rows: dict[int, Row], worklist: Sequence[dict[str, str]], planted: Sequence[str]) -> list[Check]:
    """Every row of the worklist has one outcome, and the one that it was made for."""
    lost = [number for number in range(len(worklist)) if number not in rows]
    strangers = sum(
        not (number < len(worklist) and worklist[number]["nodule_id"] == row.nodule_id) for number, row in rows.items()
    )
    wrong = sum(number in rows and rows[number].error_code != code for number, code in enumerate(planted))
    found, wanted = Counter(row.error_code for row in rows.values() if row.error_code), Counter(filter(None, planted))
    return [
        Check(
            "rows in = outcomes out",
            f"{len(worklist)} in, {len(rows)} out, {len(lost)} lost",
            not lost and not strangers,
        ),
        Check(
            "bad rows parked under their codes, the others scored",
            f"{_counted(found)}; {wrong} not as planted",
            found == wanted and not wrong,
        ),
    ]


def check_keys(journal: Path) -> Check:
    """No nodule is in the journal twice: none was scored again."""
    keys = Counter(fields["key"] for fields in _lines(journal) if fields["kind"] == "outcome")
    twice = sum(count > 1 for count in keys.values())
    return Check("no key twice in the journal", f"{keys.total()} outcomes, {len(keys)} keys, {twice} twice", not twice)


def check_results(results: Path, rows: dict[int, Row], worklist: Sequence[dict[str, str]]) -> Check:
    """The results have every row of the worklist once, in its order, as the journal has it."""
    count = differ = 0
    with results.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.DictReader(file)):
            count += 1
            differ += not (number < len(worklist) and number in rows and _same(cells, worklist[number], rows[number]))
    return Check(
        "every row of the results once, as in the journal",
        f"{count} rows, {differ} differ",
        count == len(worklist) and not differ,
    )


def _same(cells: dict[str, str], row: dict[str, str], kept: Row) -> bool:
    if any(cells[name] != cell for name, cell in row.items()) or cells["error_code"] != kept.error_code:
        return False
    shown = cells.get("calibrated_ensemble") or cells["ensemble"]
    if kept.malignancy is None:
        return not shown and cells["status"] == "failed"
    return cells["status"] == "scored" and bool(shown) and abs(float(shown) - kept.malignancy) <= TOLERANCE


def check_scores(journal: Path, fresh: Path, nodule_ids: Collection[str]) -> Check:
    """A fresh run gives a sample of nodules the scores that they have; every number of a score is compared."""
    mine, theirs = scores_of(journal, nodule_ids), scores_of(fresh, nodule_ids)
    both = mine.keys() & theirs.keys()
    largest = max((difference(mine[name], theirs[name]) for name in both), default=0.0)
    return Check(
        f"scores equal those of a fresh run (to {TOLERANCE:.0e})",
        f"{len(both)} of {len(nodule_ids)} compared, largest difference {largest:.1e}",
        len(both) == len(set(nodule_ids)) and largest <= TOLERANCE,
    )


def scores_of(journal: Path, nodule_ids: Collection[str]) -> dict[str, Score]:
    """The scores of some nodules of a journal's last run."""
    wanted = set(nodule_ids)
    with Contents.open(journal) as contents:
        outcomes = (record.outcome for record in contents.rows() if record.outcome.nodule.nodule_id in wanted)
        return {outcome.nodule.nodule_id: outcome.score for outcome in outcomes if outcome.score is not None}


def difference(one: Score, other: Score) -> float:
    """The largest difference between any numbers of two scores; infinite where they are not alike."""
    largest = abs(one.malignancy - other.malignancy)
    for name in _ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
            return float("inf")
        largest = max(largest, float(np.nanmax(np.abs(a - b), initial=0.0)))
    return largest


def _lines(journal: Path) -> Iterator[dict[str, str]]:
    """The fields of every line that holds a record; a line torn by a kill holds none."""
    descriptor = open_for_reading(journal)
    with os.fdopen(descriptor, "rb"):
        for line in lines_of(descriptor):
            try:
                fields = decode(line.data)
            except BadLine:
                if not line.last:
                    raise
                continue
            if "kind" in fields:
                yield fields


def _counted(codes: Counter[str]) -> str:
    return ", ".join(f"{count} x {code}" for code, count in sorted(codes.items())) or "none parked"
