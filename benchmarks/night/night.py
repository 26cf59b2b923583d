"""One night by the very code of `noduleserve score`, watched from outside."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.options import EngineOptions
from noduleserve.client.status import EngineStatus
from noduleserve.commands.results import render
from noduleserve.errors import BenchmarkError
from noduleserve.journal.journal import Journal
from noduleserve.night import score_night
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule

from .processes import cpu_seconds
from .triton_times import ModelTimes, look, times_between

CLIENT_STAGES = ("open", "box", "wait", "server")  # of Outcome.seconds


@dataclass(frozen=True, eq=False)
class Night:
    """A night that has gone well.

    Attributes:
        raw: each fold's probability, float64 [rows, F], as the results file has them.
        connect_s: before the clock begins: connecting, and the score of a test nodule.
        seconds: from the first series opened until the results are in their place.
        answers: when each outcome came, seconds from the beginning, in rising order.
        on_disk_s: when the last line of the journal was on the disk.
        client: sums of Outcome.seconds over the rows, by stage.
        journal: seconds of the journal, see `Journal.spent`.
        models: Triton's times, by model.
        processors: processor seconds by process, until the last line of the journal.
        readers: what read the series.
    """

    raw: NDArray[np.float64]
    connect_s: float
    seconds: float
    answers: Sequence[float]
    on_disk_s: float
    client: dict[str, float]
    journal: dict[str, float]
    models: dict[str, ModelTimes]
    processors: dict[str, float]
    readers: str

    @property
    def results_s(self) -> float:
        """Seconds that writing the results took."""
        return self.seconds - self.on_disk_s


class _Watch:
    """Clocks and counts of a night while it goes."""

    def __init__(self, address: str, triton: int | None) -> None:
        self._address, self._triton = address, triton
        self.client = dict.fromkeys(CLIENT_STAGES, 0.0)
        self.failed: Counter[str] = Counter()
        self.last = 0.0

    def connected(self, status: EngineStatus) -> None:
        """The engine has its servers; nothing has been read yet."""
        self.status, self.before, self.processors = status, look(self._address), cpu_seconds(self._triton)
        self.moment, self.began = time.time(), time.perf_counter()

    def on_disk(self, outcome: Outcome) -> None:
        """An outcome counts."""
        self.last = time.perf_counter()
        for stage in CLIENT_STAGES:
            self.client[stage] += outcome.seconds.get(stage, 0.0)
        if outcome.score is None:
            self.failed[outcome.error_code] += 1


def run_night(nodules: Sequence[Nodule], options: EngineOptions, folder: Path, triton: int | None) -> Night:
    """Score nodules into a journal, and write results.csv from it.

    Args:
        nodules: rows.
        options: of the engine, with one server.
        folder: new; for journal and results.
        triton: process id of that server, where it is on this machine.

    Raises:
        BenchmarkError: NIGHT_INCOMPLETE, a nodule was not scored, or the results lack a row.
        NoduleserveError: what `score_night` and `render` raise.
    """
    (address,) = options.servers
    watch, results = _Watch(address, triton), folder / "results.csv"
    with Journal.open(folder / "night.journal", fresh=True) as journal:
        called = time.perf_counter()
        score_night(nodules, options, journal, worklist="benchmark", progress=watch.on_disk, watch=watch.connected)
        models = times_between(watch.before, look(address))
        processors = {name: s - watch.processors.get(name, 0.0) for name, s in cpu_seconds(triton).items()}
        writing = time.perf_counter()
        render(journal, [results])
        ended = time.perf_counter()
        # Outcomes bear the time at which they came, to the millisecond.
        answers = sorted(record.time.timestamp() - watch.moment for record in journal.records())
        spent = dict(journal.spent)
    if watch.failed:
        worst = ", ".join(f"{count} x {code}" for code, count in watch.failed.most_common())
        raise BenchmarkError("NIGHT_INCOMPLETE", f"Nodules were not scored: {worst}.", "Leave them out, and run again.")
    on_disk = watch.last - watch.began
    return Night(
        raw=_raw_of(results, len(nodules)),
        connect_s=watch.began - called,
        seconds=on_disk + ended - writing,  # what the watching itself took lies in between
        answers=answers,
        on_disk_s=on_disk,
        client=watch.client,
        journal=spent,
        models=models,
        processors=processors,
        readers=watch.status.readers,
    )


def _raw_of(results: Path, rows: int) -> NDArray[np.float64]:
    """What the results file says, [rows, F]."""
    with results.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    if len(found) != rows:
        raise BenchmarkError("NIGHT_INCOMPLETE", f"The results have {len(found)} rows, not {rows}.")
    folds = [name for name in found[0] if name.removeprefix("raw_").isdigit() and name.startswith("raw_")]
    return np.array([[float(row[name]) for name in folds] for row in found])
