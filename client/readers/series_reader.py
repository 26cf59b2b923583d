"""The reader of real series: keeps the last few places open, each series opened once or refused once."""

from __future__ import annotations

import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from noduleserve.ct.doubt import check_surroundings
from noduleserve.ct.source import Source, open_source
from noduleserve.ct.volume import Volume
from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import BadRequest, required_box

from .work import Center, Cut, Place, Plan, Refusal

KEPT = 2  # places; an archive lies unpacked on disk as long as it is kept
_BYTES_A_VOXEL = 2
_T = TypeVar("_T")


class SeriesReader:
    """See Reader."""

    def __init__(self) -> None:
        self._opened: OrderedDict[Path, _Opened] = OrderedDict()

    def plan(self, place: Place, centers: Sequence[Center]) -> Plan:
        """See Reader."""
        began = time.perf_counter()
        volume = self._volume(place)
        seconds = time.perf_counter() - began
        if isinstance(volume, Refusal):
            return Plan("", volume, seconds)
        boxes = [_bytes_of_box(volume, center) for center in centers]
        return Plan(volume.series_uid, boxes, seconds, _scanner_of(volume))

    def cut(self, place: Place, center: Center) -> Cut | Refusal:
        """See Reader."""
        volume = self._volume(place)
        if isinstance(volume, Refusal):
            return volume
        began = time.perf_counter()
        try:
            box = required_box(volume.geometry, center)
            voxels = volume.read_box(box)
            warnings = volume.warnings + check_surroundings(voxels, box, volume.geometry, center)
        except (NoduleserveError, BadRequest) as error:
            return Refusal.of(error)
        except Exception as error:
            return Refusal("SERIES_UNREADABLE", f"{type(error).__name__} while reading the voxels.")
        return Cut(voxels, box, volume.geometry, center, warnings, time.perf_counter() - began)

    def close(self) -> None:
        """See Reader."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _volume(self, place: Place) -> Volume | Refusal:
        if place.path in self._opened:
            self._opened.move_to_end(place.path)
        else:
            while len(self._opened) >= KEPT:
                self._opened.popitem(last=False)[1].close()
            self._opened[place.path] = _Opened(place.path)
        return self._opened[place.path].volume(place.series_uid)


class _Opened:
    """A place that series are read from, and the one series of it that is in use: each is opened once, or refused once.

    A refusal is kept like what it kept from being opened, since the nodules that follow would only meet it again.
    """

    def __init__(self, path: Path) -> None:
        self._source = _attempt(lambda: open_source(path))
        self._series_uid: str | None = None
        self._volume: Volume | Refusal | None = None

    def volume(self, series_uid: str) -> Volume | Refusal:
        """A series, or why it cannot be read."""
        source = self._source
        if isinstance(source, Refusal):
            return source
        if self._volume is None or self._series_uid != series_uid:
            self._volume, self._series_uid = _attempt(lambda: source.volume(series_uid)), series_uid
        return self._volume

    def close(self) -> None:
        """Let go of what is open; what then cannot be cleared away must not cost the run its results."""
        self._volume = None
        if isinstance(self._source, Source):
            with contextlib.suppress(OSError):
                self._source.close()


def _attempt(open_it: Callable[[], _T]) -> _T | Refusal:
    try:
        return open_it()
    except (NoduleserveError, BadRequest) as error:
        return Refusal.of(error)
    except Exception as error:  # a reader's surprise at a strange file is that series' error, not the run's; its text
        # may quote the file, and with it the patient, so that only its kind is told
        return Refusal("SERIES_UNREADABLE", f"{type(error).__name__} while opening the series.")


def _scanner_of(volume: Volume) -> dict[str, str]:
    """What DICOM says of it; other formats say nothing."""
    scanner: dict[str, str] | None = getattr(volume, "scanner", None)
    return {} if scanner is None else {**scanner, "Spacing": f"{volume.geometry.spacing[2]:.6g}"}


def _bytes_of_box(volume: Volume, center: Center) -> int | Refusal:
    try:
        return math.prod(required_box(volume.geometry, center).shape.tolist()) * _BYTES_A_VOXEL
    except BadRequest as error:
        return Refusal.of(error)
