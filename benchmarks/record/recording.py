"""Keeping a run: what is put in while it goes, with the machine before and after, becomes a record."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any

from noduleserve.release import Release

from .machine import machine
from .record import Plot, Record, Table
from .strain import Strain, strain_between

_MODEL_NAME = re.compile(r"ViT-[A-Za-z]+/\d+")  # has a slash, and is no path
_BUSY = 0.5  # of the cores, above which a run is disturbed
_ENTRY = {"cli.py": "noduleserve", "__main__.py": "noduleserve"}


class Recording:
    """A run that is being recorded; a context manager.

    with Recording("encoder", {"turns": 5}) as recording:
        recording.table(...)
    show_and_keep(recording.record, out)
    """

    def __init__(self, benchmark: str, parameters: Mapping[str, Any]) -> None:
        """Name the run.

        Args:
            benchmark: as in `noduleserve bench NAME`.
            parameters: what is measured; see Record.
        """
        self._benchmark, self._parameters = benchmark, dict(parameters)
        self._tables: list[Table] = []
        self._plots: list[Plot] = []
        self._remarks: list[str] = []
        self._record: Record | None = None

    def __enter__(self) -> Recording:
        self._machine, self._before = machine(), Strain.now()
        self._moment, self._began = datetime.now(UTC), time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            return
        self._record = Record(
            benchmark=self._benchmark,
            command=command_line(sys.argv),
            began=self._moment.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self._began, 3),
            machine=self._machine | {"run": strain_between(self._before, Strain.now())},
            parameters=self._parameters,
            tables=self._tables,
            plots=self._plots,
            remarks=[*self._remarks, *self._disturbed()],
        )

    def _disturbed(self) -> list[str]:
        cores = self._machine["processor"]["cores_usable"]
        if self._before.load <= _BUSY * cores:
            return []
        return [
            f"The machine had other work when this run began (load {self._before.load:g}, cores {cores}): "
            "times are of that work too, ratios less so."
        ]

    def parameter(self, name: str, value: Any) -> None:
        """Add what was found out only while the run went."""
        self._parameters[name] = value

    def table(self, table: Table) -> None:
        """Add figures.

        Raises:
            ValueError: there is one of its name.
        """
        _require_new(table.name, [other.name for other in self._tables])
        self._tables.append(table)

    def plot(self, plot: Plot) -> None:
        """Add a picture.

        Raises:
            ValueError: there is one of its name.
        """
        _require_new(plot.name, [other.name for other in self._plots])
        self._plots.append(plot)

    def remark(self, sentence: str) -> None:
        """Add a sentence without which the figures would mislead."""
        self._remarks.append(sentence)

    @property
    def record(self) -> Record:
        """The run.

        Raises:
            RuntimeError: it has not ended well.
        """
        if self._record is None:
            raise RuntimeError("a record is there once its block has ended, and ended well")
        return self._record


def release_facts(release: Release) -> dict[str, Any]:
    """What tells a release from others, for a record's parameters: id, target, precision, folds."""
    manifest = release.manifest
    return {"id": release.id} | {name: manifest.get(name) for name in ("target", "precision", "folds")}


def command_line(argv: Sequence[str]) -> str:
    """The words of a command as a shell takes them, every path shortened to its last part."""
    first = PurePath(argv[0]).name if argv else ""
    return shlex.join([_ENTRY.get(first, first), *(_shortened(word) for word in argv[1:])])


def _shortened(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if "/" in value and not _MODEL_NAME.fullmatch(value):
        value = PurePath(value).name
    return f"{option}{equals}{value}"


def _require_new(name: str, names: list[str]) -> None:
    if name in names:
        raise ValueError(f"this run has a {name!r} already")
