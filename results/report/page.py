"""The report as one HTML file that opens offline, prints, and needs no script and no network.

The page shows what worklist, answers and CT hold of nodules, nothing else: no header of a DICOM file is read here.
A number that is not there (a release without calibration answers NaN) shows as a dash.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from noduleserve import __version__
from noduleserve.errors import NoduleserveError
from noduleserve.results.outcome import Outcome, ReleaseInfo

from . import text
from .about import MEANINGS, About, StageTime
from .distribution import BINS, LARGE, LEAST, LEVELS, MODERATE, Shift, compare, histogram, quantiles
from .night import Night, gather, highest_first
from .nodules import SECONDS, Views, nodules_of
from .scanners import FEW, SHOWN
from .throughput import throughput
from .verdict import Verdict, of_run

__all__ = ["MEANINGS", "About", "Reference", "StageTime", "write_night", "write_report"]

DETAILED = 200  # sections of scored nodules in the report of a run; about 35 kB each
_FEW_SCORES = 20  # below which there is no distribution to draw
_NOT_KEPT = "The run was not asked to keep the views; these are their attention weights."


@dataclasses.dataclass(frozen=True)
class Reference:
    """A night that tonight is held against.

    Attributes:
        name: of its file.
        night: its outcomes.
    """

    name: str
    night: Night


def write_report(
    path: Path,
    outcomes: Sequence[Outcome],
    info: ReleaseInfo,
    *,
    stages: Sequence[StageTime] = (),
    title: str = "Nodule scoring report",
    worklist: str = "",
    command: str = "",
    when: datetime | None = None,
    detailed: int = DETAILED,
) -> None:
    """Write the report of a run that is in memory; an older file of that name is replaced whole or not at all.

    Args:
        path: the file to write; its folder exists.
        outcomes: what became of every nodule of the worklist, in any order.
        info: the release that was asked.
        stages: rows of the table of times, in the order to show; none: no table.
        title: heading of the page.
        worklist: name of the worklist, as it may be shown.
        command: the command line of the run, as it may be shown.
        when: when the run ended; now, if left out.
        detailed: at most so many scored nodules get a section of their own, the highest malignancy first.

    Raises:
        NoduleserveError: RESULTS_UNWRITABLE.
    """
    night = gather(((outcome, math.nan) for outcome in outcomes), detailed)
    about = About(when or datetime.now().astimezone(), title, worklist, command=command)
    views = [_NOT_KEPT if outcome.views is None else outcome.views for outcome in night.top]
    write_night(path, night, of_run(night), info, about, views, stages=stages)


def write_night(
    path: Path,
    night: Night,
    verdict: Verdict,
    info: ReleaseInfo,
    about: About,
    views: Sequence[Views],
    *,
    reference: Reference | None = None,
    stages: Sequence[StageTime] = (),
) -> None:
    """Write the report of a night; an older file of that name is replaced whole or not at all.

    Args:
        path: the file to write; its folder exists.
        night: what became of the nodules.
        verdict: whether these are all.
        info: the release that was asked.
        about: what is told beside.
        views: of each nodule of `night.top`, or why there are none.
        reference: a night to hold the scores against.
        stages: rows of the table of times; by default what the outcomes themselves say.

    Raises:
        NoduleserveError: RESULTS_UNWRITABLE.
    """
    whole = night.small is not None
    top = night.top
    listed = list(highest_first(night.small)) if night.small is not None else top
    pieces = _template().generate(
        info=info, about=about, night=night, verdict=verdict, version=__version__, whole=whole, few=FEW,
        parked=_by_count(night.parked_by), warned=_by_count(night.warned_by), reference=reference,
        nodules=nodules_of(listed, top, views, info), strangers=night.scored - night.releases[info.release],
        flow=throughput(night.times, about.when.tzinfo), groups_shown=SHOWN,
        **_score_facts(night, reference), **_stage_facts(stages or _own_stages(night), night.total),
    )  # fmt: skip
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(pieces)
        partial.replace(path)
    except OSError as error:
        raise NoduleserveError(
            "RESULTS_UNWRITABLE", f"{path.name} cannot be written ({error.strerror}).", "Check its place."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _by_count(coded: dict) -> list:
    return sorted(coded.values(), key=lambda one: (-one.count, one.code))


def _score_facts(night: Night, reference: Reference | None) -> dict[str, object]:
    """The distribution of scores, beside that of the reference where there is one."""
    tonight = night.scores
    before = reference.night.scores if reference else None
    shift: Shift | None = compare(before, tonight) if before else None
    shares = histogram(tonight.values)
    shares_before = histogram(before.values) if before is not None and before.values.size else None
    middle = quantiles(tonight.values)
    return {
        "drawn": len(tonight.values) >= _FEW_SCORES,
        "bins": [
            (k / BINS, (k + 1) / BINS, float(shares[k]), math.nan if shares_before is None else float(shares_before[k]))
            for k in range(BINS)
        ],
        "compared": shares_before is not None,
        "quantiles": list(
            zip(LEVELS, middle, quantiles(before.values) if before else [math.nan] * len(LEVELS), strict=True)
        ),
        "shift": shift,
        "finite": len(tonight.values),
        "finite_before": len(before.values) if before else 0,
        "psi": {"least": LEAST, "moderate": MODERATE, "large": LARGE},
    }


def _own_stages(night: Night) -> list[StageTime]:
    return [StageTime(SECONDS.get(name, name), seconds, "client") for name, seconds in night.stages.items()]


def _stage_facts(stages: Sequence[StageTime], nodules: int) -> dict[str, object]:
    wall = next((stage.seconds for stage in stages if stage.whole), math.nan)
    return {
        "stages": [(s, _ratio(s.seconds, nodules), _ratio(s.seconds, wall)) for s in stages],
        "longest": max((s.seconds for s in stages if math.isfinite(s.seconds)), default=0.0),
        "wall": wall,
        "rate": _ratio(nodules, wall),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("probability", "percent", "duration", "count", "units", "plural")
    environment.filters.update({name: getattr(text, name) for name in names})
    environment.tests["finite"] = math.isfinite
    return environment.get_template("report.html.j2")
