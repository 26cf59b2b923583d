"""`noduleserve bench serving`: measure, and make the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..record.record import Record
from ..record.recording import Recording
from ..rivals.base import Case
from ..rivals.yardstick import Yardstick
from .entrants import Entrant
from .found import Found
from .measure import Watcher, run
from .options import ServingOptions
from .plots import plots_of
from .remarks import remarks_of
from .tables import tables_of


def bench_serving(
    entrants: Sequence[Entrant],
    cases: Sequence[Case],
    yardstick: Yardstick,
    options: ServingOptions,
    watcher: Watcher,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[Record, bool]:
    """Put every way under every load; call it from the main thread.

    Args:
        entrants: who takes part; one of them is ours.
        cases: nodules that are asked about, over and over.
        yardstick: their right scores.
        options: see ServingOptions.
        watcher: is told how far it is.
        parameters: more of them for the record, such as facts about the release.

    Returns:
        The record, and whether the run was broken off by Ctrl-C or SIGTERM: then of what was measured by then.

    Raises:
        NoduleserveError: this system itself cannot be started.
    """
    found = Found(yardstick, list(entrants))
    facts = {**(parameters or {}), "nodules": len(cases), **options.facts()}
    with Recording("serving", facts) as recording:
        run(entrants, cases, options, found, watcher)
        for table in tables_of(found):
            recording.table(table)
        for plot in plots_of(found):
            recording.plot(plot)
        for remark in remarks_of(found):
            recording.remark(remark)
        recording.parameter("broken_off", found.broken)
    return recording.record, found.broken
