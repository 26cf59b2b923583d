"""The nine views as pictures: how each is called, which way it lies in the patient, and its PNG."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noduleserve.preprocessing.views import VIEW_NAMES

# Where each axis of the cube (z, y, x) leads: letters of its low and of its high end.
_ENDS = (("I", "S"), ("A", "P"), ("R", "L"))
_ORTHOGONAL = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis each looks along
_TURNED = re.compile(r"r(\d)(\d)\[(.+),(.+),(.+)\]")
_WORDS = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}


@dataclass(frozen=True)
class ViewFacts:
    """How a view is called and which way it lies, as the page shows it.

    Attributes:
        name: in plain words.
        technical: its name in VIEW_NAMES.
        flip: shown upside down against its array, so that the head is up.
        top, bottom, left, right: letters of the patient's directions at the edges as shown.
    """

    name: str
    technical: str
    flip: bool
    top: str
    bottom: str
    left: str
    right: str

    @property
    def orientation(self) -> str:
        """The edges in words, for those who cannot see the letters."""
        edges = (("top", self.top), ("bottom", self.bottom), ("left", self.left), ("right", self.right))
        return ", ".join(f"{edge}: {'-'.join(_WORDS[way] for way in ways)}" for edge, ways in edges)


def png_uri(view: NDArray[np.float32]) -> str:
    """A view, 0..1, as an 8-bit grey PNG in a data URI; what the spline overshoots is clipped."""
    grey = np.rint(np.clip(np.nan_to_num(view), 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


@cache
def view_facts() -> tuple[ViewFacts, ...]:
    """Plain name and orientation of each view, in the order of VIEW_NAMES and worked out from it."""
    seen: Counter[str] = Counter()
    facts = []
    for technical in VIEW_NAMES:
        if technical in _ORTHOGONAL:
            rows, columns = (_ENDS[axis] for axis in range(3) if axis != _ORTHOGONAL[technical])
            facts.append(_facts(technical, technical, rows, columns))
            continue
        pair, rows, columns = _turned(technical)
        seen[pair] += 1
        facts.append(_facts(f"oblique {pair}, {'ab'[seen[pair] - 1]}", technical, rows, columns))
    return tuple(facts)


def _turned(technical: str) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """The turned axes' names, and the ends (low, high) of the view's rows and columns."""
    match = _TURNED.fullmatch(technical)
    if match is None:
        raise ValueError(f"view name {technical!r} is neither a plane nor a turned plane")
    p, q = int(match[1]), int(match[2])
    ends = list(_ENDS)
    # After the turn by 45 degrees, axis q leads along +p +q, axis p along +p -q.
    ends[q] = (_ENDS[p][0] + _ENDS[q][0], _ENDS[p][1] + _ENDS[q][1])
    ends[p] = (_ENDS[p][0] + _ENDS[q][1], _ENDS[p][1] + _ENDS[q][0])
    rows, columns = (ends[axis] for axis in range(3) if match[3 + axis] == ":")
    return f"{'zyx'[p]}-{'zyx'[q]}", rows, columns


def _facts(name: str, technical: str, rows: tuple[str, str], columns: tuple[str, str]) -> ViewFacts:
    flip = "I" in rows[0]  # the cube's z runs from foot to head, so that such a view lies head down
    top, bottom = reversed(rows) if flip else rows
    return ViewFacts(name, technical, flip, top, bottom, left=columns[0], right=columns[1])
