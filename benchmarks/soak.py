"""A soak: a long night on real Triton, killed from time to time, and proved from its journal to have lost nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from noduleserve.errors import NoduleserveError
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess

from .soak_figures import Kill, Soak
from .soak_proof import Check, check_keys, check_results, check_rows, check_scores, rows_of
from .soak_watch import ORPHANS, JournalTail, Watch, memory_mb, write_samples
from .soak_worklist import SoakWorklist, make_worklist, write_rows

_LOOK_S = 0.1
_STALL_S = 900.0  # without a new outcome, after which the run is given up: longer than a client waits for a server
_ORPHANS_END_S = 20.0
_KILL_FROM, _KILL_TO = 0.1, 0.8  # of the worklist: a kill is to meet a run at work
_CLIENT_KILLS_PER_SERVER_KILL = 2


@dataclass(frozen=True)
class SoakOptions:
    """What a soak is.

    Attributes:
        nodules: rows of the worklist.
        bad: share of rows that cannot be scored, 0 to 1.
        phantoms: how many different CT.
        kills: how often the client is killed; the server half as often, but once at least where the client is.
        readers: processes that read CT; None as the client decides.
        sample: scored nodules that a fresh run scores again.
        seed: of phantoms, centres, bad rows, moments of kills and sample.
    """

    nodules: int = 20_000
    bad: float = 0.01
    phantoms: int = 8
    kills: int = 0
    readers: int | None = None
    sample: int = 200
    seed: int = 1


def run_soak(
    release: Release,
    options: SoakOptions,
    folder: Path,
    tell: Callable[[str], None] = print,
    progress: Callable[[int], None] = lambda outcomes: None,
) -> Soak:
    """Make the worklist, score it, prove it.

    Call it from the main thread: the server's life hangs on the thread that starts it.

    Args:
        release: to serve.
        options: see SoakOptions.
        folder: there already, and empty; keeps the CT, worklist.csv, results.csv and its journal, samples.csv,
            soak.json, client.log and triton.log.
        tell: is called with a line of what happens.
        progress: is called with the number of outcomes on the disk, a few times a second.

    Raises:
        ServerError: no server can be started.
        NoduleserveError: SOAK_BROKEN where the client ends in a way that it must not; samples.csv is written still.
    """
    tell(f"making {options.phantoms} CT and a worklist of {options.nodules} nodules")
    worklist = make_worklist(folder, options.nodules, options.bad, options.phantoms, options.seed)
    tell("starting Triton")
    with _Server(release, folder / "triton.log") as server:
        run = _Run(worklist, options, server, folder, tell, progress)
        run.go()
        tell("proving")
        soak = run.prove()
    (folder / "soak.json").write_text(json.dumps(soak.facts(), indent=1) + "\n", encoding="utf-8")
    return soak


class _Server:
    """A Triton that can be killed and comes back at the same address; a context manager."""

    def __init__(self, release: Release, log: Path) -> None:
        self.release, self._log = release, log
        self.endpoints = Endpoints(grpc=0, http=0, metrics=0)

    def __enter__(self) -> _Server:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        # Asked to end, Triton would wait for the streams of clients that were killed.
        self._kill()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def kill(self) -> None:
        """End it as a power failure does, and start it anew."""
        self._kill()
        self._start()

    def _kill(self) -> None:
        if self._process.returncode() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._process.stop()

    def _start(self) -> None:
        self._process = TritonProcess(self.release, self.endpoints, log=self._log)
        self._process.__enter__()
        self.endpoints = self._process.endpoints


class _Run:
    """The night itself: `noduleserve score` as a process of its own, watched, killed and started again."""

    def __init__(
        self,
        worklist: SoakWorklist,
        options: SoakOptions,
        server: _Server,
        folder: Path,
        tell: Callable[[str], None],
        progress: Callable[[int], None],
    ) -> None:
        self._worklist, self._options, self._server, self._folder = worklist, options, server, folder
        self._tell, self._progress = tell, progress
        self._results = folder / "results.csv"
        self._journal = folder / "results.csv.journal"
        self._tail = JournalTail(self._journal)
        self._watch = Watch(self._tail)
        self._random = np.random.default_rng([options.seed, 1])
        self._clients: list[int] = []
        self._kills: list[Kill] = []
        self._moved = time.monotonic()  # when an outcome came last

    def go(self) -> None:
        """Return when the client has ended by itself."""
        planned, self._moved = planned_kills(self._options, self._random), time.monotonic()
        with (self._folder / "client.log").open("ab") as log, contextlib.ExitStack() as end:
            end.callback(lambda: write_samples(self._folder / "samples.csv", self._watch.samples))
            end.enter_context(self._watch)
            self._watch.server = self._server.pid
            client = self._start_client(log)
            try:
                while client.poll() is None:
                    self._look()
                    if planned and self._tail.outcomes >= max(planned[0][0], self._after_last_kill()):
                        client = self._kill(planned.pop(0)[1], client, log)
                    time.sleep(_LOOK_S)
            finally:
                client.kill()
                client.wait()
        self._look()
        if client.returncode != (3 if any(self._worklist.planted) else 0):
            raise _broken(f"The client ended with status {client.returncode}.", self._folder)

    def _look(self) -> None:
        """Count outcomes; give up where none has come for long."""
        before = self._tail.outcomes
        if self._tail.look() > before:
            self._moved = time.monotonic()
        elif self._tail.outcomes < self._options.nodules and time.monotonic() - self._moved > _STALL_S:
            raise _broken(f"No outcome came for {_STALL_S:.0f} s.", self._folder)
        self._progress(self._tail.outcomes)

    def _after_last_kill(self) -> int:
        """Outcomes that must be there before the next kill: a client that has not begun is not at work."""
        return self._kills[-1].outcomes + 1 if self._kills else 0

    def _kill(self, what: str, client: subprocess.Popen[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
        self._kills.append(Kill(what, round(self._watch.seconds, 1), self._tail.outcomes))
        self._tell(f"killing the {what} at {self._tail.outcomes} outcomes")
        if what == "server":
            self._server.kill()
            self._watch.server = self._server.pid
            return client
        client.kill()
        client.wait()
        return self._start_client(log)

    def _start_client(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        readers = () if self._options.readers is None else ("--readers", str(self._options.readers))
        client = self._score(self._worklist.path, self._results, log, *readers)
        self._clients.append(client.pid)
        self._watch.client = client.pid
        return client

    def _score(self, worklist: Path, results: Path, log: IO[bytes], *options: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "noduleserve.cli", "score", str(worklist), "--out", str(results)]
        line += ["--server", self._server.endpoints.address, "--log", "json", *options]
        # A session of its own tells its readers from all other processes, also when it is dead.
        return subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def prove(self) -> Soak:
        """Read the journal and the results, and score a sample anew."""
        rows, planted = rows_of(self._journal), self._worklist.planted
        checks = check_rows(rows, self._worklist.rows, planted)
        checks += [
            check_keys(self._journal),
            check_results(self._results, rows, self._worklist.rows),
            self._check_sample(),
            self._check_orphans(),
        ]
        if len(self._kills) < len(killed(self._options)):
            checks.append(Check("every kill met a run at work", f"{len(self._kills)} did", False))
        return Soak(
            release=self._server.release.id,
            nodules=len(planted),
            series=self._worklist.series,
            scored=sum(row.malignancy is not None for row in rows.values()),
            lost=len(planted) - len(rows),
            journal_bytes=self._journal.stat().st_size,
            samples=self._watch.samples,
            kills=self._kills,
            checks=checks,
        )

    def _check_sample(self) -> Check:
        good = [row for row, code in zip(self._worklist.rows, self._worklist.planted, strict=True) if not code]
        chosen = self._random.choice(len(good), min(self._options.sample, len(good)), replace=False)
        sample = [good[number] for number in sorted(chosen.tolist())]
        path, results = write_rows(self._folder / "sample.csv", sample), self._folder / "sample-results.csv"
        with (self._folder / "client.log").open("ab") as log:
            client = self._score(path, results, log)
            try:
                client.wait()
            finally:
                client.kill()
        journal = results.with_name(results.name + ".journal")
        if client.returncode != 0:
            raise _broken(f"The run on a sample ended with status {client.returncode}.", self._folder)
        return check_scores(self._journal, journal, [row["nodule_id"] for row in sample])

    def _check_orphans(self) -> Check:
        """Readers of a client that was killed must end by themselves."""
        end = time.monotonic() + _ORPHANS_END_S
        while left := memory_mb(0, 0, self._clients)[0].get(ORPHANS, 0.0):
            if time.monotonic() > end:
                break
            time.sleep(_LOOK_S)
        return Check("no process is left of a client", f"{left:.1f} MB held by such", not left)


def killed(options: SoakOptions) -> list[str]:
    """What a soak kills: "client" and "server", each as often as it does."""
    servers = max(1, options.kills // _CLIENT_KILLS_PER_SERVER_KILL) if options.kills else 0
    return ["client"] * options.kills + ["server"] * servers


def planned_kills(options: SoakOptions, random: np.random.Generator) -> list[tuple[int, str]]:
    """When what is killed: after so many outcomes, "client" or "server"; in their order."""
    names = killed(options)
    moments = random.uniform(_KILL_FROM, _KILL_TO, len(names)) * options.nodules
    return sorted((int(moment), name) for moment, name in zip(moments.tolist(), names, strict=True))


def _broken(what: str, folder: Path) -> NoduleserveError:
    return NoduleserveError(
        "SOAK_BROKEN", what, f"See client.log and triton.log in {folder.name} (keep it with --out)."
    )
