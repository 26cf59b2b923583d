"""What the HTTP rivals are sent: one line of JSON with the geometry, then the box's voxels as they lie in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .base import Case


@dataclass(frozen=True, eq=False)
class Body:
    """A nodule as a server finds it in a request's body; see Case."""

    voxels: NDArray[np.int16]
    start: NDArray[np.int64]
    shape: NDArray[np.int64]
    affine: NDArray[np.float64]
    center: NDArray[np.float64]


def body_of(case: Case) -> bytes:
    """A case as a request's body."""
    geometry = {
        "voxels": case.voxels.shape,
        "start": case.box.start.tolist(),
        "shape": case.geometry.shape.tolist(),
        "affine": case.geometry.affine.tolist(),
        "center": list(case.center),
    }
    return b"".join((json.dumps(geometry).encode(), b"\n", case.voxels.astype("<i2", copy=False).tobytes()))


def parse(body: bytes) -> Body:
    """What a request's body holds; the voxels are a view of it."""
    end = body.index(b"\n")
    geometry = json.loads(body[:end])
    voxels = np.frombuffer(body, "<i2", offset=end + 1).reshape(geometry["voxels"])
    start, shape = (np.array(geometry[name], np.int64) for name in ("start", "shape"))
    return Body(voxels, start, shape, np.array(geometry["affine"]), np.array(geometry["center"]))
