"""Small series in many encodings, to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from dicom_writing import write_series
from enhanced_writing import enhanced
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SHAPE = (4, 36, 40)  # z, y, x; JPEG 2000 wants 32 at least
CENTER = (20.0, 18.0, 2.0)  # LPS mm, within every series
NATIVE = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
BY_PYDICOM = {  # GDCM's own encoder of RLE ends the process on some images
    "RLE": (RLELossless, "pydicom"),
    "JPEG-LS": (JPEGLSLossless, ""),
    "JPEG 2000": (JPEG2000Lossless, ""),
}
BY_IMAGECODECS: dict[str, tuple[UID, Callable[[NDArray[Any]], bytes]]] = {
    "JPEG lossless": (JPEGLosslessSV1, lambda words: imagecodecs.jpeg8_encode(words, lossless=True, predictor=1)),
    "HTJ2K": (HTJ2KLossless, lambda words: imagecodecs.htj2k_encode(words, reversible=True)),
}


def write_all(root: Path) -> dict[str, Path]:
    """Write a series of each encoding; name -> folder."""
    stored = np.random.default_rng(20261124).integers(24, 1424, SHAPE).astype(np.uint16)
    folders = {name: write_series(root / name, stored, syntax=syntax, edit=_edit) for name, syntax in NATIVE.items()}
    for name, (syntax, plugin) in BY_PYDICOM.items():
        folders[name] = write_series(root / name, stored, edit=_edit)
        for path in folders[name].iterdir():
            image = pydicom.dcmread(path)
            image.compress(syntax, generate_instance_uid=False, encoding_plugin=plugin)
            image.save_as(path)
    for name, (syntax, encode) in BY_IMAGECODECS.items():
        folders[name] = write_series(root / name, stored, edit=_edit)
        for path in folders[name].iterdir():
            image = pydicom.dcmread(path)
            image.PixelData = encapsulate([bytes(encode(image.pixel_array))])
            image["PixelData"].is_undefined_length, image["PixelData"].VR = True, "OB"
            image.file_meta.TransferSyntaxUID = syntax
            image.save_as(path)
    classic = write_series(root / "classic", stored, edit=_edit)
    folders["enhanced"] = root / "enhanced"
    folders["enhanced"].mkdir()
    frames = enhanced([pydicom.dcmread(path) for path in sorted(classic.iterdir())])
    frames.save_as(folders["enhanced"] / "enhanced.dcm", enforce_file_format=True)
    return folders


def _edit(number: int, image: FileDataset) -> None:
    image.RescaleIntercept = -1024
    image.SliceThickness, image.ConvolutionKernel = 1, "B30f"
