"""Deflated DICOM (PS3.5 A.5), inflated in steps and up to a limit: a megabyte can hold a gigabyte of zeros."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from noduleserve.errors import SeriesError

MOST_BYTES = 2**30  # of a file once inflated: 2000 slices of 512 x 512
_STEP = 2**20
_MOST_META = 2**16  # bytes of the meta information
_META_AT = 132  # after preamble and mark
_GROUP_LENGTH = b"\x02\0\0\0UL\x04\0"


def inflated(file: BinaryIO, name: str) -> BytesIO | None:
    """A deflated file as it would be without deflation, Explicit VR Little Endian; None where it is not deflated.

    Args:
        file: opened for reading; the position that it is left at does not count.
        name: of the file, for the sentence.

    Raises:
        SeriesError: FILE_TOO_LARGE.
        ValueError, zlib.error: the deflated part is damaged or ends early.
    """
    file.seek(_META_AT)
    start = file.read(len(_GROUP_LENGTH) + 4)
    if len(start) < len(_GROUP_LENGTH) + 4 or not start.startswith(_GROUP_LENGTH):
        return None
    (length,) = struct.unpack_from("<L", start, len(_GROUP_LENGTH))
    meta = file.read(min(length, _MOST_META))
    if not _says_deflated(meta):
        return None
    file.seek(_META_AT + len(start) + length)
    return BytesIO(_plain_start() + _inflate(file, name))


def _says_deflated(meta: bytes) -> bool:
    """Whether the transfer syntax, (0002,0010), is the deflated one."""
    at = meta.find(b"\x02\0\x10\0UI")
    if at < 0:
        return False
    (length,) = struct.unpack_from("<H", meta.ljust(at + 8, b"\0"), at + 6)
    return meta[at + 8 : at + 8 + length].rstrip(b" \0") == DeflatedExplicitVRLittleEndian.encode()


def _inflate(file: BinaryIO, name: str) -> bytes:
    parts, size, stream = [], 0, zlib.decompressobj(-zlib.MAX_WBITS)
    while not stream.eof:
        data = stream.unconsumed_tail or file.read(_STEP)
        parts.append(stream.decompress(data, _STEP))
        if not data and not parts[-1]:
            raise ValueError("the deflated data set ends early")
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise SeriesError(
                "FILE_TOO_LARGE",
                f"{name} inflates to more than {MOST_BYTES / 2**30:g} GiB.",
                "Store the file without deflation (for example with dcmconv +te), or leave it out.",
            )
    return b"".join(parts)


def _plain_start() -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return b"\0" * 128 + b"DICM" + buffer.getvalue()
