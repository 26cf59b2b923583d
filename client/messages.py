"""Nodules and scores as messages of Triton's gRPC protocol: the contract of nodule_score in both directions."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tritonclient.grpc import service_pb2 as pb

from noduleserve.errors import RequestRefused, ServerError
from noduleserve.preprocessing import Box, VolumeGeometry, parse_refusal
from noduleserve.protocol import ENSEMBLE, arrays_of, infer_request
from noduleserve.results.outcome import ReleaseInfo, Score

OUTPUTS = (
    "MALIGNANCY",
    "MALIGNANCY_RAW",
    "MALIGNANCY_CALIBRATED",
    "SEMANTIC",
    "EMBEDDING",
    "VIEW_ATTENTION",
    "RELEASE",
)


class _Saying(NamedTuple):
    """Words of Triton itself that mean something about the server, not about the nodule."""

    words: str
    code: str
    what: str
    mend: str

    @property
    def refusal(self) -> RequestRefused:
        return RequestRefused(self.code, self.what, self.mend)


def _ending(words: str) -> _Saying:
    """To a nodule that comes, or is on its way between two models, while Triton ends."""
    what = "The server was told to end before it scored this nodule."
    return _Saying(words, "SERVER_STOPPING", what, "Score this nodule again when a server runs.")


_SAYINGS = (
    _ending("Server is stopping"),
    _ending(f"Request for unknown model: '{ENSEMBLE}' has no available versions"),
    _Saying(
        "Exceeds maximum queue size",
        "SERVER_BUSY",
        "The server takes no more requests for now.",
        "Score this nodule again, or lower --in-flight.",
    ),
    # Triton 2.51 says so of a Python model whose process has died, answers nothing more with it, and stays "ready".
    _Saying(
        "is not healthy",
        "SERVER_BROKEN",
        "A model of the server has crashed; it stays ready, but scores nothing.",
        "Start the server again, and score this nodule again.",
    ),
)


def score_request(
    request_id: str,
    voxels: NDArray[np.int16],
    box: Box,
    geometry: VolumeGeometry,
    center: ArrayLike,
    priority: int = 0,
) -> pb.ModelInferRequest:
    """Ask for the score of one nodule.

    Args:
        request_id: comes back with the answer.
        voxels: Hounsfield units of the box, int16 [z, y, x].
        box: where they lie in the volume.
        geometry: of the whole volume.
        center: LPS millimetres (x, y, z).
        priority: of 1 and 2, 1 overtakes in the queues of a server that is set to it; 0 leaves it to the server.
    """
    request = infer_request(
        ENSEMBLE,
        request_id,
        {
            "VOXELS": ("INT16", voxels[None]),
            "BOX_START": ("INT32", box.start[None]),
            "VOLUME_SHAPE": ("INT32", geometry.shape[None]),
            "VOLUME_AFFINE": ("FP64", geometry.affine[None]),
            "NODULE_CENTER": ("FP64", np.asarray(center, np.float64)[None]),
        },
        OUTPUTS,
    )
    if priority:
        request.parameters["priority"].int64_param = priority
    return request


def score_of(response: pb.ModelInferResponse, info: ReleaseInfo) -> Score:
    """The score in the answer for one nodule.

    Raises:
        ServerError: ANSWER_MALFORMED, RELEASE_CHANGED.
    """
    arrays = arrays_of(response)
    folds, values = info.folds, len(info.labels)
    shapes = {
        "MALIGNANCY": (1, 1),
        "MALIGNANCY_RAW": (1, folds),
        "MALIGNANCY_CALIBRATED": (1, folds),
        "SEMANTIC": (1, values),
        "VIEW_ATTENTION": (1, folds, 9),
        "RELEASE": (1, 1),
    }
    wrong = [name for name, shape in shapes.items() if name not in arrays or arrays[name].shape != shape]
    if "EMBEDDING" not in arrays or arrays["EMBEDDING"].shape[:-1] != (1, folds):
        wrong.append("EMBEDDING")
    if wrong:
        raise ServerError(
            "ANSWER_MALFORMED",
            f"The answer lacks {', '.join(wrong)} in the shape that the release promises.",
            "Check that the server is a noduleserve release and nothing stands in between.",
        )
    release = str(arrays["RELEASE"][0, 0])
    if release != info.release:
        raise ServerError(
            "RELEASE_CHANGED",
            f"The answer is of release {release}; the run began with {info.release}.",
            "Start the run again, so that all of it is scored by one release.",
        )
    malignancy = float(arrays["MALIGNANCY"][0, 0])
    if not 0 <= malignancy <= 1:  # false for NaN as well
        raise ServerError("ANSWER_MALFORMED", f"MALIGNANCY is {malignancy}, not a probability.")
    return Score(
        malignancy=malignancy,
        raw=arrays["MALIGNANCY_RAW"][0],
        calibrated=arrays["MALIGNANCY_CALIBRATED"][0],
        semantic=arrays["SEMANTIC"][0],
        embedding=arrays["EMBEDDING"][0],
        view_attention=arrays["VIEW_ATTENTION"][0],
        release=release,
    )


def refusal_of(message: str) -> RequestRefused:
    """The error that a server's message for one request means.

    Triton's own refusals get the code SERVER_REFUSED, or SERVER_STOPPING, SERVER_BUSY or SERVER_BROKEN where they are
    about the server rather than the nodule.
    """
    found = parse_refusal(message)
    if found is None:
        for saying in _SAYINGS:
            if saying.words in message:
                return saying.refusal
        return RequestRefused("SERVER_REFUSED", message.strip() or "The server gave no reason.")
    code, sentence = found
    what, _, mend = sentence.partition(" Mend: ")
    return RequestRefused(code, what, mend)


def release_info(config: pb.ModelConfigResponse | Any) -> ReleaseInfo:
    """What a server says of the release it serves, from the configuration of nodule_score.

    Raises:
        ServerError: SERVER_NOT_NODULESERVE.
    """
    parameters = config.config.parameters
    try:
        facts = json.loads(parameters["noduleserve"].string_value)
        return ReleaseInfo(
            release="",
            folds=int(facts["folds"]),
            calibrated=bool(facts["calibrated"]),
            labels=tuple(facts["labels"]),
            notice=str(facts["notice"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ServerError(
            "SERVER_NOT_NODULESERVE",
            f"The server has a model nodule_score, but it does not describe itself as a noduleserve release ({error}).",
            "Check --server, and serve a release with `noduleserve serve`.",
        ) from None
