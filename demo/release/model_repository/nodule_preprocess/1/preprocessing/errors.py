"""What may be wrong with one nodule's request, as a literal table of stable codes.

Every refusal of the preprocessing is a :class:`BadRequest`: a code that programs match on, a sentence that says
what is wrong, and a sentence that says how to mend it.  Its text travels through Triton as
``[CODE] what is wrong. Mend: what to do.`` and :func:`parse_refusal` takes it apart again at the other end.
"""

from __future__ import annotations

import re

# code -> what the caller should do about it
MENDS: dict[str, str] = {
    "AXES_NOT_THREE": "Send VOXELS as one box with the axes [z,y,x], each at least 1 voxel long.",
    "VOLUME_SHAPE_INVALID": "Send VOLUME_SHAPE as three positive voxel counts in the order x, y, z.",
    "AFFINE_NOT_FINITE": "Send VOLUME_AFFINE without NaN or infinity.",
    "AFFINE_NOT_AFFINE": "Send VOLUME_AFFINE as a 4x4 matrix whose last row is 0, 0, 0, 1.",
    "AFFINE_SINGULAR": "Send an affine whose three voxel axes point in independent directions.",
    "VOXEL_TOO_LARGE": "Check the affine's unit (millimetres), or use a thinner reconstruction of the scan.",
    "CENTER_NOT_FINITE": "Send NODULE_CENTER as three finite numbers, LPS millimetres.",
    "CENTER_OUTSIDE": "Check that the centre is in LPS millimetres (not RAS, not voxels) and belongs to this series.",
    "BOX_OUTSIDE": "Send BOX_START and VOXELS so that the box lies within VOLUME_SHAPE.",
    "BOX_TOO_SMALL": "Send at least the voxels that the sentence names (the part of the 100-mm cube that is "
    "within the volume), or the whole volume.",
}


class BadRequest(ValueError):
    """A request that gets a sentence instead of a number.

    Attributes:
        code: a key of :data:`MENDS`; stable over releases.
        what: what is wrong, one sentence without patient data.
        mend: what to do about it.
    """

    def __init__(self, code: str, what: str) -> None:
        self.code, self.what, self.mend = code, what, MENDS[code]
        super().__init__(f"[{code}] {what} Mend: {self.mend}")


_REFUSAL = re.compile(r"\[([A-Z][A-Z0-9_]+)\] (.*)", re.DOTALL)


def parse_refusal(message: str) -> tuple[str, str] | None:
    """Find code and sentence in an error message, whatever a server has put before them; None if not there."""
    found = _REFUSAL.search(message)
    return (found.group(1), found.group(2).strip()) if found else None
