"""The smallest nodule there is: what a server makes of it proves that it scores, and tells its release."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from noduleserve.errors import NoduleserveError, ServerError
from noduleserve.preprocessing import VolumeGeometry, required_box
from noduleserve.protocol import arrays_of
from noduleserve.results.outcome import ReleaseInfo

from .messages import score_of, score_request
from .options import PRIORITIES
from .transports.base import Transport

_SIDE = 3  # voxels of 1 mm, around the origin


def probe_request(request_id: str) -> pb.ModelInferRequest:
    """Ask for the score of a synthetic volume of 3 x 3 x 3 mm; it overtakes what waits in the server."""
    affine = np.eye(4)
    affine[:3, 3] = -(_SIDE // 2)
    geometry, center = VolumeGeometry([_SIDE] * 3, affine), np.zeros(3)
    box = required_box(geometry, center)
    voxels = np.full(box.shape[::-1], -400, np.int16)
    return score_request(request_id, voxels, box, geometry, center, PRIORITIES["interactive"])


async def probed(transport: Transport, request_id: str, deadline: float) -> ReleaseInfo:
    """What a server is, its release id included, proved by an answer.

    Raises:
        ServerError: SERVER_UNREACHABLE, SERVER_NOT_NODULESERVE, SERVER_NOT_SCORING.
    """
    info = await transport.describe()
    try:
        response = await transport.ask(probe_request(request_id), deadline)
        release = arrays_of(response).get("RELEASE")
        info = replace(info, release=str(release.item()) if release is not None and release.size == 1 else "")
        score_of(response, info)
    except NoduleserveError as error:
        raise ServerError(
            "SERVER_NOT_SCORING",
            f"The server at {transport.address} is there, but does not score a test nodule ([{error.code}] "
            f"{error.sentence})",
            "See its log, and start it again with `noduleserve serve`.",
        ) from None
    return info
