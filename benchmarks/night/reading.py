"""The steps of reading a box, one at a time and with nothing beside them: what hides behind the encoder in a night."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

from noduleserve.ct.dicom import decoders
from noduleserve.ct.dicom.files import headers_below
from noduleserve.ct.dicom.fragments import read_frame
from noduleserve.ct.dicom.index import SeriesIndex
from noduleserve.ct.dicom.pixel_place import frame_span
from noduleserve.ct.dicom.pixels import SlicePixels
from noduleserve.ct.dicom.slices import slices_of, without_copies
from noduleserve.ct.dicom.stack import stacked
from noduleserve.ct.hounsfield import to_hounsfield
from noduleserve.errors import BenchmarkError
from noduleserve.preprocessing import required_box
from noduleserve.worklist.table import Nodule

from ..rivals.base import Case
from .page_cache import forget
from .workload import files_of, named

Cache = Literal["cold", "warm"]
STEPS = ("headers", "volume", "bytes", "decoding", "Hounsfield units")
SCANS = 6  # read so


@dataclass
class ReadSteps:
    """Reading of some scans, a nodule each.

    Attributes:
        cache: whether the system had the files in memory.
        scans: read so far.
        slices: with voxels of a box.
        seconds: of all scans, by step.
        size: bytes of pixel data that were read, as they lie in the files.
    """

    cache: Cache
    scans: int = 0
    slices: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    size: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


def read_in_steps(nodules: Sequence[Nodule], cases: Sequence[Case], names: Path) -> list[ReadSteps]:
    """Read the first scans once cold and once warm, by the functions that the reader of series is made of.

    Args:
        nodules: rows of folders with DICOM, one a scan.
        cases: what must come of them.
        names: folder for links, so that nothing that is remembered of a path is of use.

    Raises:
        BenchmarkError: READING_OTHER, the steps gave other voxels than the reader, and their times mean nothing.
    """
    steps = [ReadSteps("cold"), ReadSteps("warm")]
    for number, (nodule, case) in enumerate(list(zip(nodules, cases, strict=True))[:SCANS]):
        for turn, found in enumerate(steps):
            if found.cache == "cold":
                forget(files_of([nodule.image_path]))
            voxels = _read(named(nodule.image_path, names, 2 * number + turn), nodule, found)
            if not np.array_equal(voxels, case.voxels):
                raise BenchmarkError("READING_OTHER", "Read step by step, a box has other voxels.", "Report it.")
    return steps


def _read(path: Path, nodule: Nodule, found: ReadSteps) -> NDArray[np.int16]:
    assert nodule.center is not None
    with found.step("headers"):
        headers = headers_below(path)
    with found.step("volume"):
        slices, geometry, _ = stacked(without_copies(slices_of(SeriesIndex(headers, "").headers(nodule.series_uid))))
        box = required_box(geometry, nodule.center)
    along_z, along_y, along_x = box.slices
    voxels = np.empty(box.shape[::-1], np.int16)
    for plane, at in zip(voxels, slices[along_z], strict=True):
        pixels = at.pixels
        with found.step("bytes"):
            data = _bytes(pixels, along_y)
        with found.step("decoding"):
            stored = _stored(pixels, data, along_y, along_x)
        with found.step("Hounsfield units"):
            plane[...] = to_hounsfield(stored, pixels.slope, pixels.intercept)
        found.size += len(data)
    found.scans += 1
    found.slices += len(voxels)
    return voxels


def _bytes(pixels: SlicePixels, rows: slice) -> bytes:
    """What lies in the file: some rows where plain, the whole frame where compressed."""
    header = pixels.header
    if header.pixels_at is None:
        with header.path.open("rb") as file:
            span = frame_span(file, header.path, pixels.frame, pixels.frames)
            return read_frame(file, span, limit=2**31, whole=header.transfer_syntax == RLELossless)
    with header.path.open("rb", buffering=0) as file:
        row_bytes = pixels.columns * pixels.bits_allocated // 8
        file.seek(header.pixels_at + (pixels.frame * pixels.rows + rows.start) * row_bytes)
        return file.read((rows.stop - rows.start) * row_bytes)


def _stored(pixels: SlicePixels, data: bytes, rows: slice, columns: slice) -> NDArray[Any]:
    """The stored numbers of a part of the slice."""
    bits = (pixels.bits_stored, pixels.high_bit, pixels.signed)
    if pixels.header.pixels_at is not None:
        words = np.frombuffer(data, f"<u{pixels.bits_allocated // 8}").reshape(-1, pixels.columns)[:, columns]
        return decoders.stored_numbers(words, *bits)
    syntax = UID(pixels.header.transfer_syntax)
    stream = decoders.take_apart(data, syntax, pixels.rows, pixels.columns, pixels.bits_allocated)
    return decoders.numbers(decoders.decode(stream, syntax)[rows, columns], stream, *bits)
