"""The slices of a series, each with its place in the patient: a classic file is one, a frame of an enhanced one too."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul

import numpy as np
from numpy.typing import NDArray

from noduleserve.errors import SeriesError

from .enhanced import EnhancedFile, check_concatenations, is_localizer_frame
from .header import DicomHeader
from .pixels import SlicePixels

# For direction cosines, which are rounded, and differently from slice to slice.
COSINE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Instance:
    """What another DICOM object needs to refer to a slice.

    Attributes:
        sop_class_uid: of the file.
        sop_instance_uid: of the file; "" where it has none.
        frame: number of the frame as DICOM counts, from 1; None where the file is one slice.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice: where it lies in the patient (LPS millimetres) and what it stores.

    Attributes:
        name: of the file, and of the frame in it, for sentences.
        position: of the centre of the first pixel, float64 [3].
        cosines: direction of increasing column index, of increasing row index, float64 [2, 3].
        spacing: millimetres between rows, between columns.
        frame_of_reference: UID; "" where there is none.
        pixels: how to read its Hounsfield units.
        instance: how to refer to it.
    """

    name: str
    position: NDArray[np.float64]
    cosines: NDArray[np.float64]
    spacing: tuple[float, ...]
    frame_of_reference: str
    pixels: SlicePixels
    instance: Instance

    @classmethod
    def of(cls, header: DicomHeader, frame: int | None = None, frames: int = 1) -> Slice:
        """Take a slice out of a header; frame (from 0) and frames where it is one of an enhanced CT.

        Raises:
            SeriesError: TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD, SERIES_TOO_LARGE.
        """
        cosines = header.numbers("ImageOrientationPatient", 6)
        spacing = header.numbers("PixelSpacing", 2)
        if not _is_square(cosines[:3], cosines[3:]):
            raise _no_grid(header, "ImageOrientationPatient")
        if min(spacing) <= 0:
            raise _no_grid(header, "PixelSpacing")
        if frame is None and header.text("NumberOfFrames", required=False) not in ("", "1"):
            raise _no_grid(header, "NumberOfFrames")
        pixels = SlicePixels.of(header, frame=frame or 0, frames=frames)
        return cls(
            name=header.path.name + ("" if frame is None else f" (frame {frame + 1})"),
            position=np.array(header.numbers("ImagePositionPatient", 3)),
            cosines=np.array(cosines).reshape(2, 3),
            spacing=spacing,
            frame_of_reference=header.text("FrameOfReferenceUID", required=False),
            pixels=pixels,
            instance=Instance(
                header.text("SOPClassUID"),
                header.text("SOPInstanceUID", required=False),
                None if frame is None else frame + 1,
            ),
        )


def slices_of(headers: Iterable[DicomHeader]) -> list[Slice]:
    """All slices of a series, in the order of the files; localizers among the frames are left out.

    Raises:
        SeriesError: FILE_UNREADABLE, TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD, SERIES_TOO_LARGE, and SERIES_UNEVEN
            where a part of an enhanced CT is missing.
    """
    slices = []
    files = []
    for header in headers:
        if not header.is_enhanced:
            slices.append(Slice.of(header))
            continue
        file = EnhancedFile.of(header)
        files.append(file)
        for number, frame in enumerate(file.frames):
            if not is_localizer_frame(frame):
                slices.append(Slice.of(frame, number, len(file.frames)))
    check_concatenations(files)
    return slices


def without_copies(slices: Iterable[Slice]) -> list[Slice]:
    """The slices, each once: copies of one instance with the same place and the same Hounsfield units are left out.

    Pixels are read only where there are copies, and files only decoded where they differ.

    Raises:
        SeriesError: SERIES_DUPLICATE where two slices of one instance differ, and as `SlicePixels.read_hounsfield`.
    """
    kept: dict[tuple[str, int | None], list[Slice]] = defaultdict(list)
    for one in slices:
        known = kept[one.instance.sop_instance_uid, one.instance.frame]
        if known and one.instance.sop_instance_uid:
            if not _same(known[0], one):
                raise SeriesError(
                    "SERIES_DUPLICATE",
                    f"{known[0].name} and {one.name} are one instance by their UID, but differ.",
                    "Find out which of the two is right, and take out the other.",
                )
        else:
            known.append(one)
    return [one for known in kept.values() for one in known]


def _same(a: Slice, b: Slice) -> bool:
    if filecmp.cmp(a.pixels.header.path, b.pixels.header.path, shallow=False):
        return True
    size = slice(0, a.pixels.rows), slice(0, a.pixels.columns)
    return (
        np.array_equal(a.position, b.position)
        and np.array_equal(a.cosines, b.cosines)
        and (a.spacing, a.frame_of_reference) == (b.spacing, b.frame_of_reference)
        and (a.pixels.rows, a.pixels.columns) == (b.pixels.rows, b.pixels.columns)
        and np.array_equal(a.pixels.read_hounsfield(*size), b.pixels.read_hounsfield(*size))
    )


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return sum(map(mul, a, b))


def _is_square(x: tuple[float, ...], y: tuple[float, ...]) -> bool:
    """Whether two directions are of length 1 and at right angles, as far as rounding lets them be."""
    off = (_dot(x, x) - 1, _dot(y, y) - 1, _dot(x, y))
    return all(abs(o) < 10 * COSINE_TOLERANCE for o in off)


def _no_grid(header: DicomHeader, keyword: str) -> SeriesError:
    return SeriesError(
        "TAG_INVALID",
        f"The {keyword} of {header.path.name} describes no grid of pixels.",
        "Export the series again from its source.",
    )
