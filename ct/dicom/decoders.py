"""Which decoder reads which compressed transfer syntax, and what the numbers of a codestream mean.

All go through pydicom's plugins; `noduleserve bench decoders` times those that there are. Chosen for speed, for size
and for never having crashed on the damaged codestreams that `codestream` lets through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from .codestream import Codestream, parse_jpeg_2000, parse_jpeg_lossless, parse_jpeg_ls, parse_rle
from .fragments import PixelsDamaged
from .jpeg_lossless import check_used_up

_PERHAPS_LOSSY = {JPEG2000, HTJ2K}  # even where the coding could be reversed, since the end may have been cut off


@dataclass(frozen=True)
class Compression:
    """How one transfer syntax is read.

    Attributes:
        plugin: pydicom's name of the decoder.
        packages: that bring it, as pip wants them.
        parse: takes a frame apart; None for RLE, whose frames say nothing of themselves.
    """

    plugin: str
    packages: str
    parse: Callable[[bytes], Codestream] | None


_RLE = Compression("pydicom", "pydicom", None)
_LOSSLESS = Compression("gdcm", "python-gdcm", parse_jpeg_lossless)
_LS = Compression("pyjpegls", "pyjpegls", parse_jpeg_ls)
_JPEG_2000 = Compression("pylibjpeg", "pylibjpeg pylibjpeg-openjpeg", parse_jpeg_2000)

COMPRESSIONS: dict[UID, Compression] = {
    RLELossless: _RLE,
    JPEGLossless: _LOSSLESS,
    JPEGLosslessSV1: _LOSSLESS,
    JPEGLSLossless: _LS,
    JPEGLSNearLossless: _LS,
    JPEG2000Lossless: _JPEG_2000,
    JPEG2000: _JPEG_2000,
    HTJ2KLossless: _JPEG_2000,
    HTJ2KLosslessRPCL: _JPEG_2000,
    HTJ2K: _JPEG_2000,
}


def is_available(syntax: UID) -> bool:
    """Whether the decoder that COMPRESSIONS names for a syntax is installed."""
    decoder = get_decoder(syntax)
    return decoder.is_available and COMPRESSIONS[syntax].plugin in decoder.available_plugins


def take_apart(data: bytes, syntax: UID, rows: int, columns: int, bits_allocated: int) -> Codestream:
    """Hold one compressed frame against what the header says of it, before it is decoded.

    Raises:
        PixelsDamaged: it is damaged, or a picture of another size.
    """
    parse = COMPRESSIONS[syntax].parse
    stream = parse(data) if parse else parse_rle(data, rows, columns, bits_allocated)
    if (stream.rows, stream.columns) != (rows, columns):
        raise PixelsDamaged(
            f"the frame has {stream.rows} x {stream.columns} pixels, the header says {rows} x {columns}"
        )
    if syntax in _PERHAPS_LOSSY:
        return replace(stream, near=None)
    return stream


def decode(stream: Codestream, syntax: UID, plugin: str = "") -> NDArray[Any]:
    """The numbers of a frame as its decoder gives them, unsigned words [rows, columns], negative ones sign-extended.

    Args:
        stream: that `take_apart` has found right.
        syntax: transfer syntax.
        plugin: pydicom's name of the decoder; "" for the one of COMPRESSIONS.

    Raises:
        Exception: of many kinds, where the entropy-coded data are damaged.
    """
    container = next(bits for bits in (8, 16, 32) if stream.precision <= bits)
    decoded, about = get_decoder(syntax).as_buffer(
        encapsulate([stream.data], has_bot=False),
        index=0,
        validate=False,  # of what `take_apart` has looked at
        decoding_plugin=plugin or COMPRESSIONS[syntax].plugin,
        rows=stream.rows,
        columns=stream.columns,
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=container,
        bits_stored=stream.precision,
        pixel_representation=int(stream.signed),
        pixel_keyword="PixelData",
    )
    words = np.frombuffer(decoded, f"<u{int(about['bits_allocated']) // 8}")
    words = words.reshape(stream.rows, stream.columns)
    if stream.scan:
        check_used_up(words, stream.scan)
    return words


def numbers(words: NDArray[Any], stream: Codestream, bits_stored: int, high_bit: int, signed: bool) -> NDArray[Any]:
    """What the header makes of decoded words: integers that hold the numbers that were compressed.

    Where nothing was lost, words are bits, as if they had never been compressed: the header says which of them count
    and whether the first is a sign, whatever sign the codestream gives. That reads files right whose encoder took
    signed numbers for unsigned ones or the other way round. Lost bits of such files cannot be told from a change of
    sign, nor can the sign of a number that has fewer bits than the header says: both are refused where it matters.

    Args:
        words: as `decode` gives them, or any part of them.
        stream: that they come from.
        bits_stored, high_bit, signed: of the header.

    Raises:
        PixelsDamaged: the codestream and the header contradict each other in a way that numbers of `words` depend on.
    """
    lossy, exact = stream.near != 0, stream.precision == bits_stored
    if stream.precision > bits_stored and not (lossy and high_bit == bits_stored - 1):
        if lossy or stream.precision <= high_bit:
            raise PixelsDamaged("the bits of the codestream are not those that the header says")
        return stored_numbers(words, bits_stored, high_bit, signed)
    integers = words.view(f"{'i' if stream.signed else 'u'}{words.dtype.itemsize}")
    if stream.signed == signed:
        return integers
    half = 1 << (min(stream.precision, bits_stored) - 1)
    if stream.signed:
        doubtful = (integers < 0) & (lossy or not exact)
    elif exact and stream.near is not None:
        doubtful = (integers >= half - stream.near) & (integers < half + stream.near)
    else:
        doubtful = integers >= half
    if doubtful.any():
        raise PixelsDamaged("the header and the codestream disagree on whether numbers have a sign")
    return stored_numbers(words, stream.precision, stream.precision - 1, signed)


def stored_numbers(words: NDArray[Any], bits_stored: int, high_bit: int, signed: bool) -> NDArray[Any]:
    """Words as allocated, unsigned -> the numbers in them: `bits_stored` bits up to `high_bit`, signed or not."""
    as_signed = np.dtype(f"i{words.dtype.itemsize}")
    if bits_stored == 8 * words.dtype.itemsize:
        return words.view(as_signed) if signed else words
    found = (words >> (high_bit + 1 - bits_stored)) & ((1 << bits_stored) - 1)
    found = found.view(as_signed)  # at least one bit is free: unsigned numbers fit as well
    if signed:
        sign = 1 << (bits_stored - 1)
        found = (found ^ sign) - sign
    return found
