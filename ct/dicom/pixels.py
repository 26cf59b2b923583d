"""Pixel data of one slice: the rows that are needed where stored plainly, the whole where compressed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from noduleserve.ct.hounsfield import to_hounsfield
from noduleserve.errors import SeriesError

from .header import DicomHeader

_DECODER_PACKAGES = (
    (JPEG2000TransferSyntaxes, "pylibjpeg pylibjpeg-openjpeg"),
    (JPEGLSTransferSyntaxes, "pyjpegls"),
    (JPEGTransferSyntaxes, "pylibjpeg pylibjpeg-libjpeg"),
)


@dataclass(frozen=True)
class SlicePixels:
    """How one file stores its slice, and how stored numbers become Hounsfield units.

    Attributes:
        header: of the file.
        rows, columns: of the whole slice.
        bits_allocated, bits_stored, high_bit: of each stored number, as DICOM PS3.5 8.1.1 defines them.
        signed: whether stored numbers are two's complement.
        slope, intercept: Hounsfield units = stored * slope + intercept.
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

    @classmethod
    def of(cls, header: DicomHeader) -> SlicePixels:
        """Take the description of the pixels out of a header.

        Raises:
            SeriesError: TAG_MISSING, TAG_INVALID, NOT_HOUNSFIELD.
        """
        pixels = cls(
            header=header,
            rows=header.integer("Rows"),
            columns=header.integer("Columns"),
            bits_allocated=header.integer("BitsAllocated"),
            bits_stored=header.integer("BitsStored"),
            high_bit=header.integer("HighBit"),
            signed=header.integer("PixelRepresentation") == 1,
            slope=header.numbers("RescaleSlope", 1)[0],
            intercept=header.numbers("RescaleIntercept", 1)[0],
        )
        grey = header.integer("SamplesPerPixel") == 1
        fits = 0 < pixels.bits_stored <= pixels.high_bit + 1 <= pixels.bits_allocated <= 32
        if not (grey and fits and pixels.rows and pixels.columns and pixels.slope):
            raise SeriesError(
                "TAG_INVALID",
                f"The attributes of {header.path.name} that describe its pixels contradict one another.",
                "Export the series again from its source.",
            )
        kind = header.text("RescaleType", required=False)
        if kind not in ("", "HU", "US"):  # US: unspecified, which some scanners write for Hounsfield units
            raise SeriesError(
                "NOT_HOUNSFIELD",
                f"The pixels of {header.path.name} are not in Hounsfield units (RescaleType {kind}).",
                "Use the reconstruction of this scan in Hounsfield units.",
            )
        return pixels

    def read_hounsfield(self, rows: slice, columns: slice) -> NDArray[np.int16]:
        """Hounsfield units of a part of the slice, int16 [rows, columns].

        Raises:
            SeriesError: FILE_UNREADABLE, PIXELS_UNREADABLE, PIXELS_TRUNCATED, DECODER_MISSING.
        """
        if self.header.pixels_at is not None and self.bits_allocated == 16:
            words = self._read_rows(self.header.pixels_at, rows)
        else:
            words = self._decode()[rows]
        return to_hounsfield(self._stored(words[:, columns]), self.slope, self.intercept)

    def _read_rows(self, pixels_at: int, rows: slice) -> NDArray[np.uint16]:
        """The stored 16-bit words of some rows, read without the rest of the slice."""
        row_bytes = 2 * self.columns
        slice_bytes = self.rows * row_bytes
        try:
            with self.header.path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(pixels_at + rows.start * row_bytes)
                data = file.read((rows.stop - rows.start) * row_bytes)
        except OSError as error:
            raise self._unreadable("FILE_UNREADABLE", error) from error
        complete = min(self.header.pixel_bytes, size - pixels_at) >= slice_bytes
        if not complete or len(data) < (rows.stop - rows.start) * row_bytes:
            raise SeriesError(
                "PIXELS_TRUNCATED",
                f"{self.header.path.name} ends before its {self.rows} x {self.columns} pixels do.",
                "Copy or export the file again: its pixel data are incomplete.",
            )
        return np.frombuffer(data, "<u2").reshape(-1, self.columns)

    def _decode(self) -> NDArray[Any]:
        """The stored words of the whole slice, unsigned, through pydicom and its decoders."""
        self._require_decoder()
        try:
            array = dcmread(self.header.path).pixel_array
        except Exception as error:  # decoders let many kinds of error through on damaged data
            raise self._unreadable("PIXELS_UNREADABLE", error) from error
        if array.shape != (self.rows, self.columns):
            raise self._unreadable("PIXELS_UNREADABLE", ValueError("wrong shape"))
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return native.view(f"u{native.dtype.itemsize}")

    def _require_decoder(self) -> None:
        syntax = UID(self.header.transfer_syntax)
        if not syntax.is_transfer_syntax or not syntax.is_compressed or syntax.is_deflated:
            return
        try:
            if get_decoder(syntax).is_available:
                return
        except NotImplementedError:
            pass
        packages = next((names for group, names in _DECODER_PACKAGES if syntax in group), "")
        install = f"Install its decoder (pip install {packages}), or decompress" if packages else "Decompress"
        raise SeriesError(
            "DECODER_MISSING",
            f"{self.header.path.name} is compressed as {syntax.name}, for which no decoder is installed.",
            f"{install} the series (for example with dcmdjpeg or gdcmconv --raw).",
        )

    def _stored(self, words: NDArray[Any]) -> NDArray[Any]:
        """Words as allocated -> the numbers stored in them: BitsStored bits up to HighBit, signed or not."""
        signed = np.dtype(f"i{words.dtype.itemsize}")
        if self.bits_stored == 8 * words.dtype.itemsize:
            return words.view(signed) if self.signed else words
        numbers = (words >> (self.high_bit + 1 - self.bits_stored)) & ((1 << self.bits_stored) - 1)
        numbers = numbers.view(signed)  # at least one bit is free: unsigned numbers fit as well
        if self.signed:
            sign = 1 << (self.bits_stored - 1)
            numbers = (numbers ^ sign) - sign
        return numbers

    def _unreadable(self, code: str, error: Exception) -> SeriesError:
        return SeriesError(
            code,
            f"The pixel data of {self.header.path.name} cannot be read ({type(error).__name__}).",
            "Copy or export the series again.",
        )
