"""Requests and answers on the wire, byte for byte as the stock Triton client writes and reads them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as stock
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from noduleserve.client.messages import OUTPUTS, refusal_of, release_info, score_of, score_request
from noduleserve.errors import ServerError
from noduleserve.preprocessing import BadRequest, Box, VolumeGeometry
from noduleserve.protocol import arrays_of
from noduleserve.results.outcome import ReleaseInfo

INFO = ReleaseInfo("ns-1", folds=2, calibrated=True, labels=("a.b", "a.c"))
_TYPES = {"f4": "FP32", "f8": "FP64", "i2": "INT16", "i4": "INT32", "O": "BYTES"}


def answer(**changed: Any) -> pb.ModelInferResponse:
    """The answer for one nodule, some outputs changed, or left out where None."""
    arrays: dict[str, Any] = {
        "MALIGNANCY": np.float32([[0.25]]),
        "MALIGNANCY_RAW": np.float32([[0.1, 0.2]]),
        "MALIGNANCY_CALIBRATED": np.float32([[0.2, 0.3]]),
        "SEMANTIC": np.float32([[0.6, 0.4]]),
        "EMBEDDING": np.arange(2 * 256, dtype=np.float32).reshape(1, 2, 256),
        "VIEW_ATTENTION": np.arange(18, dtype=np.float32).reshape(1, 2, 9),
        "RELEASE": np.array([["ns-1"]], object),
    } | changed
    response = pb.ModelInferResponse()
    for name, array in arrays.items():
        if array is not None:
            kind = "O" if array.dtype == object else array.dtype.str[1:]
            response.outputs.add(name=name, datatype=_TYPES[kind], shape=array.shape)
            raw = serialize_byte_tensor(array).item() if kind == "O" else array.tobytes()
            response.raw_output_contents.append(raw)
    return response


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("layout", ["plain", "a view", "big-endian"])
def test_a_request_is_what_the_stock_client_would_send(layout: str) -> None:
    voxels = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
    if layout == "a view":
        voxels = np.repeat(voxels, 2, axis=2)[:, ::-1, ::2].transpose(1, 0, 2)
    sent = voxels.astype(">i2") if layout == "big-endian" else voxels
    affine = np.array([[0.5, 0, 0, -1], [0, 0.6, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
    geometry = VolumeGeometry([50, 60, 70], affine)
    start = np.array([7, 8, 9])
    box = Box(start=start, stop=start + voxels.shape[::-1])
    request = score_request("17", sent, box, geometry, (1.25, -2.5, 1e-3))
    assert (request.model_name, request.id) == ("nodule_score", "17")
    assert [output.name for output in request.outputs] == list(OUTPUTS)
    wanted = {
        "VOXELS": ("INT16", voxels),
        "BOX_START": ("INT32", np.array([7, 8, 9], np.int32)),
        "VOLUME_SHAPE": ("INT32", np.array([50, 60, 70], np.int32)),
        "VOLUME_AFFINE": ("FP64", geometry.affine),
        "NODULE_CENTER": ("FP64", np.array([1.25, -2.5, 1e-3])),
    }
    assert [tensor.name for tensor in request.inputs] == list(wanted)
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        kind, array = wanted[tensor.name]
        theirs = stock.InferInput(tensor.name, [1, *array.shape], kind)
        theirs.set_data_from_numpy(np.ascontiguousarray(array[None]))
        assert tensor.datatype == kind
        assert list(tensor.shape) == [1, *array.shape]
        assert raw == theirs._get_content()


# ---------------------------------------------------------------- answers


def test_arrays_are_what_the_stock_client_reads() -> None:
    texts = np.array([["ns-1", ""], ["größer", "a\nb"]], object)
    response = answer(RELEASE=texts)
    ours, theirs = arrays_of(response), stock.InferResult(response)
    assert set(ours) == set(OUTPUTS)
    for name, array in ours.items():
        if name == "RELEASE":
            assert array.tolist() == texts.tolist()
        else:
            np.testing.assert_array_equal(array, theirs.as_numpy(name), strict=True)


def test_a_good_answer_becomes_a_score() -> None:
    score = score_of(answer(), INFO)
    assert score.malignancy == 0.25
    assert score.raw.tolist() == pytest.approx([0.1, 0.2])
    assert score.calibrated.tolist() == pytest.approx([0.2, 0.3])
    assert score.semantic.tolist() == pytest.approx([0.6, 0.4])
    assert score.embedding.shape == (2, 256)
    assert score.view_attention[1].tolist() == list(range(9, 18))
    assert score.release == "ns-1"


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_answer_without_an_output_is_malformed(name: str) -> None:
    with pytest.raises(ServerError, match=name) as raised:
        score_of(answer(**{name: None}), INFO)
    assert raised.value.code == "ANSWER_MALFORMED"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("MALIGNANCY", np.float32([[0.1], [0.2]])),  # two nodules, where one was asked for
        ("MALIGNANCY_RAW", np.float32([[0.1, 0.2, 0.3]])),
        ("MALIGNANCY_CALIBRATED", np.float32([[0.1]])),
        ("SEMANTIC", np.float32([[0.1, 0.2, 0.7]])),
        ("VIEW_ATTENTION", np.zeros((1, 2, 8), np.float32)),
        ("RELEASE", np.array(["ns-1"], object)),
        ("EMBEDDING", np.zeros((1, 3, 256), np.float32)),
    ],
)
def test_an_answer_of_another_shape_is_malformed(name: str, array: Any) -> None:
    with pytest.raises(ServerError, match=name) as raised:
        score_of(answer(**{name: array}), INFO)
    assert raised.value.code == "ANSWER_MALFORMED"


@pytest.mark.parametrize("malignancy", [np.nan, -0.01, 1.01, np.inf])
def test_a_malignancy_that_is_no_probability_is_malformed(malignancy: float) -> None:
    with pytest.raises(ServerError, match="not a probability") as raised:
        score_of(answer(MALIGNANCY=np.float32([[malignancy]])), INFO)
    assert raised.value.code == "ANSWER_MALFORMED"


@pytest.mark.parametrize("malignancy", [0.0, 1.0])
def test_the_ends_of_the_scale_are_probabilities(malignancy: float) -> None:
    assert score_of(answer(MALIGNANCY=np.float32([[malignancy]])), INFO).malignancy == malignancy


def test_an_answer_of_another_release_is_refused() -> None:
    with pytest.raises(ServerError, match=r"ns-2.*ns-1") as raised:
        score_of(answer(RELEASE=np.array([["ns-2"]], object)), INFO)
    assert raised.value.code == "RELEASE_CHANGED"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("message", "code", "what", "mend"),
    [
        ("[A_CODE] It is wrong. Mend: Put it right.", "A_CODE", "It is wrong.", "Put it right."),
        ("in ensemble 'nodule_score', [A_CODE] Wrong. Mend: Right.", "A_CODE", "Wrong.", "Right."),
        ("[request id: 7] input byte size mismatch", "SERVER_REFUSED", "[request id: 7] input byte size mismatch", ""),
        ("[A_CODE] No advice.", "A_CODE", "No advice.", ""),
        ("  ", "SERVER_REFUSED", "The server gave no reason.", ""),
        (
            "in ensemble 'nodule_score', [request id: 1] Server is stopping, scheduler for model has stopped accepting "
            "new inference requests",
            "SERVER_STOPPING",
            "The server was told to end before it scored this nodule.",
            "Score this nodule again when a server runs.",
        ),
        (
            "Request for unknown model: 'nodule_score' has no available versions",
            "SERVER_STOPPING",
            "The server was told to end before it scored this nodule.",
            "Score this nodule again when a server runs.",
        ),
    ],
)
def test_what_a_message_means(message: str, code: str, what: str, mend: str) -> None:
    refusal = refusal_of(message)
    assert (refusal.code, refusal.what, refusal.mend) == (code, what, mend)


def test_a_refusal_of_the_preprocessing_survives_the_way() -> None:
    sent = BadRequest("BOX_TOO_SMALL", "The box is x 1..2; the cube needs x 1..3.")
    got = refusal_of(f"in ensemble 'nodule_score', {sent}")
    assert (got.code, got.what, got.mend) == (sent.code, sent.what, sent.mend)


# ---------------------------------------------------------------- what a server says of itself


def described(text: str | None) -> pb.ModelConfigResponse:
    response = pb.ModelConfigResponse()
    response.config.name = "nodule_score"
    if text is not None:
        response.config.parameters["noduleserve"].string_value = text
    return response


FACTS = {"folds": 5, "calibrated": False, "labels": ["a.b"], "notice": "n"}


def test_release_info() -> None:
    info = release_info(described(json.dumps(FACTS | {"something": "new"})))
    assert vars(info) == vars(ReleaseInfo("", 5, False, ("a.b",), "n"))


@pytest.mark.parametrize(
    "text", [None, "", "no JSON", "[]", "{}", *(json.dumps({**FACTS, k: None}) for k in ("folds", "labels"))]
)
def test_a_model_that_does_not_describe_itself_is_not_ours(text: str | None) -> None:
    with pytest.raises(ServerError) as raised:
        release_info(described(text))
    assert raised.value.code == "SERVER_NOT_NODULESERVE"
