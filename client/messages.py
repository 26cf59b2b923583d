"""Nodules and scores as messages of Triton's gRPC protocol: the contract of nodule_score in both directions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tritonclient.grpc import service_pb2 as pb

from noduleserve.errors import RequestRefused, ServerError
from noduleserve.preprocessing import Box, VolumeGeometry, parse_refusal

from .results import ReleaseInfo, Score

ENSEMBLE = "nodule_score"
OUTPUTS = (
    "MALIGNANCY",
    "MALIGNANCY_RAW",
    "MALIGNANCY_CALIBRATED",
    "SEMANTIC",
    "EMBEDDING",
    "VIEW_ATTENTION",
    "RELEASE",
)
# What Triton says to a nodule that comes, or is on its way between two models, while it ends.
_ENDING = ("Server is stopping", f"Request for unknown model: '{ENSEMBLE}' has no available versions")
_NUMPY: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
}


def score_request(
    request_id: str, voxels: NDArray[np.int16], box: Box, geometry: VolumeGeometry, center: ArrayLike
) -> pb.ModelInferRequest:
    """Ask for the score of one nodule.

    Args:
        request_id: comes back with the answer.
        voxels: Hounsfield units of the box, int16 [z, y, x].
        box: where they lie in the volume.
        geometry: of the whole volume.
        center: LPS millimetres (x, y, z).
    """
    return infer_request(
        ENSEMBLE,
        request_id,
        {
            "VOXELS": ("INT16", voxels[None]),
            "BOX_START": ("INT32", box.start[None]),
            "VOLUME_SHAPE": ("INT32", geometry.shape[None]),
            "VOLUME_AFFINE": ("FP64", geometry.affine[None]),
            "NODULE_CENTER": ("FP64", np.asarray(center, np.float64)[None]),
        },
    )


def infer_request(
    model: str, request_id: str, inputs: dict[str, tuple[str, NDArray]], outputs: tuple[str, ...] = OUTPUTS
) -> pb.ModelInferRequest:
    """A request to any model: inputs as name -> (Triton type, array with the batch as first axis)."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, (datatype, array) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array, _NUMPY[datatype]).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def arrays_of(response: pb.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """The outputs of a response, strings as object arrays of str."""
    arrays: dict[str, NDArray[Any]] = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            arrays[output.name] = np.array(_strings(raw), object).reshape(output.shape)
        else:
            arrays[output.name] = np.frombuffer(raw, _NUMPY[output.datatype]).reshape(output.shape)
    return arrays


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

    Triton's own refusals get the code SERVER_REFUSED, or SERVER_STOPPING where it is about to end.
    """
    found = parse_refusal(message)
    if found is None and any(words in message for words in _ENDING):
        return RequestRefused(
            "SERVER_STOPPING",
            "The server was told to end before it scored this nodule.",
            "Score this nodule again when a server runs.",
        )
    if found is None:
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


def _strings(raw: bytes) -> list[str]:
    """Triton's BYTES: each string is preceded by its length, 4 bytes little endian."""
    strings, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        strings.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return strings
