"""UIDs of what noduleserve describes: under 2.25, so that no registration is needed."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("5c1f6a52-6f0e-5d0b-9a5e-2f1c7b1f4a8d")  # noduleserve's own, for ever


def stable_uid(*names: str) -> str:
    """A UID that follows from names alone: the same names give the same UID in every run and on every machine."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(names)).int}"


def new_uid() -> str:
    """A UID that nothing else has."""
    return f"2.25.{uuid.uuid4().int}"


def tracking_uid(series_uid: str, nodule_id: str, center: tuple[float, float, float]) -> str:
    """The UID by which a nodule is followed: of its series, its id and its centre (LPS millimetres).

    Coordinates count to a tenth of a micrometre, so that how a table prints them changes nothing.
    """
    at = (f"{round(coordinate, 4) + 0.0:.4f}" for coordinate in center)  # adding 0 turns -0 into 0
    return stable_uid("nodule", series_uid, nodule_id, *at)
