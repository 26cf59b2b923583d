"""What a person, or a machine that watches, sees of a run: a bar or lines while it goes, a few lines when it is done.

Nothing here names a patient, a nodule or a file: it may go into any log.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from noduleserve.client.run import Options, Run, score_worklist
from noduleserve.client.status import EngineStatus
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule

Log = Literal["auto", "bar", "lines", "json"]
EVERY_S = 30.0  # between two lines
_LONGEST_MEMORY = 200  # outcomes that the rate is taken over: what the run does now, not hours ago


class Tally:
    """Counts of a run, kept up by `add`.

    Attributes:
        total: nodules of the run.
        codes: error code -> nodules.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.codes = total, Counter[str]()
        self.status = EngineStatus()
        self._scored = self._warned = self._resumed = 0
        self._clock, self._began = clock, clock()
        self._recent = deque([self._began], _LONGEST_MEMORY)
        self._lock = threading.Lock()  # one thread counts, another shows

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        with self._lock:
            self._scored += outcome.score is not None
            self._warned += bool(outcome.score and outcome.warnings)
            self._resumed += outcome.resumed
            if outcome.error_code:
                self.codes[outcome.error_code] += 1
            if not outcome.resumed:  # those of an earlier run come in no time
                self._recent.append(self._clock())

    @property
    def done(self) -> int:
        """Nodules that have their outcome."""
        return self._scored + self.codes.total()

    def facts(self) -> dict[str, Any]:
        """All there is to say, as JSON has it; seconds, nodules a second."""
        with self._lock:
            return self._facts(self._clock())

    def _facts(self, now: float) -> dict[str, Any]:
        rate = (len(self._recent) - 1) / max(now - self._recent[0], 1e-9)
        status = self.status
        return {
            "seconds": round(now - self._began, 1),
            "nodules": self.total,
            "done": self.done,
            "scored": self._scored,
            "warned": self._warned,
            "resumed": self._resumed,
            "failed": dict(self.codes.most_common()),
            "series_done": status.series_done,
            "in_flight": status.in_flight,
            "retries": status.retries,
            "servers": status.servers,
            "servers_up": status.servers_up,
            "rate": round(rate, 3),
            "seconds_left": round((self.total - self.done) / rate, 1) if rate else None,
        }

    def line(self) -> str:
        """The same for a person."""
        facts = self.facts()
        parts = [f"{facts['done']} of {facts['nodules']} nodules", f"{facts['series_done']} series"]
        parts.append(f"{facts['rate']:.2f} a second")
        if facts["seconds_left"] is not None:
            parts.append(f"{_duration(facts['seconds_left'])} left")
        return ", ".join([*parts, *self._remarks(facts)])

    def remarks(self) -> str:
        """What a bar says beside its numbers."""
        facts = self.facts()
        left = "" if facts["seconds_left"] is None else f"{_duration(facts['seconds_left'])} left"
        return "  ".join([f"{facts['rate']:.2f}/s", left, f"{facts['series_done']} series", *self._remarks(facts)])

    @staticmethod
    def _remarks(facts: dict[str, Any]) -> list[str]:
        """What is wrong comes first: a narrow terminal cuts the rest off."""
        wrong = [f"{count} x {code}" for code, count in facts["failed"].items()]
        if facts["servers_up"] < facts["servers"]:
            wrong.insert(0, f"{facts['servers_up']} of {facts['servers']} servers there")
        counts = [
            f"{facts[name]} {name.replace('_', ' ')}" for name in ("in_flight", "warned", "resumed") if facts[name]
        ]
        return [*wrong, *counts, *([f"{facts['retries']} tried again"] if facts["retries"] else [])]


class _Shown:
    """Shows a tally every so often, from a thread of its own: it must go on while the run waits for a server."""

    def __init__(self, show: Callable[[str], None], every: float) -> None:
        self._show, self._every, self._ended = show, every, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Shown:
        self._show("start")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._show("end" if kind is None else "broken off")

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._show("progress")


def shown(tally: Tally, log: Log = "auto", every: float = EVERY_S) -> _Shown:
    """A block in which a run is shown on standard error.

    Args:
        tally: of the run.
        log: "bar" for a terminal; "lines" of text, none where the run is over before the first is due; "json", one
            object a line, with `event` start, progress, end or "broken off"; "auto" is bar on a terminal, else lines.
        every: seconds between two lines.
    """
    console = Console(stderr=True)
    if log == "json":
        return _Shown(lambda event: _write_json(tally, event), every)
    if log == "lines" or (log == "auto" and not console.is_terminal):
        return _Shown(lambda event: _write_line(tally, event), every)
    return _bar(tally, console)


def _bar(tally: Tally, console: Console) -> _Shown:
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TextColumn("{task.fields[remarks]}"), console=console)
    task = bar.add_task("scoring", total=tally.total, remarks="")

    def show(event: str) -> None:
        if event == "start":
            bar.start()
        bar.update(task, completed=tally.done, remarks=tally.remarks())
        if event in ("end", "broken off"):
            bar.stop()

    return _Shown(show, 0.2)


def _write_json(tally: Tally, event: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, "event": event, **tally.facts()}), file=sys.stderr, flush=True)


def _write_line(tally: Tally, event: str) -> None:
    if event == "progress":
        print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {tally.line()}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def score_with_progress(
    nodules: Sequence[Nodule],
    server: str,
    results: Path | None,
    options: Options,
) -> Run:
    """`score_worklist`, shown on standard error; see `shown` and `score_worklist`."""
    tally = Tally(len(nodules))

    def watch(status: EngineStatus) -> None:
        tally.status = status

    with shown(tally):
        return score_worklist(nodules, server, results, options, tally.add, watch)


def summary_lines(run: Run) -> list[str]:
    """How many were scored, how many failed or were warned of and why, how long it took, and the release's notice."""
    total, scored = len(run.outcomes), run.counts["scored"]
    rate = f", {total / run.seconds:.2f} nodules a second" if run.seconds > 0 else ""
    warned = sum(bool(outcome.score and outcome.warnings) for outcome in run.outcomes)
    doubt = f" ({warned} with a warning)" if warned else ""
    lines = [f"{total} nodules: {scored} scored{doubt}, {total - scored} failed, in {run.seconds:.2f} s{rate}"]
    lines += [f"  {count} x {code}" for code, count in run.counts.most_common() if code != "scored"]
    lines += [f"  {count} scored with {code}" for code, count in run.warned.most_common()]
    lines.append(f"release {run.info.release or '(no answer)'}" + (f": {run.info.notice}" if run.info.notice else ""))
    return lines
