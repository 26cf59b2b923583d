"""The published checkpoint, exported and served: the real nodules get the scores that the published code computes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tritonclient.grpc as stock
from reference import plain
from serving import (
    Inputs,
    Serving,
    Wire,
    batched,
    command,
    export_by_command,
    inputs_of,
    read_rows,
    request_of,
    scored,
    write_rows,
)
from tritonclient.utils import InferenceServerException

from noduleserve.client.run import Run, score_worklist
from noduleserve.ct.volume import Volume
from noduleserve.preprocessing import Box, required_box
from noduleserve.release import REPOSITORY, Release
from noduleserve.worklist.table import read_worklist

SCORES = [f"raw_{k}" for k in range(5)] + ["ensemble"] + [f"calibrated_{k}" for k in range(5)]
SCORES += ["calibrated_ensemble"]
GROUPS = [[0, 1, 2], [3, 4, 5], [6, 7]]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def assert_published(results: Path, expected: Any, order: list[int] | None = None) -> list[dict[str, str]]:
    """The table holds the expected scores of all nodules, in the worklist's order."""
    rows = read_rows(results)
    order = list(range(12)) if order is None else order
    assert [(r["pid"], r["nodule_id"]) for r in rows] == [
        (expected.nodules[i]["pid"], expected.nodules[i]["nodule_id"]) for i in order
    ]
    assert {row["status"] for row in rows} == {"scored"}
    got = [[float(row[name]) for name in SCORES] for row in rows]
    wanted = [[float(expected.nodules[i][name]) for name in SCORES] for i in order]
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)
    return rows


@pytest.fixture(scope="module")
def run(published: Serving, real_worklist: Path) -> Run:
    """One run over the twelve nodules through the Python API."""
    return score_worklist(read_worklist(real_worklist), published.address)


def test_scores_from_dicom_by_the_command(
    published: Serving, published_release: Path, real_worklist: Path, expected: Any, tmp_path: Path
) -> None:
    done = command("score", real_worklist, "--server", published.address, "--out", tmp_path / "results.csv")
    assert done.returncode == 0, done.stderr
    assert "12 nodules in, 12 out: 12 scored, 0 failed" in done.stdout
    rows = assert_published(tmp_path / "results.csv", expected)
    assert {row["release"] for row in rows} == {published.facts["release"]}
    labels = [name for name in rows[0] if name.startswith("semantic.")]
    got = np.array([[float(row[name]) for name in labels] for row in rows])
    wanted = np.concatenate(plain.semantic_probabilities(expected.model["similarity"], GROUPS), axis=1)
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=0)
    assert [name.rsplit(".", 1)[1] for name in labels] == expected.prompts


def test_everything_else_that_an_answer_holds(run: Run, expected: Any) -> None:
    scores = [outcome.score for outcome in run.outcomes]
    assert all(scores)
    embedding = np.stack([s.embedding for s in scores if s], axis=1)
    attention = np.stack([s.view_attention for s in scores if s], axis=1)
    semantic = np.stack([s.semantic for s in scores if s])
    np.testing.assert_allclose(embedding, expected.model["embedding"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(attention, expected.model["view_attention"], atol=1e-5, rtol=0)
    wanted = np.concatenate(plain.semantic_probabilities(expected.model["similarity"], GROUPS), axis=1)
    np.testing.assert_allclose(semantic, wanted, atol=1e-5, rtol=0)
    for name, values in (("prob", [s.raw for s in scores if s]), ("calibrated", [s.calibrated for s in scores if s])):
        np.testing.assert_allclose(np.stack(values, axis=1), expected.model[name], atol=1e-4, rtol=0)
    mean = expected.model["calibrated"].mean(axis=0)
    np.testing.assert_allclose([s.malignancy for s in scores if s], mean, atol=1e-4, rtol=0)


def test_similarity_of_the_served_embeddings(
    run: Run, published: Serving, published_release: Path, expected: Any
) -> None:
    embedding = np.stack([o.score.embedding for o in run.outcomes if o.score])[:8]
    logits = np.zeros((8, 5, 2), np.float32)

    def similarity(encoder: list[int]) -> np.ndarray[Any, Any]:
        inputs = [
            stock.InferInput("EMBEDDING", embedding.shape, "FP32"),
            stock.InferInput("LOGITS", logits.shape, "FP32"),
            stock.InferInput("ENCODER_ID", [8, 4], "INT32"),
        ]
        for tensor, array in zip(inputs, (embedding, logits, np.full((8, 4), encoder, np.int32)), strict=True):
            tensor.set_data_from_numpy(array)
        with stock.InferenceServerClient(published.address) as client:
            return client.infer("nodule_similarity", inputs).as_numpy("SIMILARITY")

    own = json.loads((published_release / REPOSITORY / "nodule_similarity" / "1" / "encoder_id.json").read_text())
    wanted = expected.model["similarity"][:, :8].transpose(1, 0, 2)
    np.testing.assert_allclose(similarity(own), wanted, atol=1e-4, rtol=0)
    with pytest.raises(InferenceServerException) as refused:
        similarity([*own[:3], own[3] ^ 1])
    assert "[RELEASE_MISMATCH]" in str(refused.value)


def test_scores_from_nifti_in_shuffled_order(
    published: Serving, real_worklist: Path, real_volumes: list[Volume], expected: Any, tmp_path: Path
) -> None:
    rows = read_rows(real_worklist)
    for volume, row in zip(real_volumes, rows, strict=True):
        path = tmp_path / f"{Path(row['image_path']).name}.nii.gz"
        if not path.exists():
            voxels = volume.read_box(Box(start=np.zeros(3, np.int64), stop=volume.geometry.shape))
            image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), LPS_TO_RAS @ volume.geometry.affine)
            nibabel.save(image, path)
        row["image_path"] = path.name
    order = list(range(12))
    random.Random(4).shuffle(order)
    assert order != sorted(order)
    worklist = write_rows(tmp_path / "worklist.csv", [rows[i] for i in order])
    done = command("score", worklist, "--server", published.address, "--out", tmp_path / "results.csv")
    assert done.returncode == 0, done.stderr
    assert_published(tmp_path / "results.csv", expected, order)


# ---------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def wire(published: Serving) -> Iterator[Wire]:
    with Wire(published.address) as connection:
        yield connection


@pytest.fixture(scope="module")
def alone(wire: Wire, real_volumes: list[Volume], expected: Any) -> tuple[list[Inputs], np.ndarray[Any, Any]]:
    """Each nodule's inputs, boxes of one shape, and its fold probabilities [12, 10] when it is scored alone."""
    boxes = [required_box(v.geometry, c) for v, c in zip(real_volumes, expected.centers_lps, strict=True)]
    size = np.max([box.shape for box in boxes], axis=0)
    nodules = []
    for volume, center, box in zip(real_volumes, expected.centers_lps, boxes, strict=True):
        start = np.minimum(box.start, volume.geometry.shape - size)
        larger = Box(start=start, stop=start + size)
        assert larger.covers(box)
        nodules.append(inputs_of(volume, center, larger))
    return nodules, probabilities([wire.unary(request_of(n)) for n in nodules])


def probabilities(answers: list[Any]) -> np.ndarray[Any, Any]:
    """Raw and calibrated probability of every fold, [nodules, 10]."""
    parts = [np.concatenate([a["MALIGNANCY_RAW"], a["MALIGNANCY_CALIBRATED"]], axis=1) for a in scored(answers)]
    return np.concatenate(parts)


def test_a_larger_box_changes_nothing(wire: Wire, alone: Any, real_volumes: list[Volume], expected: Any) -> None:
    answers = [
        wire.unary(request_of(inputs_of(volume, center)))
        for volume, center in zip(real_volumes, expected.centers_lps, strict=True)
    ]
    np.testing.assert_allclose(probabilities(answers), alone[1], atol=1e-6, rtol=0)
    wanted = np.concatenate([expected.model["prob"], expected.model["calibrated"]]).T
    np.testing.assert_allclose(alone[1], wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", range(1, 9))
def test_batch_size_and_slot_change_nothing(wire: Wire, alone: Any, size: int) -> None:
    nodules, wanted = alone
    for turn in range(size):  # nodules `first` to `first + size`, each in every slot
        order = [(4 + (slot + turn) % size) % 12 for slot in range(size)]
        answer = wire.unary(request_of(batched([nodules[i] for i in order])))
        np.testing.assert_allclose(probabilities([answer]), wanted[order], atol=1e-6, rtol=0)


def test_batches_that_the_server_forms_change_nothing(
    wire: Wire, alone: Any, real_volumes: list[Volume], expected: Any
) -> None:
    nodules = [inputs_of(v, c) for v, c in zip(real_volumes, expected.centers_lps, strict=True)]
    # nodule_encoder takes nodules one by one on a CPU
    before = {model: wire.batches_of(model) for model in ("nodule_preprocess",)}
    requests = [request_of(nodules[i % 12], f"{i}") for i in range(60)]
    answers = wire.stream(requests)
    assert len(answers) == 60
    got = probabilities([answers[f"{i}"] for i in range(60)])
    np.testing.assert_allclose(got, alone[1][np.arange(60) % 12], atol=1e-6, rtol=0)
    for model, early in before.items():
        formed = {size for size, count in wire.batches_of(model).items() if count > early.get(size, 0)}
        assert max(formed) > 1, f"{model} ran batches of {formed} only"


def test_requests_of_many_threads_at_once(published: Serving, alone: Any) -> None:
    nodules, wanted = alone

    def ask(number: int) -> Any:
        with Wire(published.address) as own:
            return own.unary(request_of(nodules[number % 12]))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(24)))
    np.testing.assert_allclose(probabilities(answers), wanted[np.arange(24) % 12], atol=1e-6, rtol=0)


def test_the_stock_client_gets_the_same(published: Serving, alone: Any) -> None:
    nodules, wanted = alone
    inputs = []
    for name, (kind, array) in nodules[0].items():
        tensor = stock.InferInput(name, array.shape, kind)
        tensor.set_data_from_numpy(array.astype({"INT16": "i2", "INT32": "i4", "FP64": "f8"}[kind]))
        inputs.append(tensor)
    with stock.InferenceServerClient(published.address) as client:
        answer = client.infer("nodule_score", inputs)
        # Classified on request: Triton itself names the semantic values, from the label file.
        classes = [stock.InferRequestedOutput("SEMANTIC", class_count=8)]
        named = client.infer("nodule_score", inputs, outputs=classes).as_numpy("SEMANTIC")
    np.testing.assert_allclose(answer.as_numpy("MALIGNANCY_RAW")[0], wanted[0, :5], atol=1e-6, rtol=0)
    assert answer.as_numpy("RELEASE")[0, 0].decode() == published.facts["release"]
    values = answer.as_numpy("SEMANTIC")[0]
    labels = {line.decode().split(":")[2]: float(line.decode().split(":")[0]) for line in named.ravel()}
    assert labels["consistency.a solid nodule"] == pytest.approx(values[3], abs=1e-5)
    assert len(labels) == 8


# ---------------------------------------------------------------- LoRA that is not merged


@pytest.fixture(scope="module")
def unmerged_checkpoint(shared: Path, published_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint with W instead of W + scaling * B @ A in its files."""
    folder = tmp_path_factory.mktemp("unmerged") / "checkpoint"
    script = shared / "reference" / "make_checkpoint.py"
    line = [sys.executable, script, folder, "--lora-state", "unmerged"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    for fold in range(5):
        numbers = published_release.parent / "checkpoint" / f"fold_{fold}" / "calibration.json"
        (folder / f"fold_{fold}" / "calibration.json").write_bytes(numbers.read_bytes())
    return folder


def test_unmerged_weights_on_a_private_server(
    unmerged_checkpoint: Path, features: Path, real_worklist: Path, expected: Any, tmp_path: Path
) -> None:
    told, found, results = tmp_path / "told", tmp_path / "found", tmp_path / "results.csv"
    export_by_command(unmerged_checkpoint, told, "--features", features, "--lora-state", "unmerged")
    export_by_command(unmerged_checkpoint, found, "--features", features)
    assert Release.open(found).manifest["checkpoint"]["lora_state"] == "unmerged"
    # What is found out must lead to the very same files, so that one of the two needs to be served.
    assert Release.open(found).manifest["files"] == Release.open(told).manifest["files"]
    done = command("score", real_worklist, "--release", found, "--out", results)
    assert done.returncode == 0, done.stderr
    assert_published(results, expected)
