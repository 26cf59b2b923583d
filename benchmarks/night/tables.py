"""What a run found, as tables and plots of its record."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from noduleserve.release import Release

from ..record.record import Cell, Goal, Line, Plot, Table
from ..rivals.yardstick import TOLERANCE, Yardstick
from .bench import Measured, Turn
from .reading import STEPS
from .stages import ENCODER, Stage, Wall, stages_of, wall_of
from .workload import Workload

OURS, BARE, STRAIGHT = "noduleserve, DICOM to results", "bare encoder", "straightforward, DICOM to score"
OF_BARE, OF_STRAIGHT = 0.95, 3.5  # goals
SAME = 1e-6  # a probability in results.csv and the bare encoder's: the same digits but for rounding
_MS = 1000.0


def tables_of(found: Measured, release: Release, instances: int) -> list[Table]:
    """Every table, the most important first.

    Args:
        found: all that was measured.
        release: that was served.
        instances: of the encoder.
    """
    tables = [
        throughput(found, instances),
        wall(found, instances),
        stages(found),
        processors(found),
        reading(found),
        starts(found),
        straightforward(found),
    ]
    return [table for table in tables if table.rows]


# ------------------------------------------------------------------------------------------------ how fast


def throughput(found: Measured, instances: int) -> Table:
    """Nodules and scans a second of every way, as a ratio to the bare encoder of the same turn."""
    with_scan = found.straightforward is not None
    columns = ["workload", "way", "scans", "nodules", "nodule_ms", "scan_ms", "nodules_per_s", "scans_per_s"]
    columns += [
        "of_bare_encoder",
        "lowest",
        "highest",
        "between_answers",
        "by_processor_time",
        "encoder_busy",
        "differs",
        "counts",
    ]
    goals = [Goal("of_bare_encoder", at_least=OF_BARE, row={"way": OURS})]
    each = (_ways(workload, turns, found.yardstick, instances) for workload, turns in found.turns.items())
    rows = [row for ways in each for row in ways]
    if with_scan:
        columns += ["times_straightforward", "times_lowest", "times_highest"]
        first = next(iter(found.turns))
        goals.append(Goal("times_straightforward", at_least=OF_STRAIGHT, row={"way": OURS, "workload": first.name}))
        times = _times(found.turns[first])
        rows = [(*row, *(times if row[:2] == (first.name, OURS) else (None,) * 3)) for row in rows]
    return Table(
        "night-throughput",
        "DICOM on disk to a row of results, against the encoder alone",
        tuple(columns),
        [_uncounted(row, columns) for row in rows],
        keys=("workload", "way"),
        better={"nodules_per_s": "higher", "of_bare_encoder": "higher"},
        goals=tuple(goals),
    )


def _ways(
    workload: Workload, turns: Sequence[Turn], yardstick: Yardstick, instances: int
) -> Iterator[tuple[Cell, ...]]:
    """A row a way, without the columns about the straightforward method."""
    names = [case.name for case in workload.cases]
    nights = [turn.night for turn in turns]
    ratios = [turn.ratio for turn in turns]
    busy = statistics.median(night.models[ENCODER].busy_s / instances / night.seconds for night in nights)
    differs = max(_differs(yardstick, names, turn.night.raw) for turn in turns)
    apart = max(float(np.abs(turn.night.raw - turn.bare).max()) for turn in turns)
    rates = _rates(workload, statistics.median(night.seconds for night in nights))
    fits = differs <= TOLERANCE and apart <= SAME
    steady = [turn.between_answers for turn in turns if turn.between_answers is not None]
    cpu = [turn.cpu_ratio for turn in turns if turn.cpu_ratio is not None]
    others = (statistics.median(values) if values else None for values in (steady, cpu))
    ratio = (statistics.median(ratios), min(ratios), max(ratios), *others)
    yield (workload.name, OURS, *rates, *ratio, busy, differs, fits)
    differs = max(_differs(yardstick, names, turn.bare) for turn in turns)
    rates = _rates(workload, statistics.median(turn.bare_s for turn in turns))
    yield (workload.name, BARE, *rates, 1.0, 1.0, 1.0, None, None, None, differs, differs <= TOLERANCE)
    if times := [turn.straightforward_s for turn in turns if turn.straightforward_s is not None]:
        each = statistics.median(times)
        ratios = [turn.bare_s / len(names) / s for turn, s in zip(turns, times, strict=True)]
        differs = max(_differs(yardstick, names, turn.straightforward) for turn in turns)
        some: tuple[Cell, ...] = (len(turns[0].straightforward),) * 2
        rates = (*some, each * _MS, each * _MS, 1 / each, 1 / each)
        ratio = (statistics.median(ratios), min(ratios), max(ratios), None, None)
        yield (workload.name, STRAIGHT, *rates, *ratio, None, differs, differs <= TOLERANCE)


def _rates(workload: Workload, seconds: float) -> tuple[Cell, ...]:
    scans, nodules = workload.scans, len(workload.nodules)
    return scans, nodules, seconds / nodules * _MS, seconds / scans * _MS, nodules / seconds, scans / seconds


def _times(turns: Sequence[Turn]) -> tuple[float, float, float]:
    """How many times the nodules a second of the straightforward method: median, lowest, highest of the turns."""
    nodules = len(turns[0].bare)
    times = [t.straightforward_s / (t.night.seconds / nodules) for t in turns if t.straightforward_s is not None]
    return statistics.median(times), min(times), max(times)


def _differs(yardstick: Yardstick, names: Sequence[str], raw: Iterable[NDArray[np.float64]]) -> float:
    return max(yardstick.difference(name, values) for name, values in zip(names, raw, strict=False))


def _uncounted(row: Sequence[Cell], columns: Sequence[str]) -> tuple[Cell, ...]:
    """A row whose scores are not right keeps no ratio."""
    if row[columns.index("counts")]:
        return tuple(row)
    hidden = {
        "of_bare_encoder",
        "lowest",
        "highest",
        "between_answers",
        "by_processor_time",
        "times_straightforward",
        "times_lowest",
        "times_highest",
    }
    return tuple(None if name in hidden else cell for name, cell in zip(columns, row, strict=True))


# ------------------------------------------------------------------------------------------------ where it went


def middle(turns: Sequence[Turn]) -> Turn:
    """The turn with the median ratio, so that figures of one turn add up."""
    return sorted(turns, key=lambda turn: turn.ratio)[len(turns) // 2]


def walls_of(found: Measured, instances: int) -> dict[Workload, Wall]:
    """Each workload's wall time, of its middle turn."""
    chosen = {workload: middle(turns) for workload, turns in found.turns.items()}
    return {workload: wall_of(turn.night, turn.bare_s, instances) for workload, turn in chosen.items()}


def wall(found: Measured, instances: int) -> Table:
    """Wall time without remainder: the encoder as fast as alone, and everything that was not hidden behind it."""
    rows: list[tuple[Cell, ...]] = []
    for workload, found_wall in walls_of(found, instances).items():
        parts = found_wall.parts() | {"all": found_wall.seconds}
        nodules = len(workload.nodules)
        rows += [(workload.name, n, s, s / nodules * _MS, s / found_wall.seconds) for n, s in parts.items()]
    return Table(
        "night-wall",
        "Wall time of the night with the median ratio, taken apart without remainder",
        ("workload", "part", "wall_s", "nodule_ms", "share"),
        rows,
        keys=("workload", "part"),
    )


def stages(found: Measured) -> Table:
    """Work and waits by stage; what runs side by side counts as often, so that they come to more than the wall."""
    rows: list[tuple[Cell, ...]] = []
    for workload, turns in found.turns.items():
        night, nodules = middle(turns).night, len(workload.nodules)
        for stage in stages_of(night):
            each = (stage.seconds, stage.seconds / nodules * _MS, stage.seconds / night.seconds)
            rows.append((workload.name, stage.name, stage.where, stage.kind, *each, stage.how))
    return Table(
        "night-stages",
        "Work and waits by stage in that night, each nodule's added up",
        ("workload", "stage", "where", "kind", "total_s", "nodule_ms", "share_of_wall", "how"),
        rows,
        keys=("workload", "stage"),
    )


def processors(found: Measured) -> Table:
    """Processor time by process: on a CPU, what the encoder did not get."""
    rows: list[tuple[Cell, ...]] = []
    for workload, turns in found.turns.items():
        night, nodules = middle(turns).night, len(workload.nodules)
        used = night.processors
        for name, seconds in sorted(used.items(), key=lambda item: -item[1]):
            rows.append((workload.name, name, seconds, seconds / nodules * _MS, seconds / sum(used.values())))
        cores = len(os.sched_getaffinity(0))
        idle = max(0.0, night.on_disk_s * cores - sum(used.values()))
        rows.append((workload.name, "idle, or other programs", idle, idle / nodules * _MS, None))
    return Table(
        "night-processors",
        "Processor time by process in that night, until the journal was on the disk",
        ("workload", "process", "cpu_s", "nodule_ms", "share_of_used"),
        rows,
        keys=("workload", "process"),
    )


def reading(found: Measured) -> Table:
    """Steps of reading one scan for one nodule, by themselves."""
    rows: list[tuple[Cell, ...]] = []
    for steps in found.reading:
        for name in STEPS:
            each = steps.seconds[name] / steps.scans * _MS
            size = steps.size / steps.scans / 1e6 if name in ("bytes", "decoding") else None
            slices = None if name in ("headers", "volume") else steps.slices / steps.scans
            rows.append((steps.cache, name, each, slices, size))
    return Table(
        "night-reading",
        "Reading one scan for one nodule, step by step in this process with nothing beside it",
        ("cache", "step", "scan_ms", "slices", "read_mb"),
        rows,
        keys=("cache", "step"),
    )


def starts(found: Measured) -> Table:
    """From the start of the command to its first answer."""
    names = {
        "check_s": "checking the release, by itself",
        "connected_s": "command to test nodule scored",
        "answered_s": "command to first answer",
        "ended_s": "command to its end, one nodule",
    }
    rows: list[tuple[Cell, ...]] = []
    for attribute, name in names.items() if found.starts else ():
        seconds = [getattr(start, attribute) for start in found.starts]
        rows.append((name, statistics.median(seconds), min(seconds), max(seconds)))
    rows.insert(1, ("starting Triton until ready, by itself", found.triton_s, None, None))
    return Table(
        "night-start",
        "`noduleserve score --release` from its start to the first answer",
        ("what", "median_s", "lowest_s", "highest_s"),
        rows,
        keys=("what",),
        better={"median_s": "lower"},
    )


def straightforward(found: Measured) -> Table:
    """Where the straightforward method spends its time."""
    turns = next(iter(found.turns.values()))
    nodules = sum(len(turn.straightforward) for turn in turns)
    seconds = found.straightforward or {}
    rows = [(name, value / nodules * _MS, value / sum(seconds.values())) for name, value in seconds.items()]
    return Table(
        "night-straightforward",
        "The straightforward method by stage, one nodule a scan",
        ("stage", "nodule_ms", "share"),
        rows,
        keys=("stage",),
    )


# ------------------------------------------------------------------------------------------------ plots


def plots_of(found: Measured, instances: int) -> list[Plot]:
    """Wall time and work of a nodule, stacked."""
    walls = walls_of(found, instances)
    first = next(iter(walls.values()))
    names = [BARE, *(workload.name for workload in walls)]
    lines: list[Line] = []
    for part in first.parts():
        each = [_drawn(wall)[part] / len(workload.nodules) for workload, wall in walls.items()]
        alone = first.encoder / len(next(iter(walls)).nodules) if not lines else 0.0
        lines.append(Line(part, names, [alone, *each]))
    works: dict[Workload, list[Stage]] = {w: stages_of(middle(turns).night) for w, turns in found.turns.items()}
    kept = [stage.name for stage in next(iter(works.values())) if stage.kind == "work"]
    bars = [
        Line(name, names[1:], [_seconds(stages, name) / len(w.nodules) for w, stages in works.items()]) for name in kept
    ]
    return [
        Plot("night-wall", "Wall time of a nodule", "", "seconds a nodule", lines, kind="stacked"),
        Plot("night-work", "Work of a nodule, side by side or not", "", "seconds a nodule", bars, kind="stacked"),
    ]


def _seconds(stages: Sequence[Stage], name: str) -> float:
    return max(0.0, next(stage.seconds for stage in stages if stage.name == name))


def _drawn(wall: Wall) -> dict[str, float]:
    """The parts as bars, none of them below nothing: an encoder faster than alone is a shorter first bar."""
    first, second, *others = wall.parts().items()
    bars = {first[0]: first[1] + min(0.0, second[1]), second[0]: second[1], **dict(others)}
    return {name: max(0.0, seconds) for name, seconds in bars.items()}
