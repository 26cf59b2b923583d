"""What is told of a report beside its nodules: release, parity, codes, and how the page came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from noduleserve.ct.codes import SERIES_CODES, WARNING_CODES
from noduleserve.worklist.codes import WORKLIST_CODES

# What the rooms below this one may end in; a command adds the codes of its own.
MEANINGS: Mapping[str, str] = {**SERIES_CODES, **WARNING_CODES, **WORKLIST_CODES}


@dataclass(frozen=True)
class StageTime:
    """One row of the table "the time each stage took".

    Attributes:
        name: as shown, such as "nodule_encoder".
        seconds: summed over all nodules of the run; for the whole run, its wall time.
        where: "client", "server, queue", "server, compute"; free text.
        note: how the number was taken, or "".
        whole: this row is the wall time of the whole run, which the shares of the others refer to.
    """

    name: str
    seconds: float
    where: str = ""
    note: str = ""
    whole: bool = False


@dataclass(frozen=True)
class ParityLine:
    """One link of the chain from checkpoint to served graph.

    Attributes:
        name: of the link, and what it compares.
        largest: difference in probability between the two, over all folds and nodules of the proof.
        limit: what it may be.
    """

    name: str
    largest: float
    limit: float


@dataclass(frozen=True)
class Parity:
    """How far a release was from its checkpoint when it was exported.

    Attributes:
        proof: what it was measured on, in words.
        lines: of the chain.
        missed: the release was written although it missed a tolerance.
        notes: what else is to be known, one sentence each.
    """

    proof: str
    lines: tuple[ParityLine, ...]
    missed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> float:
        """Of all links."""
        return max((line.largest for line in self.lines), default=0.0)


@dataclass(frozen=True)
class About:
    """What the page says of itself and of the run.

    Attributes:
        title: heading of the page.
        worklist: name of the worklist, or "".
        results: name of the file that the page was made from, or "".
        command: the command line, or "".
        when: when the page was made.
        preprocessing: version of the preprocessing, or "" where it is not known.
        parity: of the release, or None.
        meanings: code -> what it stands for.
        alarms: what nobody may overlook, one sentence each.
        left_out: what is missing from the page, and why, one sentence each.
    """

    when: datetime
    title: str = "Nodule scoring report"
    worklist: str = ""
    results: str = ""
    command: str = ""
    preprocessing: str = ""
    parity: Parity | None = None
    meanings: Mapping[str, str] = field(default_factory=lambda: MEANINGS)
    alarms: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
