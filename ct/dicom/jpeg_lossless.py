"""Whether a picture uses up the lossless JPEG scan that it was decoded from, to the last bit.

Where data are missing, decoders of JPEG make the rest of the picture up and say nothing. But the numbers of a picture
tell how many bits each was coded in, so that their sum must be the length of the scan (ISO 10918-1 annex H).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fragments import PixelsDamaged

# of each difference modulo 2**16: the bits of its amount
_CATEGORY = np.frexp(np.abs(np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)))[1].astype(np.intp)
_SPARE_BYTES = 2  # that an encoder may leave at the end of a scan


@dataclass(frozen=True)
class LosslessScan:
    """The only scan of a lossless JPEG codestream.

    Attributes:
        code_bits: length of the Huffman code of each category of differences, 0 to 16; 0 where there is none.
        predictor: 1 to 7.
        precision: bits of each number.
        interval_rows: rows between restart markers; 0 without any.
        parts: bytes of entropy-coded data of each restart interval, without what is stuffed in between.
    """

    code_bits: tuple[int, ...]
    predictor: int
    precision: int
    interval_rows: int
    parts: tuple[int, ...]


def check_used_up(words: NDArray[Any], scan: LosslessScan) -> None:
    """Hold a decoded picture, unsigned [rows, columns], against the length of its scan.

    Raises:
        PixelsDamaged: data are missing, or damaged so that decoding lost its place.
    """
    differences = _differences(words.astype(np.int32), scan)
    row_bits = _bits_of_differences(scan)[differences & 0xFFFF].sum(axis=1, dtype=np.int64)
    starts = np.arange(0, len(words), scan.interval_rows or len(words))
    needed = -(-np.add.reduceat(row_bits, starts) // 8)
    if len(needed) == len(scan.parts):
        spare = np.array(scan.parts) - needed
        if (spare >= 0).all() and (spare <= _SPARE_BYTES).all():
            return
    raise PixelsDamaged("compressed data are missing or damaged")


def _differences(numbers: NDArray[np.int32], scan: LosslessScan) -> NDArray[np.int32]:
    """What each number differs by from its prediction."""
    left, above, corner = numbers[1:, :-1], numbers[:-1, 1:], numbers[:-1, :-1]
    match scan.predictor:
        case 1:
            predicted = left
        case 2:
            predicted = above
        case 3:
            predicted = corner
        case 4:
            predicted = left + above - corner
        case 5:
            predicted = left + ((above - corner) >> 1)
        case 6:
            predicted = above + ((left - corner) >> 1)
        case _:
            predicted = (left + above) >> 1
    differences = np.empty_like(numbers)
    differences[1:, 1:] = numbers[1:, 1:] - predicted
    differences[1:, 0] = numbers[1:, 0] - numbers[:-1, 0]
    first = slice(0, None, scan.interval_rows or len(numbers))  # rows that begin anew
    differences[first, 0] = numbers[first, 0] - (1 << (scan.precision - 1))
    differences[first, 1:] = numbers[first, 1:] - numbers[first, :-1]
    return differences


def _bits_of_differences(scan: LosslessScan) -> NDArray[np.int32]:
    """Bits that a difference, modulo 2**16, is coded in: the code of its category, and as many as the category says."""
    bits = np.array([length + (category if category < 16 else 0) for category, length in enumerate(scan.code_bits)])
    return bits[_CATEGORY].astype(np.int32)
