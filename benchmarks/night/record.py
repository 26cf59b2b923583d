"""The whole benchmark: nodules made or read, everything measured, and the record of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from noduleserve.release import Release
from noduleserve.worklist.table import read_worklist

from ..record.record import Record
from ..record.recording import Recording, release_facts
from ..rivals.yardstick import TOLERANCE
from .bench import Measured, NightOptions, measure_night
from .reading import SCANS
from .tables import OURS, SAME, plots_of, tables_of, walls_of
from .workload import COPIES, PHANTOMS, Workload, phantom_nodules

_SATURATED = 0.95


def bench_night(
    release: Release,
    options: NightOptions,
    worklist: Path | None = None,
    checkpoint: Path | None = None,
    syntax: str | None = None,
    tell: Callable[[str], None] = print,
) -> Record:
    """Measure the whole way of a night, and where its time goes.

    Args:
        release: to be served.
        options: see NightOptions.
        worklist: CSV of nodules; None: those of synthetic chests.
        checkpoint: that the release was made from; without it the straightforward method is left out.
        syntax: that the synthetic chests are compressed in, one of `syntax.SYNTAXES`; None: not.
        tell: is called with a line of progress.

    Raises:
        BenchmarkError: NIGHT_INCOMPLETE, READING_OTHER.
        NoduleserveError: of worklist, server, checkpoint.
    """
    parameters = {
        "release": release_facts(release),
        "worklist": worklist or f"phantom ({syntax or 'uncompressed'})",
        "checkpoint": checkpoint,
        "count": options.count,
        "turns": options.turns,
        "nodules_a_scan": options.nodules_a_scan,
        "transport": options.transport,
        "in_flight": options.in_flight,
        "readers": options.readers,
        "settings": str(options.settings),
        "cache": options.cache,
    }
    with Recording("night", parameters) as recording, tempfile.TemporaryDirectory(prefix="noduleserve-") as name:
        folder = Path(name)
        if worklist is None:
            scans = min(PHANTOMS * COPIES, options.count)
            nodules = phantom_nodules(folder / "ct", scans, syntax, seed=7, tell=tell)
        else:
            nodules = read_worklist(worklist)
        found = measure_night(release, nodules, options, folder, checkpoint, tell)
        instances = options.settings.encoder_instances or 1
        for table in tables_of(found, release, instances):
            recording.table(table)
        for plot in plots_of(found, instances):
            recording.plot(plot)
        for sentence in _remarks(found, options, checkpoint, instances):
            recording.remark(sentence)
    return recording.record


def _remarks(found: Measured, options: NightOptions, checkpoint: Path | None, instances: int) -> list[str]:
    """Sentences without which the figures would mislead."""
    first = next(iter(found.turns))
    readers = next(iter(found.turns[first])).night.readers
    sentences = [
        f"{OURS}: the code of `noduleserve score` on a server that is warm already: series opened, boxes read, sent, "
        f"scored, every outcome on the disk in the journal, results.csv written; the clock runs from the first series "
        f"to results.csv in its place. Read by: {readers}; at most {options.in_flight} nodules are in flight.",
        f"Bare encoder: {found.bare}.",
        f"A row counts where no fold's probability in results.csv is further than {SAME:g} from the bare encoder's and "
        f"{TOLERANCE:g} from the right one. {found.yardstick.what}",
        _cache_sentence(options, found, first),
        "'of bare encoder' is of the whole clock; 'between answers' leaves out what is before the first answer and "
        "after the last, which a longer night has as well, but only once. 'By processor time' is the bare encoder's "
        "processor seconds in those of all processes of the night: what the ratio is at most where all cores are busy, "
        "and hardly disturbed by other programs.",
        "Wall time: 'encoder idle between answers' and 'before the first answer' take the encoder's mean time for the "
        "first nodule's; 'encoder slower than alone' is what sharing cores and caches with everything else costs it, "
        "and may be below nothing where the machine changes its pace.",
    ]
    for workload, wall in walls_of(found, instances).items():
        if wall.utilisation < _SATURATED:
            sentences.append(
                f"{workload.name}: the encoder was busy for {wall.utilisation:.0%} of the wall time, so that the night "
                "was held up by something else; see the wall time's parts and the processors."
            )
    if found.reading:
        sentences.append(
            f"Reading step by step: {found.reading[0].scans} scans (at most {SCANS}), each read cold and then warm, by "
            "the functions that the reader of series is made of; the voxels were compared with the reader's."
        )
    if checkpoint is None:
        sentences.append("The straightforward method is left out: it needs --checkpoint.")
    return sentences


def _cache_sentence(options: NightOptions, found: Measured, workload: Workload) -> str:
    if options.cache == "warm":
        return "Warm: the files of all scans were in the page cache."
    scans, places = workload.scans, len(workload.places)
    seen = "it did" if all(found.gone) else "whether it did cannot be seen here" if None in found.gone else "IT DID NOT"
    again = f" {scans} scans are {places} folders under several names: read again, they come from memory."
    return (
        f"Cold: before each night the system was told to forget the files (posix_fadvise, DONTNEED); {seen}. What lies "
        "beneath, such as the cache of a virtual machine's host, cannot be emptied from here."
        + (again if places < scans else "")
    )
