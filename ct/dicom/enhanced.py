"""Enhanced CT, whose slices are frames of one file or a few: a header for every frame, as if it were a file of its own.

A frame's attributes stand in nested sequences, once for all frames (shared) or for each (per frame). They are read
without the pixel data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydicom import Dataset, dcmread

from noduleserve.errors import SeriesError

from .header import DicomHeader, unreadable

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_PART = ("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber")
# attribute of a frame -> the sequence that holds it
_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "FrameType": "CTImageFrameTypeSequence",
}


@dataclass(frozen=True)
class EnhancedFile:
    """What the slices of one enhanced CT file are made of.

    Attributes:
        frames: a header for each, in the order in which the file stores them.
        concatenation: UID of the image that this file is a part of; "" where it is the whole.
        part, parts: which of how many parts, from 1; parts is 0 where the file does not say.
    """

    frames: tuple[DicomHeader, ...]
    concatenation: str
    part: int
    parts: int

    @classmethod
    def of(cls, header: DicomHeader) -> EnhancedFile:
        """Read the functional groups of a file.

        Raises:
            SeriesError: FILE_UNREADABLE, TAG_MISSING, TAG_INVALID.
        """
        try:
            wanted = [_SHARED, _PER_FRAME, *_PART]
            dataset = dcmread(header.path, stop_before_pixels=True, specific_tags=wanted, force=True)
            shared = next(iter(dataset.get(_SHARED) or ()), Dataset())
            values = [_values(frame, shared) for frame in dataset.get(_PER_FRAME) or ()]
            concatenation = str(dataset.get(_PART[0]) or "")
            part, parts = int(dataset.get(_PART[1]) or 1), int(dataset.get(_PART[2]) or 0)
        except Exception as error:  # pydicom lets many kinds of error through on damaged files
            raise unreadable(header.path, error) from error
        (frames,) = header.numbers("NumberOfFrames", 1)
        if len(values) != frames or not values:
            raise SeriesError(
                "TAG_INVALID",
                f"{header.path.name} describes {len(values)} frames, but its NumberOfFrames is {frames:g}.",
                "Export the series again from its source.",
            )
        of_file = {keyword: value for keyword, value in header.values.items() if keyword not in _GROUP_OF}
        headers = tuple(replace(header, values=of_file | of_frame) for of_frame in values)
        return cls(headers, concatenation, part, parts)


def is_localizer_frame(header: DicomHeader) -> bool:
    """Whether a frame's header is that of a scout."""
    return b"LOCALIZER" in header.values.get("FrameType", b"").split(b"\\")


def check_concatenations(files: Iterable[EnhancedFile]) -> None:
    """Refuse an enhanced CT that was written in several parts of which one is not there.

    Raises:
        SeriesError: SERIES_UNEVEN.
    """
    images: dict[str, list[EnhancedFile]] = defaultdict(list)
    for file in files:
        if file.concatenation:
            images[file.concatenation].append(file)
    for parts in images.values():
        total = max(max(file.part, file.parts) for file in parts)
        missing = sorted(set(range(1, total + 1)) - {file.part for file in parts})
        if missing:
            raise SeriesError(
                "SERIES_UNEVEN",
                f"Part {missing[0]} of {total} of the enhanced CT in {parts[0].frames[0].path.name} is missing.",
                "Fetch the missing part again.",
            )


def _values(frame: Dataset, shared: Dataset) -> dict[str, bytes]:
    """The attributes of one frame, encoded as a header has them; what the frame says goes before what is shared."""
    values = {}
    for keyword, group in _GROUP_OF.items():
        items = frame.get(group) or shared.get(group)
        value = items[0].get(keyword) if items else None
        if value is not None:
            values[keyword] = _encoded(value)
    return values


def _encoded(value: Any) -> bytes:
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(str(part) for part in (value if several else [value])).encode()
