"""The few attributes of a DICOM file that a CT volume is built from, read without its pixel data."""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from noduleserve.errors import SeriesError

from .elements import UNDEFINED, elements
from .inflate import inflated

KEYWORDS = (
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Manufacturer",
    "ManufacturerModelName",
    "SliceThickness",
    "ConvolutionKernel",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
)
_WANTED: dict[int, str] = {tag: keyword for keyword in KEYWORDS if (tag := tag_for_keyword(keyword)) is not None}
_BINARY = {keyword for keyword in KEYWORDS if dictionary_VR(keyword).startswith("US")}
_ENHANCED_CT = frozenset(uid.encode() for uid in (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage))
_CT = _ENHANCED_CT | {CTImageStorage.encode()}

_META_GROUP_LENGTH, _TRANSFER_SYNTAX = 0x00020000, 0x00020010
_MEDIA_STORAGE = {0x00020002: "SOPClassUID", 0x00020003: "SOPInstanceUID"}
_SOP_CLASS, _SOP_INSTANCE, _PIXEL_DATA = 0x00080016, 0x00080018, 0x7FE00010
_MAGIC_AT, _META_AT, _META_LENGTH = 128, 132, 1024
_BARE_META = b"\x02\0\0\0UL\x04\0"  # (0002,0000), with which the meta information begins
_UID = re.compile(rb"[0-9]+(\.[0-9]+)+")
_FIRST_BYTES = 32 * 1024  # enough for most headers
_LENGTH = struct.Struct("<L").unpack_from


@dataclass(frozen=True)
class DicomHeader:
    """The values of KEYWORDS that one file has, as they stand in it, and where its pixel data lie.

    Attributes:
        path: of the file.
        values: keyword -> value as stored, numbers in little endian.
        transfer_syntax: UID.
        pixels_at: offset of the value of Pixel Data in the file where it is native little endian, else None.
        pixel_bytes: its length, 0 where pixels_at is None.
    """

    path: Path
    values: dict[str, bytes]
    transfer_syntax: str
    pixels_at: int | None
    pixel_bytes: int

    @property
    def is_enhanced(self) -> bool:
        """Whether the file is an enhanced CT: slices are its frames."""
        return self.values.get("SOPClassUID", b"").rstrip(b" \0") in _ENHANCED_CT

    @property
    def is_ct(self) -> bool:
        """Whether the file is a CT image, localizers included."""
        return self.values.get("SOPClassUID", b"").rstrip(b" \0") in _CT

    @property
    def is_localizer(self) -> bool:
        """Whether the image is a scout to plan a scan on."""
        return b"LOCALIZER" in self.values.get("ImageType", b"").rstrip(b" \0").split(b"\\")

    def text(self, keyword: str, *, required: bool = True) -> str:
        """An attribute as text, without padding; "" where it is missing and not required.

        Raises:
            SeriesError: TAG_MISSING.
        """
        value = self.values.get(keyword, b"").strip(b" \0").decode("ascii", "replace")
        if required and not value:
            raise SeriesError(
                "TAG_MISSING",
                f"{self.path.name} has no {keyword}.",
                "Export the series again with all its attributes, or leave this series out.",
            )
        return value

    def integer(self, keyword: str) -> int:
        """An attribute of 16 bits, unsigned.

        Raises:
            SeriesError: TAG_MISSING, TAG_INVALID.
        """
        value = self.values.get(keyword, b"")
        if len(value) == 2:
            return int.from_bytes(value, "little")
        if not value:
            self.text(keyword)
        raise self._invalid(keyword)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """An attribute of `count` decimal strings.

        Raises:
            SeriesError: TAG_MISSING, TAG_INVALID.
        """
        numbers = _finite_numbers(self.text(keyword))
        if len(numbers) != count:
            raise self._invalid(keyword)
        return numbers

    def _invalid(self, keyword: str) -> SeriesError:
        return SeriesError(
            "TAG_INVALID",
            f"The {keyword} of {self.path.name} does not hold the numbers that it should.",
            "Export the series again from its source.",
        )


@lru_cache(maxsize=1024)  # most of a series' slices say the same
def _finite_numbers(text: str) -> tuple[float, ...]:
    """Decimal strings with backslashes between them as numbers; none where one of them is no finite number."""
    try:
        numbers = tuple(map(float, text.split("\\")))
    except ValueError:
        return ()
    return numbers if "_" not in text and all(map(math.isfinite, numbers)) else ()


def read_header(path: Path) -> DicomHeader | None:
    """Read one file's header; None where the file is not DICOM.

    DICOM is what has the mark of PS3.10 after its 128-byte preamble, what begins with the meta information that
    should follow that mark, and what begins with a data set of group 0008 that names its SOP class.

    Raises:
        SeriesError: FILE_UNREADABLE where the file cannot be opened, or is DICOM and damaged; FILE_TOO_LARGE where it
            inflates beyond all bounds; TAG_MISSING where it is DICOM and names no SOP class; DECODER_MISSING where it
            is a CT image in a private transfer syntax.
    """
    try:
        with path.open("rb") as file:
            _read_no_further(file)
            start = file.read(_FIRST_BYTES)
            if start[_MAGIC_AT:_META_AT] == b"DICM":
                begun = _after_meta(start, _META_AT)
            elif start.startswith(_BARE_META):
                if DeflatedExplicitVRLittleEndian.encode() in start[:_META_LENGTH]:
                    raise ValueError("deflated without a preamble")  # which `inflated` does not look for
                begun = _after_meta(start, 0)
            elif syntax := _bare_syntax(start):
                begun = _Beginning(0, syntax, {})
            else:
                return None
            header = (begun and _walk(path, start, begun)) or _parse(path, file)
            header.text("SOPClassUID")  # what does not say what it is may be anything, a slice included
            _check_syntax(header)
            return header
    except SeriesError:
        raise
    except Exception as error:  # pydicom lets many kinds of error through on damaged files
        raise unreadable(path, error) from error


def _read_no_further(file: BinaryIO) -> None:
    """Keep the system from reading ahead: of hundreds of files only the beginning is wanted, of most never more."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # a file system need not take advice
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)


def _check_syntax(header: DicomHeader) -> None:
    """Refuse a CT image in an encoding of some maker's own: even its plain numbers may stand in another byte order."""
    if header.is_ct and not _is_known(header.transfer_syntax):
        raise SeriesError(
            "DECODER_MISSING",
            f"{header.path.name} is encoded in a way that DICOM does not know ({header.transfer_syntax[:64]}).",
            "Export the series again, as Explicit VR Little Endian.",
        )


@lru_cache(maxsize=64)
def _is_known(syntax: str) -> bool:
    return UID(syntax, validation_mode=IGNORE).type == "Transfer Syntax"


def unreadable(path: Path, error: Exception) -> SeriesError:
    """The refusal of a file that should be DICOM and cannot be read as such; of the error only its kind is told."""
    return SeriesError(
        "FILE_UNREADABLE",
        f"{path.name} cannot be read as a DICOM file ({type(error).__name__}).",
        "Copy or export the series again, or take this file out of the folder if it does not belong.",
    )


class _Beginning(NamedTuple):
    """Where the data set of a file begins, how it is encoded, and the values that the meta information has."""

    at: int
    syntax: str
    values: dict[str, bytes]


def _after_meta(start: bytes, at: int) -> _Beginning | None:
    """Read the meta information that begins at `at`; None where it is out of the ordinary."""
    group_length = next(elements(start, at, implicit=False), None)
    if group_length is None or group_length[0] != _META_GROUP_LENGTH:
        return None
    _, at, length = group_length
    meta, dataset = at + length, at + length + _LENGTH(start, at)[0]
    about = {tag: start[at : at + n] for tag, at, n in elements(start[:dataset], meta, implicit=False)}
    syntax = about.get(_TRANSFER_SYNTAX, b"").rstrip(b" \0").decode("ascii")
    if not syntax or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        return None
    return _Beginning(dataset, syntax, {_MEDIA_STORAGE[tag]: about[tag] for tag in _MEDIA_STORAGE if tag in about})


def _bare_syntax(start: bytes) -> str:
    """How a file that is nothing but a data set is encoded; "" where it is none.

    It must hold elements of group 0008 in rising order up to a SOP class that reads as a UID. Nothing else begins so.
    """
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        last = -1
        for tag, at, length in elements(start, 0, implicit=syntax == ImplicitVRLittleEndian):
            if tag == _SOP_CLASS and _UID.fullmatch(start[at : at + length].rstrip(b" \0")):
                return syntax
            if not last < tag < _SOP_CLASS or tag >> 16 != 8:
                break
            last = tag
    return ""


def _walk(path: Path, start: bytes, begun: _Beginning) -> DicomHeader | None:
    """Read an ordinary header from the file's first bytes, ten times faster than pydicom.

    None where there is anything out of the ordinary, which is left to pydicom: unknown value representations, tags
    out of order, encodings other than plain little endian, headers longer than the bytes given. Of what is no CT
    nothing but its class is read.
    """
    values, syntax = dict(begun.values), begun.syntax
    last = -1
    for tag, at, length in elements(start, begun.at, implicit=syntax == ImplicitVRLittleEndian):
        if tag <= last or tag > _PIXEL_DATA:
            return None
        if tag == _PIXEL_DATA:
            return _located(path, values, syntax, at, length)
        if tag in _WANTED:
            if length == UNDEFINED:
                return None
            values[_WANTED[tag]] = start[at : at + length]
            if tag == _SOP_INSTANCE and values.get("SOPClassUID", b"").rstrip(b" \0") not in _CT:
                return DicomHeader(path, values, syntax, None, 0)
        last = tag
    return None


def _parse(path: Path, file: BinaryIO) -> DicomHeader:
    """Read any header that pydicom can read."""
    plain = inflated(file, path.name)  # pydicom would inflate it as well, but without a limit
    file.seek(0)
    dataset = dcmread(plain or file, stop_before_pixels=True, specific_tags=list(_WANTED), force=True)
    meta = dataset.file_meta
    values = {keyword: str(meta[tag].value).encode() for tag, keyword in _MEDIA_STORAGE.items() if tag in meta}
    for tag, keyword in _WANTED.items():
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.value is not None:
            swapped = keyword in _BINARY and not element.is_little_endian
            values[keyword] = element.value[::-1] if swapped else element.value
        elif element is not None and element.VR == "SQ" and element.value:
            values[keyword] = b"SQ"  # that it is there is all that counts
    if plain is not None:
        return DicomHeader(path, values, str(DeflatedExplicitVRLittleEndian), None, 0)
    if "TransferSyntaxUID" in meta:
        syntax = meta.TransferSyntaxUID
    else:  # a bare data set; pydicom has found out how it is encoded
        implicit, little = dataset.original_encoding
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    position, implicit = file.tell(), syntax == ImplicitVRLittleEndian
    tag, at, length = next(elements(file.read(12), 0, implicit=implicit), (0, 0, UNDEFINED))
    if tag != _PIXEL_DATA:  # also where they are big endian
        length = UNDEFINED
    return _located(path, values, str(syntax), position + at, length)


def _located(path: Path, values: dict[str, bytes], syntax: str, at: int, length: int) -> DicomHeader:
    if length == UNDEFINED:  # compressed, or not found: pydicom will have to look into it
        return DicomHeader(path, values, syntax, None, 0)
    return DicomHeader(path, values, syntax, at, length)
