"""From the numbers that a file stores to Hounsfield units, the same for every format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
