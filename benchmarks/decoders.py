"""Every decoder that is installed, on one slice of the phantom in every compressed transfer syntax that is lossless.

A decoder that does not give back every voxel is not timed but named.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import get_decoder, get_encoder
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from noduleserve.ct.dicom.decoders import COMPRESSIONS, decode, numbers, take_apart
from noduleserve.demo.phantom import make_phantom

from .measure import interleaved
from .record.record import Line, Plot, Table

BITS = 12  # of the 16 that each number fills, as scanners store them
Encode = Callable[[NDArray[np.uint16]], bytes]


@dataclass(frozen=True)
class DecoderFigure:
    """How long one decoder takes for one slice.

    Attributes:
        syntax: name of the transfer syntax.
        plugin: pydicom's name of the decoder.
        chosen: whether it is the one that reads series.
        seconds: median.
        ratio: how many times faster than the slowest decoder of this syntax.
        size: of the compressed slice, as a share of the uncompressed one.
    """

    syntax: str
    plugin: str
    chosen: bool
    seconds: float
    ratio: float
    size: float


def bench_decoders(turns: int = 7, size: int = 512) -> tuple[list[DecoderFigure], list[str]]:
    """Time the decoders of every syntax, in turns.

    Args:
        turns: how often each is timed.
        size: rows and columns of the slice.

    Returns:
        Figures, and a sentence for whatever was left out.
    """
    stored = phantom_slice(size)
    figures, absent = [], []
    for syntax, encode in ENCODERS.items():
        try:
            data = encode(stored)
        except (ModuleNotFoundError, RuntimeError) as error:
            absent.append(f"Left out: {syntax.name}, since nothing here writes it ({type(error).__name__}).")
            continue
        figures += _figures(syntax, data, stored, turns, absent)
    return figures, absent


def decoders_table(figures: Sequence[DecoderFigure]) -> Table:
    """The figures for a record."""
    rows = [(f.syntax, f.plugin, f.chosen, f.seconds * 1e3, f.ratio, f.size) for f in figures]
    return Table(
        name="decoders",
        title="A slice, by transfer syntax and decoder",
        columns=("transfer_syntax", "decoder", "used", "slice_ms", "times_faster_than_slowest", "size_share"),
        rows=rows,
        keys=("transfer_syntax", "decoder"),
        better={"slice_ms": "lower"},
    )


def decoders_plot(figures: Sequence[DecoderFigure]) -> Plot:
    """Milliseconds of a slice, a group of bars for each transfer syntax."""
    lines = []
    for plugin in dict.fromkeys(f.plugin for f in figures):
        mine = [f for f in figures if f.plugin == plugin]
        lines.append(Line(plugin, [f.syntax for f in mine], [f.seconds * 1e3 for f in mine]))
    return Plot("decoders", "Decoding a slice", "", "ms, median", lines, kind="bars")


def phantom_slice(size: int) -> NDArray[np.uint16]:
    """A slice through the phantom's nodules, uint16 [size, size], BITS bits stored: Hounsfield units + 1024."""
    spacing = 360 / size
    voxels = make_phantom(shape_xyz=(size, size, 8), spacing_xyz=(spacing, spacing, 30.0)).voxels
    return (voxels[4].astype(np.int32) + 1024).clip(0, 2**BITS - 1).astype(np.uint16)


def _figures(
    syntax: UID, data: bytes, stored: NDArray[np.uint16], turns: int, absent: list[str]
) -> list[DecoderFigure]:
    stream = take_apart(data, syntax, stored.shape[0], stored.shape[1], bits_allocated=16)
    ways: dict[str, Callable[[], NDArray[Any]]] = {}
    for plugin in get_decoder(syntax).available_plugins:
        found = numbers(decode(stream, syntax, plugin), stream, BITS, BITS - 1, signed=False)
        if np.array_equal(found, stored):
            ways[plugin] = partial(decode, stream, syntax, plugin)
        else:
            absent.append(f"Left out: {plugin} for {syntax.name}, since it gives other voxels back.")
    times = {plugin: statistics.median(seconds) for plugin, seconds in interleaved(ways, turns).items()}
    slowest, size = max(times.values(), default=0.0), len(data) / stored.nbytes
    return [
        DecoderFigure(syntax.name, plugin, plugin == COMPRESSIONS[syntax].plugin, seconds, slowest / seconds, size)
        for plugin, seconds in sorted(times.items(), key=lambda item: item[1])
    ]


def _pydicom(syntax: UID, plugin: str) -> Encode:
    def encode(stored: NDArray[np.uint16]) -> bytes:
        return get_encoder(syntax).encode(
            stored.tobytes(),
            encoding_plugin=plugin,
            rows=stored.shape[0],
            columns=stored.shape[1],
            number_of_frames=1,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=BITS,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )

    return encode


def _jpeg_lossless(predictor: int) -> Encode:
    def encode(stored: NDArray[np.uint16]) -> bytes:
        import imagecodecs

        return bytes(imagecodecs.jpeg8_encode(stored, lossless=True, predictor=predictor, bitspersample=BITS))

    return encode


def _htj2k(stored: NDArray[np.uint16]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.htj2k_encode(stored, reversible=True))


ENCODERS: dict[UID, Encode] = {
    RLELossless: _pydicom(RLELossless, "pydicom"),
    JPEGLossless: _jpeg_lossless(predictor=4),
    JPEGLosslessSV1: _jpeg_lossless(predictor=1),
    JPEGLSLossless: _pydicom(JPEGLSLossless, "pyjpegls"),
    JPEG2000Lossless: _pydicom(JPEG2000Lossless, "pylibjpeg"),
    HTJ2KLossless: _htj2k,
}
