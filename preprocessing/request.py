"""One nodule's request, checked and turned into views: what nodule_preprocess does for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .box import Box, required_box
from .cube import cut_cube
from .errors import BadRequest
from .geometry import VolumeGeometry
from .views import BAND, views_of_band, window

PREPROCESSING_VERSION = "1"  # part of a result's identity: raise it when a view changes by more than rounding


def views_of_request(
    voxels: NDArray[np.int16],
    box_start: ArrayLike,
    volume_shape: ArrayLike,
    volume_affine: ArrayLike,
    nodule_center: ArrayLike,
) -> NDArray[np.float32]:
    """The nine views of one nodule, or a BadRequest that says why there are none.

    Args:
        voxels: Hounsfield units of a native box, int16 [z, y, x].
        box_start: voxel index (x, y, z) of voxels[0, 0, 0] in the volume, [3].
        volume_shape: voxels of the whole volume (x, y, z), [3].
        volume_affine: voxel index (x, y, z, 1) -> patient LPS millimetres, [4, 4].
        nodule_center: LPS millimetres (x, y, z), [3].

    Returns:
        float32 [9, 50, 50], 0..1.

    Raises:
        BadRequest: any code of `errors.MENDS`.
    """
    if voxels.ndim != 3 or 0 in voxels.shape:
        raise BadRequest("AXES_NOT_THREE", f"VOXELS has the shape {list(voxels.shape)}.")
    geometry = VolumeGeometry(volume_shape, volume_affine)
    needed = required_box(geometry, nodule_center)
    given = np.asarray(box_start)
    if given.shape != (3,) or not np.issubdtype(given.dtype, np.integer):
        raise BadRequest("BOX_OUTSIDE", f"BOX_START is {given.tolist()}, not three whole numbers.")
    start = given.astype(np.int64)
    sent = Box(start=start, stop=start + np.array(voxels.shape[::-1], np.int64))
    if (sent.start < 0).any() or (sent.stop > geometry.shape).any():
        size = " x ".join(str(n) for n in geometry.shape.tolist())
        raise BadRequest("BOX_OUTSIDE", f"The box ({sent}) reaches beyond the volume of {size} voxels.")
    if not sent.covers(needed):
        raise BadRequest("BOX_TOO_SMALL", f"The box is {sent}; the cube around this nodule needs {needed}.")
    return views_of_band(window(cut_cube(voxels, sent.start, geometry, nodule_center, BAND)))
