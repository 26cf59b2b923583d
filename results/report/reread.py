"""The nine views of a nodule, read again from its CT when the report is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.source import Source, open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import BadRequest, required_box, views_of_request
from noduleserve.results.outcome import Outcome

Views = NDArray[np.float32]
_ANOTHER = "The series that was scored is not in its place any more."


def reread(outcomes: Sequence[Outcome]) -> list[Views | str]:
    """Views of each outcome's nodule, float32 [9, 50, 50]; or the sentence why there are none any more.

    A CT that has moved, changed or gone costs its own pictures and nothing else. Where the series that was scored is
    known, another one that lies in its place today is not shown.
    """
    found: dict[int, Views | str] = {}
    by_path: dict[Path, list[int]] = {}
    for number, outcome in enumerate(outcomes):
        by_path.setdefault(outcome.nodule.image_path, []).append(number)
    for path, numbers in by_path.items():
        found.update(zip(numbers, _of_place(path, [outcomes[n] for n in numbers]), strict=True))
    return [found[number] for number in range(len(outcomes))]


def _of_place(path: Path, outcomes: Sequence[Outcome]) -> list[Views | str]:
    try:
        with open_source(path) as source:
            volumes: dict[str, Volume | str] = {}
            return [_views(outcome, source, volumes) for outcome in outcomes]
    except Exception as error:
        return [_sentence(error)] * len(outcomes)


def _views(outcome: Outcome, source: Source, volumes: dict[str, Volume | str]) -> Views | str:
    wanted = series_uid_of(outcome)
    try:
        if wanted not in volumes:
            volumes[wanted] = _open(source, wanted)
        volume = volumes[wanted]
        if isinstance(volume, str):
            return volume
        center, geometry = outcome.nodule.center, volume.geometry
        if center is None:
            return "The results do not say where the nodule lies."
        box = required_box(geometry, center)
        return views_of_request(volume.read_box(box), box.start, geometry.shape, geometry.affine, center)
    except Exception as error:
        return _sentence(error)


def series_uid_of(outcome: Outcome) -> str:
    """UID of the series that was scored, or the one that the worklist asked for, or ""."""
    return outcome.series_uid or outcome.nodule.series_uid


def _open(source: Source, series_uid: str) -> Volume | str:
    try:
        volume = source.volume(series_uid)
        if series_uid in ("", volume.series_uid):
            return volume
    except Exception as error:
        if getattr(error, "code", "") != "SERIES_NOT_IN_FOLDER":
            return _sentence(error)
    return _ANOTHER


def _sentence(error: Exception) -> str:
    """Of what was foreseen the code and its sentence; of a surprise the kind alone, since its text may quote a file."""
    if isinstance(error, NoduleserveError | BadRequest):
        return f"[{error.code}] {error.what}"
    return f"{type(error).__name__} while reading the series."
