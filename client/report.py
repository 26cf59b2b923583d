"""The report of a scoring run: one HTML file that opens offline, prints, and needs no script and no network.

The page shows what the worklist and the answers hold, nothing else: no header of a DICOM file is read here.
A number that is not there (a release without calibration answers NaN) shows as a dash.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image

from noduleserve.worklist.table import COLUMNS

from ..preprocessing.views import VIEW_NAMES
from .results import Outcome, ReleaseInfo, Score

DETAILED = 200  # sections of scored nodules; about 35 kB each
SUMMARY_COLUMNS = 6  # further worklist columns that fit beside the numbers
SUMMARY_FEATURES = 5  # semantic features that fit there; a nodule's section has them all
_DASH = "–"
_MALIGNANCY_DIGITS = 3
# What "open", "box" and "server" of Outcome.seconds are called on the page.
_SECONDS = {"open": "open series", "box": "read box", "server": "server, send to answer"}
# Where each axis of the cube (z, y, x) leads: letters of its low and of its high end.
_ENDS = (("I", "S"), ("A", "P"), ("R", "L"))
_ORTHOGONAL = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis each looks along
_TURNED = re.compile(r"r(\d)(\d)\[(.+),(.+),(.+)\]")
_Grouping = list[tuple[str, list[tuple[int, str]]]]  # feature -> its values with their places in SEMANTIC
_Features = list[tuple[str, list[tuple[str, float]]]]  # feature -> its values with their probabilities
_WORDS = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}


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
class ViewFacts:
    """How a view is called and which way it lies, as the page shows it.

    Attributes:
        name: in plain words.
        technical: its name in VIEW_NAMES.
        flip: shown upside down against its array, so that the head is up.
        top, bottom, left, right: letters of the patient's directions at the edges as shown.
    """

    name: str
    technical: str
    flip: bool
    top: str
    bottom: str
    left: str
    right: str

    @property
    def orientation(self) -> str:
        """The edges in words, for those who cannot see the letters."""
        edges = (("top", self.top), ("bottom", self.bottom), ("left", self.left), ("right", self.right))
        return ", ".join(f"{edge}: {'-'.join(_WORDS[way] for way in ways)}" for edge, ways in edges)


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
    """Write the report of a run as one HTML file; an older file of that name is replaced whole or not at all.

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
    """
    when = when or datetime.now().astimezone()
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            pieces = _template().generate(
                title=title, worklist=worklist, command=command, when=when, info=info,
                **_run_facts(outcomes, info, detailed), **_stage_facts(stages, len(outcomes)),
            )  # fmt: skip
            file.writelines(pieces)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# --- what the template is given -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A nodule of the summary table."""

    outcome: Outcome
    further: list[str]
    anchor: str  # id of its section or of its row among the failed, "" where it has neither
    calibrated: bool
    folds: list[float]  # what the spread is taken over
    tops: list[tuple[str, float] | None]  # of each feature its likeliest value

    @property
    def low(self) -> float:
        return min(self.folds, default=math.nan)

    @property
    def high(self) -> float:
        return max(self.folds, default=math.nan)


@dataclass(frozen=True)
class _Section:
    """A scored nodule's own section."""

    row: _Row
    score: Score
    given: list[tuple[str, str]]  # what the worklist says of it
    pictures: list[tuple[ViewFacts, str, float]]  # facts, PNG as data URI or "", attention
    features: _Features
    times: list[tuple[str, float]]


@dataclass(frozen=True)
class _Failure:
    """A nodule without a score."""

    row: _Row
    code: str
    what: str
    mend: str
    times: list[tuple[str, float]]


def _run_facts(outcomes: Sequence[Outcome], info: ReleaseInfo, detailed: int) -> dict[str, object]:
    """Everything about nodules; sections are made as the page is written, so pictures never pile up."""
    scored = sorted((o for o in outcomes if o.score is not None), key=_highest_first)
    failed = sorted((o for o in outcomes if o.score is None), key=lambda o: o.nodule.number)
    further = list(dict.fromkeys(name for o in outcomes for name in o.nodule.columns if name not in COLUMNS))
    features = _grouped(info.labels)
    shown = scored[: max(detailed, 0)]
    linked = {id(o) for o in (*shown, *failed)}
    rows = {id(o): _row(o, info, further[:SUMMARY_COLUMNS], features, id(o) in linked) for o in outcomes}
    return {
        "total": len(outcomes),
        "scored": len(scored),
        "failed": len(failed),
        "sections_shown": len(shown),
        "further": further[:SUMMARY_COLUMNS],
        "further_hidden": len(further[SUMMARY_COLUMNS:]),
        "features": [name for name, _ in features[:SUMMARY_FEATURES]],
        "features_hidden": len(features[SUMMARY_FEATURES:]),
        "rows": [rows[id(o)] for o in (*scored, *failed)],
        "failure_codes": Counter(o.error_code for o in failed).most_common(),
        "failures": [_failure(o, rows[id(o)]) for o in failed],
        "strangers": sum(o.score is not None and o.score.release != info.release for o in outcomes),
        "attention_full": _attention_scale(shown),
        "sections": (_section(o, rows[id(o)], features) for o in shown),
    }


def _highest_first(outcome: Outcome) -> tuple[float, int]:
    value = outcome.score.malignancy if outcome.score else math.nan
    return (-value if math.isfinite(value) else math.inf, outcome.nodule.number)


def _grouped(labels: Sequence[str]) -> _Grouping:
    groups: dict[str, list[tuple[int, str]]] = {}
    for place, label in enumerate(labels):
        feature, dot, value = label.partition(".")
        groups.setdefault(feature, []).append((place, value if dot else feature))
    return list(groups.items())


def _row(outcome: Outcome, info: ReleaseInfo, further: Iterable[str], features: _Grouping, linked: bool) -> _Row:
    score, columns = outcome.score, outcome.nodule.columns
    calibrated = score is not None and info.calibrated and bool(np.isfinite(score.calibrated).all())
    folds: list[float] = []
    if score is not None:
        used = score.calibrated if calibrated else score.raw
        folds = [float(value) for value in used if np.isfinite(value)]
    return _Row(
        outcome=outcome,
        further=[columns.get(name, "") for name in further],
        anchor=f"nodule-{outcome.nodule.number}" if linked else "",
        calibrated=calibrated,
        folds=folds,
        tops=[_likeliest(values) for _, values in _probabilities(score, features)],
    )


def _likeliest(values: list[tuple[str, float]]) -> tuple[str, float] | None:
    return max((pair for pair in values if math.isfinite(pair[1])), key=lambda pair: pair[1], default=None)


def _probabilities(score: Score | None, features: _Grouping) -> _Features:
    """Each feature's values with their probabilities; NaN where an answer does not fit the labels."""
    count = sum(len(values) for _, values in features)
    fits = score is not None and len(score.semantic) == count
    semantic = score.semantic if score is not None and fits else np.full(count, np.nan, np.float32)
    return [(name, [(value, float(semantic[place])) for place, value in values]) for name, values in features]


def _section(outcome: Outcome, row: _Row, features: _Grouping) -> _Section:
    score = outcome.score
    assert score is not None  # sections are made of scored nodules only
    views: Iterable[NDArray[np.float32] | None]
    views = outcome.views if outcome.views is not None else [None] * len(VIEW_NAMES)
    attention = score.view_attention.mean(axis=0)
    return _Section(
        row=row,
        score=score,
        given=[(k, v) for k, v in outcome.nodule.columns.items() if k not in ("pid", "nodule_id")],
        pictures=[
            (facts, "" if view is None else png_uri(view), float(weight))
            for facts, view, weight in zip(view_facts(), views, attention, strict=True)
        ],
        features=_probabilities(score, features),
        times=_times(outcome),
    )


def _failure(outcome: Outcome, row: _Row) -> _Failure:
    what, _, mend = (outcome.error or outcome.nodule.problem).partition("Mend: ")
    return _Failure(row, outcome.error_code, what.strip(), mend.strip(), _times(outcome))


def _times(outcome: Outcome) -> list[tuple[str, float]]:
    return [(_SECONDS.get(stage, stage), seconds) for stage, seconds in outcome.seconds.items()]


def _attention_scale(scored: Iterable[Outcome]) -> float:
    """What a full attention bar stands for, in the whole report: the next 10 % above the largest weight."""
    means = (o.score.view_attention.mean(axis=0) for o in scored if o.score is not None)
    largest = max((float(np.nanmax(np.nan_to_num(mean))) for mean in means), default=0.0)
    return min(max(math.ceil(largest * 10), 2) / 10, 1.0)


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


# --- pictures and their names -------------------------------------------------------------------------------


def png_uri(view: NDArray[np.float32]) -> str:
    """A view, 0..1, as an 8-bit grey PNG in a data URI; what the spline overshoots is clipped."""
    grey = np.rint(np.clip(np.nan_to_num(view), 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


@cache
def view_facts() -> tuple[ViewFacts, ...]:
    """Plain name and orientation of each view, in the order of VIEW_NAMES and worked out from it."""
    seen: Counter[str] = Counter()
    facts = []
    for technical in VIEW_NAMES:
        if technical in _ORTHOGONAL:
            rows, columns = (_ENDS[axis] for axis in range(3) if axis != _ORTHOGONAL[technical])
            facts.append(_facts(technical, technical, rows, columns))
            continue
        pair, rows, columns = _turned(technical)
        seen[pair] += 1
        facts.append(_facts(f"oblique {pair}, {'ab'[seen[pair] - 1]}", technical, rows, columns))
    return tuple(facts)


def _turned(technical: str) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """The turned axes' names, and the ends (low, high) of the view's rows and columns."""
    match = _TURNED.fullmatch(technical)
    if match is None:
        raise ValueError(f"view name {technical!r} is neither a plane nor a turned plane")
    p, q = int(match[1]), int(match[2])
    ends = list(_ENDS)
    # After the turn by 45 degrees, axis q leads along +p +q, axis p along +p -q.
    ends[q] = (_ENDS[p][0] + _ENDS[q][0], _ENDS[p][1] + _ENDS[q][1])
    ends[p] = (_ENDS[p][0] + _ENDS[q][1], _ENDS[p][1] + _ENDS[q][0])
    rows, columns = (ends[axis] for axis in range(3) if match[3 + axis] == ":")
    return f"{'zyx'[p]}-{'zyx'[q]}", rows, columns


def _facts(name: str, technical: str, rows: tuple[str, str], columns: tuple[str, str]) -> ViewFacts:
    flip = "I" in rows[0]  # the cube's z runs from foot to head, so that such a view lies head down
    top, bottom = reversed(rows) if flip else rows
    return ViewFacts(name, technical, flip, top, bottom, left=columns[0], right=columns[1])


# --- numbers as text ----------------------------------------------------------------------------------------


def _probability(value: float) -> str:
    """Three digits; a number that is neither 0 nor 1 is never rounded to one of them."""
    if not math.isfinite(value):
        return _DASH
    step = 10.0**-_MALIGNANCY_DIGITS
    if 0 < value < step / 2:
        return f"<{step:.{_MALIGNANCY_DIGITS}f}"
    if 1 - step / 2 < value < 1:
        return f">{1 - step:.{_MALIGNANCY_DIGITS}f}"
    return f"{value:.{_MALIGNANCY_DIGITS}f}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:,.{digits}f}\N{NO-BREAK SPACE}%" if math.isfinite(value) else _DASH


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return _DASH
    if seconds >= 0.9995:
        return f"{seconds:,.{2 if seconds < 100 else 0}f}\N{NO-BREAK SPACE}s"
    return f"{1000 * seconds:.{1 if seconds < 0.00995 else 0}f}\N{NO-BREAK SPACE}ms"


def _units(value: float, full: float = 1.0, width: float = 100.0) -> str:
    """A length in a drawing `width` wide in which `full` fills it."""
    share = value / full if full > 0 and math.isfinite(value) else 0.0
    return f"{min(max(share, 0.0), 1.0) * width:.2f}".rstrip("0").rstrip(".")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(probability=_probability, percent=_percent, duration=_duration, units=_units)
    environment.tests["finite"] = math.isfinite
    return environment.get_template("report.html.j2")
