"""How long it takes from `noduleserve score --release` to the first answer."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noduleserve.errors import BenchmarkError
from noduleserve.journal.contents import Contents
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings
from noduleserve.worklist.table import COLUMNS, Nodule

_PATIENCE_S = 600.0
_SERIES_UID = "series_uid"


@dataclass(frozen=True)
class Startup:
    """One start; each figure but the first counts from the moment in which the process was started.

    Attributes:
        check_s: checking every byte of the release, by itself in this process.
        connected_s: until the server's test nodule was scored: release checked, Triton started, models loaded.
        answered_s: until the first answer.
        ended_s: until results.csv was written, the server ended, and the process too.
    """

    check_s: float
    connected_s: float
    answered_s: float
    ended_s: float


def start_once(release: Release, settings: ServerSettings, nodule: Nodule, folder: Path) -> Startup:
    """Score one nodule by the command, with a private server.

    Args:
        release: to be served.
        settings: of the server.
        nodule: any that can be scored.
        folder: new; for worklist, settings, journal and results.

    Raises:
        BenchmarkError: NIGHT_INCOMPLETE, it was not scored.
    """
    began = time.perf_counter()
    Release.open(release.folder)
    checked = time.perf_counter()
    folder.mkdir(parents=True)
    worklist, results = _worklist(folder, nodule), folder / "results.csv"
    words = ["score", str(worklist), "--release", str(release.folder), "--out", str(results), "--log", "lines"]
    if settings.chosen:
        text = "".join(f"{name} = {value}\n" for name, value in settings.chosen.items())
        (folder / "settings.toml").write_text(text)
        words += ["--settings", str(folder / "settings.toml")]
    connected, answered, ended = _run(words, results)
    return Startup(checked - began, connected, answered, ended)


def _run(words: Sequence[str], results: Path) -> tuple[float, float, float]:
    """Seconds from start to run record, first outcome, end; the journal's records bear the time, to the millisecond."""
    moment, began = time.time(), time.perf_counter()
    line = [sys.executable, "-m", "noduleserve.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    ended = time.perf_counter() - began
    if done.returncode != 0:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise BenchmarkError("NIGHT_INCOMPLETE", f"`noduleserve score` ended with status {done.returncode}: {last}")
    with Contents.open(results.with_name(f"{results.name}.journal")) as journal:
        assert journal.run is not None
        (record,) = journal.records()
        return journal.run.time.timestamp() - moment, record.time.timestamp() - moment, ended


def _worklist(folder: Path, nodule: Nodule) -> Path:
    assert nodule.center is not None
    names = (*COLUMNS, *((_SERIES_UID,) if nodule.series_uid else ()))
    cells = ("P", "1", str(nodule.image_path), *map(str, nodule.center))
    path = folder / "worklist.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerow((*cells, *((nodule.series_uid,) if nodule.series_uid else ())))
    return path
