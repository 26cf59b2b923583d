"""What a soak looks at while it goes: memory of every process that takes part, outcomes on the disk."""

from __future__ import annotations

import csv
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .triton_stub import model_of

_OUTCOME = b'{"kind":"outcome",'  # how the line of an outcome begins in a journal
CLIENT, READERS, SERVER, ORPHANS = "client", "readers", "tritonserver", "orphans"


@dataclass(frozen=True)
class Sample:
    """One look.

    Attributes:
        seconds: since the watch began.
        outcomes: in the journal, on the disk or on the way to it.
        journal_bytes: its size.
        mb: resident memory of each kind of process, MB (10^6 bytes), shared memory included: "client", "readers" (all
            together), "tritonserver", the process of each Python model by the model's name, and "orphans", which a
            client that was killed has left behind.
        readers: how many read.
    """

    seconds: float
    outcomes: int
    journal_bytes: int
    mb: dict[str, float]
    readers: int


class JournalTail:
    """Counts the outcomes of a journal while it grows, reading every byte once."""

    def __init__(self, path: Path) -> None:
        """Name the journal; it need not be there yet."""
        self._path, self._offset = path, 0
        self.outcomes = self.size = 0

    def look(self) -> int:
        """Outcomes so far; a line that is not whole yet counts once it is."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return self.outcomes
        whole = new[: new.rfind(b"\n") + 1]
        self.size = self._offset + len(new)
        self._offset += len(whole)
        self.outcomes += sum(line.startswith(_OUTCOME) for line in whole.splitlines())
        return self.outcomes


class Watch:
    """Takes a sample every so often, in a thread of its own, and one at the end; a context manager.

    Attributes:
        client: process id of the client, 0 for none.
        server: process id of Triton, 0 for none; it leads a session.
        tail: of the journal; whoever drives the run looks, the samples hold what it saw last.
        samples: taken so far.
    """

    def __init__(self, tail: JournalTail, every: float = 1.0) -> None:
        """Name the journal and the seconds between two samples."""
        self.client = self.server = 0
        self.tail = tail
        self.samples: list[Sample] = []
        self._clients: set[int] = set()
        self._every, self._began = every, time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.tail.look()
        self.samples.append(self._sample())

    @property
    def seconds(self) -> float:
        """Since the watch was made."""
        return time.monotonic() - self._began

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self.samples.append(self._sample())

    def _sample(self) -> Sample:
        client = self.client
        self._clients.add(client)
        mb, readers = memory_mb(client, self.server, self._clients - {client, 0})
        return Sample(round(self.seconds, 2), self.tail.outcomes, self.tail.size, mb, readers)


def memory_mb(client: int, server: int, past_clients: Iterable[int] = ()) -> tuple[dict[str, float], int]:
    """Resident memory of each kind of process, MB (see Sample.mb), and how many readers there are.

    Args:
        client: process id of a client that leads a session, 0 for none.
        server: process id of a Triton that leads a session, 0 for none.
        past_clients: of clients that have ended.
    """
    past, page = set(past_clients), os.sysconf("SC_PAGE_SIZE") / 1e6
    mb: dict[str, float] = defaultdict(float)
    readers = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rsplit(") ", 1)[1].split()
            session = int(stat[3])
            if stat[0] in "ZX" or not session or session not in {client, server, *past}:
                continue
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            size = int((folder / "statm").read_text().split()[1]) * page
        except OSError:  # it ended just now
            continue
        kind = ORPHANS if session in past else _kind(int(folder.name), client, session == server, line)
        readers += kind == READERS
        mb[kind] += size
    return {kind: round(size, 1) for kind, size in mb.items()}, readers


def _kind(pid: int, client: int, of_server: bool, line: str) -> str:
    if of_server:
        return model_of(line) or SERVER
    return CLIENT if pid == client or "resource_tracker" in line else READERS


def kinds_of(samples: Sequence[Sample]) -> list[str]:
    """Kinds of processes in the order in which a table has them."""
    seen = {kind for sample in samples for kind in sample.mb}
    first = [kind for kind in (CLIENT, READERS, SERVER) if kind in seen]
    return first + sorted(seen - {*first, ORPHANS}) + [ORPHANS] * (ORPHANS in seen)


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as CSV, one a row; a kind of process that was not there has an empty cell."""
    kinds = kinds_of(samples)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["seconds", "outcomes", "journal_bytes", "readers", *(f"{kind}_mb" for kind in kinds)])
        for s in samples:
            table.writerow([s.seconds, s.outcomes, s.journal_bytes, s.readers, *(s.mb.get(k, "") for k in kinds)])
