"""Pixel data of one slice: the rows that are needed where stored plainly, the whole frame where compressed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from noduleserve.ct.hounsfield import clear_padding, is_misread_padding, to_hounsfield
from noduleserve.errors import SeriesError

from . import decoders
from .fragments import PixelsDamaged, read_frame
from .frames import DecodedFrames, Frame
from .header import DicomHeader
from .pixel_place import PixelPlace, find_pixels, frame_span, opened

MOST_SIDE = 8192  # pixels a row or column
_NATIVE = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
_WORDS = {bits: np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32)}
_UNITS = ("", "HU", "US")  # US: unspecified, which some scanners write for Hounsfield units
_GREY = ("", "MONOCHROME1", "MONOCHROME2")  # MONOCHROME1 turns the picture's greys round, not the numbers


@dataclass(frozen=True)
class SlicePixels:
    """How one file stores its slice, and how stored numbers become Hounsfield units.

    Attributes:
        header: of the file.
        rows, columns: of the whole slice.
        bits_allocated, bits_stored, high_bit: of each stored number, as DICOM PS3.5 8.1.1 defines them.
        signed: whether stored numbers are two's complement.
        slope, intercept: Hounsfield units = stored * slope + intercept.
        frame: which frame of the file this slice is, from 0.
        frames: that the file holds.
        padding: lowest and highest word that stands for no measurement, as 16 bits; None where there is none, and
            where reading it as any other number does no harm.
    """

    header: DicomHeader
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    frame: int = 0
    frames: int = 1
    padding: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        header: DicomHeader,
        slope: float | None = None,
        intercept: float | None = None,
        frame: int = 0,
        frames: int = 1,
    ) -> SlicePixels:
        """Take the description of the pixels out of a header.

        Args:
            header: of the file.
            slope, intercept: where they are known from elsewhere (enhanced CT); None: the header's.
            frame, frames: which of how many frames of the file.

        Raises:
            SeriesError: TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD, SERIES_TOO_LARGE.
        """
        _check_hounsfield(header)
        pixels = cls(
            header=header,
            rows=header.integer("Rows"),
            columns=header.integer("Columns"),
            bits_allocated=header.integer("BitsAllocated"),
            bits_stored=header.integer("BitsStored"),
            high_bit=header.integer("HighBit"),
            signed=header.integer("PixelRepresentation") == 1,
            slope=header.numbers("RescaleSlope", 1)[0] if slope is None else slope,
            intercept=header.numbers("RescaleIntercept", 1)[0] if intercept is None else intercept,
            frame=frame,
            frames=frames,
        )
        grey = header.integer("SamplesPerPixel") == 1
        fits = 0 < pixels.bits_stored <= pixels.high_bit + 1 <= pixels.bits_allocated in (8, 16, 32)
        if not (grey and fits and pixels.rows and pixels.columns and pixels.slope and 0 <= frame < frames):
            raise SeriesError(
                "TAG_INVALID",
                f"The attributes of {header.path.name} that describe its pixels contradict one another.",
                "Export the series again from its source.",
            )
        if max(pixels.rows, pixels.columns) > MOST_SIDE:
            raise SeriesError(
                "SERIES_TOO_LARGE",
                f"{header.path.name} claims {pixels.rows} x {pixels.columns} pixels; the limit is {MOST_SIDE} a side.",
                "Copy or export the file again; its header is damaged, or it is no CT slice.",
            )
        padding = _padding(header)
        if padding and is_misread_padding(padding, pixels.signed, pixels.slope, pixels.intercept):
            return replace(pixels, padding=padding)
        return pixels

    def read_hounsfield(self, rows: slice, columns: slice, frames: DecodedFrames | None = None) -> NDArray[np.int16]:
        """Hounsfield units of a part of the slice, int16 [rows, columns].

        Args:
            rows, columns: which part.
            frames: keeps what was decoded, where other parts of the slice will be wanted.

        Raises:
            SeriesError: FILE_UNREADABLE, FILE_TOO_LARGE, PIXELS_UNREADABLE, PIXELS_TRUNCATED, DECODER_MISSING.
        """
        if self.header.transfer_syntax in _NATIVE:
            words = self._native(rows)[:, columns]
            stored = decoders.stored_numbers(words, self.bits_stored, self.high_bit, self.signed)
        else:
            words, stored = self._decoded(rows, columns, frames)
        units = to_hounsfield(stored, self.slope, self.intercept)
        if self.padding and words.dtype.itemsize == 2:
            clear_padding(units, words, self.padding, self.signed, self.slope, self.intercept)
        return units

    # ------------------------------------------------------------------------------------------ stored plainly

    def _native(self, rows: slice) -> NDArray[Any]:
        """The words of some rows, unsigned, read without the rest of the slice."""
        try:
            if self.header.pixels_at is not None:
                with self.header.path.open("rb", buffering=0) as file:
                    place = PixelPlace(self.header.pixels_at, self.header.pixel_bytes)
                    return self._read_rows(file, place, rows)
            with opened(self.header.path, self.header.transfer_syntax) as file:
                place = find_pixels(file)
                if self.header.transfer_syntax == ExplicitVRBigEndian and self.bits_allocated == 8 and place.vr == "OW":
                    return self._swapped_bytes(file, place)[rows]
                return self._read_rows(file, place, rows)
        except SeriesError:
            raise
        except OSError as error:
            raise self._unreadable("FILE_UNREADABLE", error) from error
        except Exception as error:  # pydicom lets many kinds of error through on damaged files
            raise self._unreadable("PIXELS_UNREADABLE", error) from error

    def _read_rows(self, file: BinaryIO, place: PixelPlace, rows: slice) -> NDArray[Any]:
        dtype = _WORDS[self.bits_allocated]
        row_bytes = dtype.itemsize * self.columns
        wanted = (rows.stop - rows.start) * row_bytes
        self._check_length(file, place)
        file.seek(place.at + self.frame * self.rows * row_bytes + rows.start * row_bytes)
        data = file.read(wanted)
        if len(data) < wanted:
            raise self._truncated()
        words = np.frombuffer(data, dtype).reshape(-1, self.columns)
        return words.byteswap() if self.header.transfer_syntax == ExplicitVRBigEndian else words

    def _swapped_bytes(self, file: BinaryIO, place: PixelPlace) -> NDArray[np.uint8]:
        """All rows of bytes that are stored two and two as big-endian words (PS3.5 A.3)."""
        self._check_length(file, place)
        pixels = self.rows * self.columns
        first = self.frame * pixels
        file.seek(place.at + first - first % 2)
        data = file.read(pixels + 2).ljust(pixels + 2, b"\0")
        swapped = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").view(np.uint8)
        return swapped[first % 2 :][:pixels].reshape(self.rows, self.columns)

    def _check_length(self, file: BinaryIO, place: PixelPlace) -> None:
        frame_bytes = self.rows * self.columns * self.bits_allocated // 8
        size = file.seek(0, os.SEEK_END)
        if min(place.length, size - place.at) < self.frames * frame_bytes:
            raise self._truncated()
        if place.length > self.frames * frame_bytes + max(frame_bytes - 1, 1):  # less than a frame is padding
            raise self._unreadable("PIXELS_UNREADABLE", PixelsDamaged("there are more frames than the header says"))

    # ------------------------------------------------------------------------------------------ compressed

    def _decoded(self, rows: slice, columns: slice, frames: DecodedFrames | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """A part of the slice: words as decoded, unsigned, and the numbers in them."""
        self._require_decoder(UID(self.header.transfer_syntax))
        path = self.header.path
        try:
            with path.open("rb") as file:
                frame = frames.get(file, path, self.frame, lambda: self._decode(file)) if frames else self._decode(file)
            words = frame.words[rows, columns]
            return words, decoders.numbers(words, frame.stream, self.bits_stored, self.high_bit, self.signed)
        except OSError as error:
            raise self._unreadable("FILE_UNREADABLE", error) from error
        except Exception as error:  # decoders let many kinds of error through on damaged data
            raise self._unreadable("PIXELS_UNREADABLE", error) from error

    def _decode(self, file: BinaryIO) -> Frame:
        syntax = UID(self.header.transfer_syntax)
        allocated = self.rows * self.columns * self.bits_allocated // 8
        span = frame_span(file, self.header.path, self.frame, self.frames)
        data = read_frame(file, span, limit=2 * allocated + 2**16, whole=syntax == RLELossless)
        stream = decoders.take_apart(data, syntax, self.rows, self.columns, self.bits_allocated)
        return Frame(decoders.decode(stream, syntax), replace(stream, data=b"", scan=None))

    def _require_decoder(self, syntax: UID) -> None:
        known = decoders.COMPRESSIONS.get(syntax)
        if known and decoders.is_available(syntax):
            return
        install = f"Install its decoder (pip install {known.packages}), or decompress" if known else "Decompress"
        raise SeriesError(
            "DECODER_MISSING",
            f"{self.header.path.name} is compressed as {syntax.name}, for which there is no decoder.",
            f"{install} the series (for example with dcmdjpeg or gdcmconv --raw).",
        )

    def _truncated(self) -> SeriesError:
        frames = f"{self.frames} x " if self.frames > 1 else ""
        return SeriesError(
            "PIXELS_TRUNCATED",
            f"{self.header.path.name} ends before its {frames}{self.rows} x {self.columns} pixels do.",
            "Copy or export the file again: its pixel data are incomplete.",
        )

    def _unreadable(self, code: str, error: Exception) -> SeriesError:
        why = str(error) if isinstance(error, PixelsDamaged) else type(error).__name__
        return SeriesError(
            code,
            f"The pixel data of {self.header.path.name} cannot be read: {why}.",
            "Copy or export the series again.",
        )


def _check_hounsfield(header: DicomHeader) -> None:
    """Refuse what a header alone shows to be no Hounsfield units."""
    kind = header.text("RescaleType", required=False)
    colours = header.text("PhotometricInterpretation", required=False)
    wrong = ""
    if kind not in _UNITS:
        wrong = f"RescaleType {kind}"
    elif header.values.get("ModalityLUTSequence"):
        wrong = "they go through a Modality LUT"
    elif colours not in _GREY and header.integer("SamplesPerPixel") == 1:
        wrong = f"PhotometricInterpretation {colours}"
    if wrong:
        raise SeriesError(
            "NOT_HOUNSFIELD",
            f"The pixels of {header.path.name} are not in Hounsfield units ({wrong}).",
            "Use the reconstruction of this scan in Hounsfield units.",
        )


def _padding(header: DicomHeader) -> tuple[int, int] | None:
    """Pixel Padding Value and Pixel Padding Range Limit as bits, which their signedness does not change."""
    value, limit = (header.values.get(keyword, b"") for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if len(value) != 2:
        return None
    ends = [int.from_bytes(end, "little") for end in (value, limit if len(limit) == 2 else value)]
    return min(ends), max(ends)
