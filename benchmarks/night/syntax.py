"""A DICOM series that lies plainly on disk, compressed as an archive would deliver it."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ..decoders import BITS, ENCODERS

SYNTAXES: dict[str, UID] = {
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
}


def compress_series(folder: Path, name: str) -> None:
    """Compress every file of a folder in place, without loss; each slice one frame of at most 12 bits.

    Args:
        folder: of DICOM files with plain unsigned numbers.
        name: one of SYNTAXES.

    Raises:
        ModuleNotFoundError, RuntimeError: nothing here writes this syntax.
        ValueError: a number does not fit into 12 bits.
    """
    syntax = SYNTAXES[name]
    for path in sorted(folder.iterdir()):
        image = dcmread(path)
        stored = image.pixel_array
        if stored.max() >= 2**BITS:
            raise ValueError(f"{path.name} has numbers of more than {BITS} bits")
        image.file_meta.TransferSyntaxUID = syntax
        image.BitsStored, image.HighBit = BITS, BITS - 1
        image.PixelData = encapsulate([ENCODERS[syntax](stored)])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
        image.save_as(path, enforce_file_format=True)
