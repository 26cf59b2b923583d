"""What the page shows of single nodules: a row of the table, and a section with views, folds and features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noduleserve.preprocessing.views import VIEW_NAMES
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.worklist.table import COLUMNS

from .view_pictures import ViewFacts, png_uri, view_facts

SUMMARY_COLUMNS = 6  # further worklist columns that fit beside the numbers
SUMMARY_FEATURES = 5  # semantic features that fit there; a nodule's section has them all
# What the stages of Outcome.seconds are called on the page.
SECONDS = {"open": "open series", "box": "read box", "wait": "wait for room", "server": "server, send to answer"}
Views = NDArray[np.float32] | str  # [9, 50, 50], or why there are none
_Grouping = list[tuple[str, list[tuple[int, str]]]]  # feature -> its values with their places in SEMANTIC
_Features = list[tuple[str, list[tuple[str, float]]]]  # feature -> its values with their probabilities


@dataclass(frozen=True)
class Row:
    """A nodule of the table.

    Attributes:
        outcome: scored.
        further: cells of further worklist columns.
        anchor: id of its section, "" where it has none.
        calibrated: whether its probabilities are.
        folds: what the spread is taken over.
        tops: of each feature its likeliest value, or None where there is no finite one.
    """

    outcome: Outcome
    further: list[str]
    anchor: str
    calibrated: bool
    folds: list[float]
    tops: list[tuple[str, float] | None]

    @property
    def low(self) -> float:
        """Of the folds."""
        return min(self.folds, default=math.nan)

    @property
    def high(self) -> float:
        """Of the folds."""
        return max(self.folds, default=math.nan)


@dataclass(frozen=True)
class Section:
    """A scored nodule's own section.

    Attributes:
        row: its row of the table.
        score: its answer.
        given: what the worklist says of it.
        pictures: of each view its facts, PNG as data URI or "", and attention (NaN where not known).
        unseen: why there are no pictures, or "".
        attended: whether attention is known.
        features: probabilities of the semantic features' values.
        times: of its stages, seconds.
    """

    row: Row
    score: Score
    given: list[tuple[str, str]]
    pictures: list[tuple[ViewFacts, str, float]]
    unseen: str
    attended: bool
    features: _Features
    times: list[tuple[str, float]]


@dataclass(frozen=True)
class Nodules:
    """The table and the sections, with what their headings say.

    Attributes:
        rows: of the table, highest malignancy first.
        further: names of the worklist's columns in it; `further_hidden`: how many more there are.
        features: names of the semantic features in it; `features_hidden`: how many more there are.
        shown: number of sections.
        attention_full: what a full bar of attention stands for.
        sections: made as they are asked for, so that pictures never pile up.
    """

    rows: list[Row]
    further: list[str]
    further_hidden: int
    features: list[str]
    features_hidden: int
    shown: int
    attention_full: float
    sections: Iterator[Section]


def nodules_of(
    listed: Sequence[Outcome], shown: Sequence[Outcome], views: Sequence[Views], info: ReleaseInfo
) -> Nodules:
    """What the page shows.

    Args:
        listed: scored outcomes of the table, in its order; every one of `shown` is among them.
        shown: those that get a section.
        views: of each of `shown`.
        info: of the release.
    """
    further = list(dict.fromkeys(name for o in listed for name in o.nodule.columns if name not in COLUMNS))
    features = _grouped(info.labels)
    anchored = {id(outcome): f"nodule-{outcome.nodule.number}" for outcome in shown}
    rows = {
        id(o): _row(o, info, further[:SUMMARY_COLUMNS], features, anchored.get(id(o), "")) for o in (*listed, *shown)
    }
    return Nodules(
        rows=[rows[id(outcome)] for outcome in listed],
        further=further[:SUMMARY_COLUMNS],
        further_hidden=len(further[SUMMARY_COLUMNS:]),
        features=[name for name, _ in features[:SUMMARY_FEATURES]],
        features_hidden=len(features[SUMMARY_FEATURES:]),
        shown=len(shown),
        attention_full=_attention_scale(shown),
        sections=(_section(o, rows[id(o)], seen, features) for o, seen in zip(shown, views, strict=True)),
    )


def _grouped(labels: Sequence[str]) -> _Grouping:
    groups: dict[str, list[tuple[int, str]]] = {}
    for place, label in enumerate(labels):
        feature, dot, value = label.partition(".")
        groups.setdefault(feature, []).append((place, value if dot else feature))
    return list(groups.items())


def _row(outcome: Outcome, info: ReleaseInfo, further: Iterable[str], features: _Grouping, anchor: str) -> Row:
    score = outcome.score
    assert score is not None  # the table is of scored nodules
    calibrated = info.calibrated and bool(np.isfinite(score.calibrated).all())
    used = score.calibrated if calibrated else score.raw
    return Row(
        outcome=outcome,
        further=[outcome.nodule.columns.get(name, "") for name in further],
        anchor=anchor,
        calibrated=calibrated,
        folds=[float(value) for value in used if np.isfinite(value)],
        tops=[_likeliest(values) for _, values in _probabilities(score, features)],
    )


def _likeliest(values: list[tuple[str, float]]) -> tuple[str, float] | None:
    return max((pair for pair in values if math.isfinite(pair[1])), key=lambda pair: pair[1], default=None)


def _probabilities(score: Score, features: _Grouping) -> _Features:
    """Each feature's values with their probabilities; NaN where an answer does not fit the labels."""
    count = sum(len(values) for _, values in features)
    semantic = score.semantic if len(score.semantic) == count else np.full(count, np.nan, np.float32)
    return [(name, [(value, float(semantic[place])) for place, value in values]) for name, values in features]


def _section(outcome: Outcome, row: Row, views: Views, features: _Grouping) -> Section:
    score = outcome.score
    assert score is not None
    seen: Iterable[NDArray[np.float32] | None] = [None] * len(VIEW_NAMES) if isinstance(views, str) else views
    attention = score.view_attention.mean(axis=0)
    return Section(
        row=row,
        score=score,
        given=[(k, v) for k, v in outcome.nodule.columns.items() if k not in ("pid", "nodule_id")],
        pictures=[
            (facts, "" if view is None else png_uri(view), float(weight))
            for facts, view, weight in zip(view_facts(), seen, attention, strict=True)
        ],
        unseen=views if isinstance(views, str) else "",
        attended=bool(np.isfinite(attention).any()),
        features=_probabilities(score, features),
        times=[(SECONDS.get(stage, stage), seconds) for stage, seconds in outcome.seconds.items()],
    )


def _attention_scale(shown: Iterable[Outcome]) -> float:
    """What a full attention bar stands for, in the whole report: the next 10 % above the largest weight."""
    means = (o.score.view_attention.mean(axis=0) for o in shown if o.score is not None)
    largest = max((float(np.nan_to_num(mean).max()) for mean in means), default=0.0)
    return min(max(math.ceil(largest * 10), 2) / 10, 1.0)
