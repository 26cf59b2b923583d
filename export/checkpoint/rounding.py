"""What rounding did to a merged weight, kept so that it can be computed back bit for bit.

Taking an update off a merged weight and adding it again rounds twice, so the result may differ from the file in the
last places. The difference of the two numbers' bit patterns is small and takes one byte a weight instead of four.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_ESCAPE = -128  # in place of a difference that a byte does not hold


def differences(key: str, exact: NDArray[np.float32], computed: NDArray[np.float32]) -> dict[str, NDArray]:
    """The differences of bit patterns, under names that begin with `key`.

    Returns:
        KEY: int8, of the weight's shape, the bit pattern of `exact` minus that of `computed`; KEY.at and KEY.by:
        int32 [n], where in the flat weight a byte does not hold it, and the difference there, modulo 2**32.
        Nothing where there is no difference.
    """
    # Unsigned arithmetic goes round at 2**32 by definition, so every pair of patterns has a difference.
    wide = (exact.view(np.uint32) - computed.view(np.uint32)).view(np.int32)
    if not wide.any():
        return {}
    far = (wide < -127) | (wide > 127)
    tensors: dict[str, NDArray] = {key: np.where(far, _ESCAPE, wide).astype(np.int8)}
    if far.any():
        at = np.flatnonzero(far)
        tensors |= {f"{key}.at": at.astype(np.int32), f"{key}.by": wide.reshape(-1)[at]}
    return tensors


def restored(key: str, computed: NDArray[np.float32], tensors: Mapping[str, NDArray]) -> NDArray[np.float32]:
    """The exact weight again, from what `differences` gave.

    Raises:
        ValueError: the tensors do not fit the weight or each other.
    """
    if key not in tensors:
        return computed
    wide = tensors[key].astype(np.int32)
    if tensors[key].dtype != np.int8 or wide.shape != computed.shape:
        raise ValueError(f"{key} is {tensors[key].dtype} {list(wide.shape)}, not int8 {list(computed.shape)}")
    empty = np.zeros(0, np.int32)
    at, by = tensors.get(f"{key}.at", empty), tensors.get(f"{key}.by", empty)
    if at.dtype != np.int32 or by.dtype != np.int32:
        raise ValueError(f"{key}.at and {key}.by are not int32")
    if not np.array_equal(np.flatnonzero(wide == _ESCAPE), at) or at.shape != by.shape:
        raise ValueError(f"{key}.at and {key}.by do not name the weights that {key} leaves open")
    wide.reshape(-1)[at] = by
    return (computed.view(np.uint32) + wide.view(np.uint32)).view(np.float32)
