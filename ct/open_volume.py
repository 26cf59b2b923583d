"""The short way to one CT, whatever format it is in."""

from __future__ import annotations

from pathlib import Path

from .source import open_source
from .volume import Volume


def open_volume(path: Path, series_uid: str = "") -> Volume:
    """Open one series of a folder, an archive or a file, the only one where none is named; reads headers only.

    What an archive was unpacked to goes together with the volume.

    Raises:
        SeriesError: what `open_source` and `Source.volume` raise.
    """
    return open_source(path).volume(series_uid)
