"""A folder of DICOM SRs: the outcomes of a run put together by series, one SR a series."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from noduleserve.ct.dicom.series import DicomSeries
from noduleserve.ct.source import open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import SeriesError

from .base import Head, Written, not_written
from .outcome import Outcome
from .whole_file import WholeFile

_Group = tuple[Path, str]  # image_path, series UID that the worklist asks for


class SrFolder:
    """Writes one SR a series that has a score, when all outcomes are there; each SR is there whole or not at all.

    The CT must still be where the worklist says. Of every outcome all but embedding and views stays in memory, some
    2 KB, until the end. A series without an SR is a remark: its nodules stand in the tables all the same.
    """

    def __init__(self, target: str, head: Head) -> None:
        """Name the folder."""
        self.target, self._head, self._rows = target, head, 0
        self._folder = Path(target)
        self._groups: dict[_Group, list[Outcome]] = {}

    def check(self) -> None:
        """See ResultsWriter."""
        WholeFile(str(self._folder / "noduleserve")).check()

    def begin(self) -> None:
        """See ResultsWriter."""
        self.check()

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """See ResultsWriter."""
        nodule = outcome.nodule
        self._groups.setdefault((nodule.image_path, nodule.series_uid), []).append(_slim(outcome))
        self._rows += 1

    def finish(self) -> Written:
        """Write the SRs; a series that gets none is a remark.

        Raises:
            ResultsError: OUTPUT_NOT_WRITTEN; SRs that were written before stay.
        """
        remarks = []
        for outcomes in by_series(self._groups):
            if all(outcome.score is None for outcome in outcomes):
                continue  # the tables have the reasons
            try:
                write_series_sr(self._folder, outcomes, self._head)
            except SeriesError as error:
                if error.code == "SR_UNWRITABLE":
                    raise not_written(self.target, error.what) from None
                remarks.append(_remark(outcomes, error.code, error.sentence))
            except Exception as error:  # a reader's surprise is that series' alone; its text may quote the patient
                remarks.append(_remark(outcomes, "SERIES_UNREADABLE", f"{type(error).__name__} while reading it."))
        return Written(self.target, self._rows, tuple(remarks), lacking=len(remarks))

    def abort(self) -> None:
        """See ResultsWriter."""
        self._groups.clear()


def write_series_sr(folder: Path, outcomes: list[Outcome], head: Head) -> None:
    """Write the SR of one series.

    Args:
        folder: for the SR.
        outcomes: of all nodules of this series.
        head: of the run.

    Raises:
        SeriesError: those of opening the series, and of `source_series` and `write_sr`.
    """
    from .sr.document import write_sr
    from .sr.source import source_series

    read = next(outcome.nodule for outcome in outcomes if outcome.score is not None)
    with open_source(read.image_path) as source:
        volume = source.volume(read.series_uid)
        series = source_series(volume, _any_file(volume, read.image_path))
        write_sr(folder, series, outcomes, head.info, preprocessing_version=head.preprocessing)


def by_series(groups: dict[_Group, list[Outcome]]) -> Iterator[list[Outcome]]:
    """The outcomes of each series, those together that the worklist names differently but that one series was read for.

    Rows that cannot be scored name no series: they go with the only one of their image_path.
    """
    merged: dict[_Group | str, list[Outcome]] = {}
    place: dict[_Group, _Group | str] = {}
    for group, outcomes in groups.items():
        read = {outcome.series_uid for outcome in outcomes} - {""}
        place[group] = read.pop() if len(read) == 1 else group
    for group, outcomes in groups.items():
        others = {place[other] for other in groups if other[0] == group[0]} - {group}
        to = next(iter(others)) if place[group] == group and group[1] == "" and len(others) == 1 else place[group]
        merged.setdefault(to, []).extend(outcomes)
    for outcomes in merged.values():
        yield sorted(outcomes, key=lambda outcome: outcome.nodule.number)


def _slim(outcome: Outcome) -> Outcome:
    """Without what no SR holds."""
    score = outcome.score
    if score is not None:
        nothing = np.zeros((score.raw.size, 0), np.float32)
        score = replace(score, embedding=nothing, view_attention=nothing)
    return replace(outcome, score=score, views=None, seconds={})


def _any_file(volume: Volume, image_path: Path) -> Path:
    return volume.file if isinstance(volume, DicomSeries) else image_path


def _remark(outcomes: list[Outcome], code: str, sentence: str) -> str:
    first = next(outcome.nodule for outcome in outcomes if outcome.score is not None)
    others = f" and {len(outcomes) - 1} more of its series" if len(outcomes) > 1 else ""
    return f"No SR for row {first.number + 1}{others}: [{code}] {sentence}"
