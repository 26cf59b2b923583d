"""Requests that deserve no number get a code and a sentence, and harm nobody beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from serving import Answer, Inputs, Refused, Serving, Wire, batched, inputs_of, request_of, scored

from noduleserve.client.messages import refusal_of
from noduleserve.ct.volume import Volume
from noduleserve.demo.phantom import Phantom
from noduleserve.preprocessing import Box, required_box

Edit = Callable[[Inputs], Inputs]


@pytest.fixture(scope="module")
def wire(untrained: Serving) -> Iterator[Wire]:
    with Wire(untrained.address) as connection:
        yield connection


@pytest.fixture(scope="module")
def good(phantom: Phantom, phantom_volume: Volume) -> list[Inputs]:
    """The five nodules of the phantom, their boxes of one shape."""
    boxes = [required_box(phantom_volume.geometry, nodule.center_lps) for nodule in phantom.nodules]
    size = np.max([box.shape for box in boxes], axis=0)
    starts = [np.minimum(box.start, phantom_volume.geometry.shape - size) for box in boxes]
    larger = [Box(start=start, stop=start + size) for start in starts]
    return [inputs_of(phantom_volume, n.center_lps, b) for n, b in zip(phantom.nodules, larger, strict=True)]


@pytest.fixture(scope="module")
def right(wire: Wire, good: list[Inputs]) -> list[Answer]:
    """The answers to them, asked one after the other."""
    return [wire.unary(request_of(inputs)) for inputs in good]


def changed(**tensors: Any) -> Edit:
    """Put other values into some inputs: a function of the old array each."""
    return lambda inputs: inputs | {n: (inputs[n][0], change(inputs[n][1])) for n, change in tensors.items()}


def put(index: Any, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[index] = value
        return array

    return change


def without(name: str) -> Edit:
    return lambda inputs: {key: value for key, value in inputs.items() if key != name}


# What our own checks refuse: the change, the code, words of the sentence.
OURS: dict[str, tuple[Edit, str, str]] = {
    "empty box": (changed(VOXELS=lambda v: v[:, :0]), "AXES_NOT_THREE", "each at least 1 voxel long"),
    "centre outside": (changed(NODULE_CENTER=lambda c: c + 500), "CENTER_OUTSIDE", "of a volume of 192 x 144 x 96"),
    "box too small": (changed(VOXELS=lambda v: v[:, :8]), "BOX_TOO_SMALL", "the cube around this nodule needs"),
    "box elsewhere": (
        changed(BOX_START=lambda s: np.where(s < 20, s + 20, s - 20)),
        "BOX_TOO_SMALL",
        "this nodule needs",
    ),
    "negative start": (changed(BOX_START=put((0, 2), -1)), "BOX_OUTSIDE", "reaches beyond the volume"),
    "box beyond the end": (changed(BOX_START=put((0, 0), 150)), "BOX_OUTSIDE", "reaches beyond the volume"),
    "no volume": (changed(VOLUME_SHAPE=put((0, 1), 0)), "VOLUME_SHAPE_INVALID", "[192, 0, 96]"),
    "singular affine": (
        changed(VOLUME_AFFINE=lambda a: a @ np.diag([1.0, 0.0, 1.0, 1.0])),
        "AFFINE_SINGULAR",
        "do not span a volume",
    ),
    "axes in a plane": (
        changed(VOLUME_AFFINE=put((0, slice(0, 3), 1), [1.8, 0.0, 0.0])),
        "AFFINE_SINGULAR",
        "do not span a volume",
    ),
    "not affine": (changed(VOLUME_AFFINE=put((0, 3, 0), 0.5)), "AFFINE_NOT_AFFINE", "last row is [0.5, 0.0, 0.0, 1.0]"),
    "NaN in the affine": (changed(VOLUME_AFFINE=put((0, 0, 3), np.nan)), "AFFINE_NOT_FINITE", "not a finite number"),
    "NaN in the centre": (changed(NODULE_CENTER=put((0, 1), np.nan)), "CENTER_NOT_FINITE", "nan"),
    "infinite centre": (changed(NODULE_CENTER=put((0, 1), np.inf)), "CENTER_NOT_FINITE", "inf"),
    "voxels of 10.01 mm": (changed(VOLUME_AFFINE=put((0, 2, 2), 10.01)), "VOXEL_TOO_LARGE", "the limit is 10 mm"),
}

# What Triton refuses before any of our code sees it: the change and Triton's sentence.
TRITONS: dict[str, tuple[Edit, str]] = {
    "wrong type": (
        lambda inputs: inputs | {"NODULE_CENTER": ("INT16", inputs["NODULE_CENTER"][1].astype("<i2"))},
        "inference input 'NODULE_CENTER' data-type is 'INT16', but model 'nodule_score' expects 'FP64'",
    ),
    "too many axes": (
        changed(VOXELS=lambda v: v[None]),
        "unexpected shape for input 'VOXELS' for model 'nodule_score'. Expected [-1,-1,-1,-1], got [1,1,",
    ),
    "two numbers for a centre": (
        changed(NODULE_CENTER=lambda c: c[:, :2]),
        "unexpected shape for input 'NODULE_CENTER' for model 'nodule_score'. Expected [-1,3], got [1,2]",
    ),
    "no batch axis": (changed(VOXELS=lambda v: v[0]), "batch size does not match other inputs for 'nodule_score'"),
    "no centre": (without("NODULE_CENTER"), "missing required input(s) ['NODULE_CENTER']"),
    "nine nodules": (
        lambda inputs: batched([inputs] * 9),
        "inference request batch-size must be <= 8 for 'nodule_score'",
    ),
}


@pytest.mark.parametrize("case", OURS)
def test_what_our_own_checks_say(wire: Wire, good: list[Inputs], case: str) -> None:
    edit, code, words = OURS[case]
    unary = wire.unary(request_of(edit(good[0])))
    streamed = wire.stream([request_of(edit(good[0]), "the-id")])["the-id"]
    for answer in (unary, streamed):
        assert isinstance(answer, Refused)
        assert answer.code == code
        assert words in answer.text
        refusal = refusal_of(answer.text)
        assert refusal.code == code
        assert refusal.what.endswith(".")
        assert refusal.mend.endswith(".")
        assert "nodule_score" not in refusal.sentence  # what Triton puts before it is no news for a reader
    assert isinstance(unary, Refused)
    assert unary.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize("case", TRITONS)
def test_what_triton_says(wire: Wire, good: list[Inputs], case: str) -> None:
    edit, words = TRITONS[case]
    unary = wire.unary(request_of(edit(good[0])))
    streamed = wire.stream([request_of(edit(good[0]), "the-id")])["the-id"]
    for answer in (unary, streamed):
        assert isinstance(answer, Refused)
        assert words in answer.text
        assert refusal_of(answer.text).code == "SERVER_REFUSED"
        assert words in refusal_of(answer.text).what
    assert isinstance(unary, Refused)
    assert unary.status == "INVALID_ARGUMENT"


def assert_same_scores(answer: Answer, wanted: Answer) -> None:
    (got,), (right,) = scored([answer]), scored([wanted])
    for name in ("MALIGNANCY_RAW", "MALIGNANCY_CALIBRATED", "SEMANTIC", "VIEW_ATTENTION", "EMBEDDING"):
        np.testing.assert_allclose(got[name], right[name], atol=1e-6, rtol=0)


def test_good_requests_beside_bad_ones_get_their_scores(
    wire: Wire, untrained: Serving, good: list[Inputs], right: list[Answer]
) -> None:
    cases = list(OURS.items())
    batches = wire.batches_of("nodule_preprocess")
    with ThreadPoolExecutor(8) as threads:
        for start in range(12):
            bad = [cases[(start * 4 + i) % len(cases)][1] for i in range(4)]
            requests, wanted = [], []
            for i, (edit, code, _) in enumerate(bad):
                nodule = (start + i) % 5
                requests += [request_of(good[nodule]), request_of(edit(good[nodule]))]
                wanted += [right[nodule], code]
            for answer, want in zip(threads.map(wire.unary, requests), wanted, strict=True):
                if isinstance(want, str):
                    assert isinstance(answer, Refused)
                    assert answer.code == want
                else:
                    assert_same_scores(answer, want)
    formed = {size for size, n in wire.batches_of("nodule_preprocess").items() if n > batches.get(size, 0)}
    assert max(formed) > 1  # else good and bad never met in one batch


def test_a_stream_of_good_and_bad_loses_no_answer(wire: Wire, good: list[Inputs], right: list[Answer]) -> None:
    edits = [edit for edit, _, _ in OURS.values()] + [edit for edit, _ in TRITONS.values()]
    requests = []
    for number in range(100):
        inputs = good[number % 5]
        requests.append(request_of(edits[number // 2 % len(edits)](inputs) if number % 2 else inputs, str(number)))
    answers = wire.stream(requests)
    assert len(answers) == 100
    for number in range(100):
        answer = answers[str(number)]
        if number % 2:
            assert isinstance(answer, Refused)
        else:
            assert_same_scores(answer, right[number % 5])


@pytest.mark.parametrize("slot", range(5))
def test_a_bad_nodule_of_a_batch_is_named_and_nothing_is_scored(wire: Wire, good: list[Inputs], slot: int) -> None:
    batch = [changed(NODULE_CENTER=lambda c: c + 500)(n) if i == slot else n for i, n in enumerate(good)]
    for answer in (
        wire.unary(request_of(batched(batch))),
        wire.stream([request_of(batched(batch), "b")])["b"],
    ):
        assert isinstance(answer, Refused)
        assert answer.code == "CENTER_OUTSIDE"
        assert f"Nodule {slot + 1} of the 5 in this request: The nodule's centre is at voxel" in answer.text
    assert len(scored([wire.unary(request_of(batched(good)))])[0]["MALIGNANCY"]) == 5


def test_numbers_from_anywhere_never_end_the_server(wire: Wire, good: list[Inputs]) -> None:
    """Extreme numbers in random places: each answer is a finite score or one of our sentences."""
    random = np.random.default_rng(5)
    extremes = [0.0, -1.0, 1e-300, 1e9, 9.3e18, 3e38, -1e300, 1.7e308, np.nan, np.inf]
    requests = []
    for number in range(120):
        inputs = {name: (kind, array.copy()) for name, (kind, array) in good[number % 5].items()}
        for _ in range(random.integers(1, 4)):
            name = random.choice(["BOX_START", "VOLUME_SHAPE", "VOLUME_AFFINE", "NODULE_CENTER"])
            flat = inputs[name][1].reshape(-1)
            if inputs[name][0] == "FP64":
                flat[random.integers(flat.size)] = random.choice(extremes)
            else:
                flat[random.integers(flat.size)] = random.choice([-(2**31), -1, 0, 1, 97, 2**31 - 1])
        requests.append(request_of(inputs, str(number)))
    answers = wire.stream(requests)
    assert len(answers) == 120
    refused = [answer for answer in answers.values() if isinstance(answer, Refused)]
    assert len({answer.code for answer in refused}) >= 6
    assert "" not in {answer.code for answer in refused}
    for answer in answers.values():
        if not isinstance(answer, Refused):
            assert np.isfinite(answer["MALIGNANCY"]).all()


def test_after_all_this_the_server_is_ready_and_scores(
    untrained: Serving, wire: Wire, good: list[Inputs], right: list[Answer]
) -> None:
    from noduleserve.server.health import is_ready

    assert is_ready(untrained.address)
    for inputs, answer in zip(good, right, strict=True):
        assert_same_scores(wire.unary(request_of(inputs)), answer)
    assert untrained.process.poll() is None
