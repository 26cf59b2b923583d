"""From the numbers that a file stores to Hounsfield units, the same for every format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_TISSUE = 3071  # the most that 12 bits hold from -1024 on; only metal lies above
AIR = -1024

_LOWEST, _HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
_SMALL = 2**30  # an intercept below this and a stored 16-bit number add up within int32


def to_hounsfield(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.int16]:
    """Stored numbers (any shape, finite) * slope + intercept, rounded to nearest, clipped into int16."""
    small_integers = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2
    if small_integers and slope == 1 and intercept.is_integer() and abs(intercept) < _SMALL:
        units = stored.astype(np.int32)
        units += int(intercept)
        return np.clip(units, _LOWEST, _HIGHEST, out=units).astype(np.int16)
    exact = np.multiply(stored, slope, dtype=np.float64)
    exact += intercept
    np.rint(exact, out=exact)
    return np.clip(exact, _LOWEST, _HIGHEST, out=exact).astype(np.int16)


def is_misread_padding(padding: tuple[int, int], signed: bool, slope: float, intercept: float) -> bool:
    """Whether words that stand for no measurement come out as more than HIGHEST_TISSUE, and so need `clear_padding`.

    Scanners put around the field of view what lies far below air, such as -2000. Read with the other sign that is
    63536: denser than metal, and the sharpest edge of the picture. Padding that comes out as air or below is harmless
    as it is. In between it could be tissue, which is never overwritten: such padding stays what it is.

    Args:
        padding: lowest and highest word, as 16 bits.
        signed, slope, intercept: how stored words become Hounsfield units.
    """
    ends = np.array(padding, np.uint16)
    return bool((to_hounsfield(_numbers(ends, signed), slope, intercept) > HIGHEST_TISSUE).any())


def clear_padding(
    units: NDArray[np.int16],
    words: NDArray[np.uint16],
    padding: tuple[int, int],
    signed: bool,
    slope: float,
    intercept: float,
) -> None:
    """Set to AIR, in place, where a word is padding and as a whole comes out as more than HIGHEST_TISSUE.

    Args:
        units: Hounsfield units, any shape.
        words: the 16 bits that each was stored in, bits that are not stored included; of the same shape.
        padding, signed, slope, intercept: as above.
    """
    low, high = padding
    through_zero = (low ^ high) >> 15  # such a range means one thing signed and another unsigned: only its ends count
    found = (words == low) | (words == high) if through_zero else (words >= low) & (words <= high)
    if found.any():
        units[found & (to_hounsfield(_numbers(words, signed), slope, intercept) > HIGHEST_TISSUE)] = AIR


def _numbers(words: NDArray[np.uint16], signed: bool) -> NDArray[Any]:
    return words.view(np.int16) if signed else words
