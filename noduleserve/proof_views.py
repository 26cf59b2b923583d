"""The nodules of a parity proof: those of a worklist, or of the phantom where there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noduleserve.ct.open_volume import open_volume
from noduleserve.ct.volume import Volume
from noduleserve.errors import WorklistError
from noduleserve.preprocessing import BadRequest, required_box, views_of_request
from noduleserve.worklist.table import Nodule, read_worklist

PHANTOM = 7  # the seed


def views_of(nodules: Sequence[Nodule]) -> NDArray[np.float32]:
    """The nine views of each nodule, [N,9,50,50], read from its series.

    Raises:
        WorklistError, SeriesError: what is wrong with which: a proof on fewer nodules than were named is another proof.
    """
    place, volume, views = None, None, []
    for nodule in nodules:
        if nodule.problem or nodule.center is None:
            raise WorklistError("PROOF_NODULE", f"Nodule {nodule.nodule_id}: {nodule.problem}", "Mend or leave it out.")
        if (nodule.image_path, nodule.series_uid) != place:
            place = nodule.image_path, nodule.series_uid
            volume = open_volume(*place)
        assert volume
        views.append(_views(volume, nodule.center, nodule.nodule_id))
    if not views:
        raise WorklistError("PROOF_NODULE", "The worklist has no nodules.", "Name one that has.")
    return np.stack(views)


def _views(volume: Volume, center: tuple[float, float, float], nodule_id: str) -> NDArray[np.float32]:
    geometry = volume.geometry
    try:
        box = required_box(geometry, center)
        return views_of_request(volume.read_box(box), box.start, geometry.shape, geometry.affine, center)
    except BadRequest as refusal:
        raise WorklistError(refusal.code, f"Nodule {nodule_id}: {refusal.what}", refusal.mend) from None


def phantom_views() -> NDArray[np.float32]:
    """The views of five nodules of a synthetic chest CT."""
    from noduleserve.demo.command import make_worklist

    with tempfile.TemporaryDirectory() as folder:
        return views_of(read_worklist(make_worklist(Path(folder), PHANTOM)))
