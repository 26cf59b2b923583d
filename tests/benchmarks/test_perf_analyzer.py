"""perf_analyzer's file holds real nodules: read by its format alone and sent to a real Triton, they get our scores."""

from __future__ import annotations

import base64
import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import command, read_rows
from tritonclient.grpc import service_pb2 as pb

from noduleserve.benchmarks.perf_analyzer import Answers, answers_of, commands, write_input_data
from noduleserve.benchmarks.rivals.cases import cases_of
from noduleserve.demo.command import RELEASE
from noduleserve.demo.phantom import make_phantom, write_dicom, write_worklist
from noduleserve.release import Release
from noduleserve.worklist.table import read_worklist

# What the server's configuration says of its inputs; perf_analyzer asks it.
TYPES = {
    "VOXELS": ("INT16", 2),
    "BOX_START": ("INT32", 4),
    "VOLUME_SHAPE": ("INT32", 4),
    "VOLUME_AFFINE": ("FP64", 8),
    "NODULE_CENTER": ("FP64", 8),
}


@pytest.fixture(scope="module")
def worklist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom = make_phantom(shape_xyz=(96, 72, 60), spacing_xyz=(3.6, 3.6, 4.0))
    write_dicom(phantom, folder / "ct")
    write_worklist(phantom, folder / "ct", folder / "worklist.csv")
    return folder / "worklist.csv"


def sent(entry: dict[str, Any], answers: Answers) -> dict[str, bytes]:
    """One entry of "data" as perf_analyzer sends it, batch 1; the raw outputs that come back."""
    request = pb.ModelInferRequest(model_name="nodule_score")
    assert set(entry) == set(TYPES)
    for name, given in entry.items():
        kind, size = TYPES[name]
        raw = base64.b64decode(given["content"]["b64"], validate=True)
        assert len(raw) == size * math.prod(given["shape"])
        request.inputs.add(name=name, datatype=kind, shape=[1, *given["shape"]])
        request.raw_input_contents.append(raw)
    answer = answers(request)
    return {output.name: raw for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}


def test_the_file_gets_the_scores_of_the_worklist(worklist: Path, tmp_path: Path) -> None:
    path, results = tmp_path / "nodules.json", tmp_path / "results.csv"
    with answers_of(Release.open(RELEASE)) as answers:
        write_input_data(path, cases_of(read_worklist(worklist)), answers)
        content = json.loads(path.read_text())
        found = [sent(entry, answers) for entry in content["data"]]
    done = command("score", worklist, "--release", RELEASE, "--out", results)
    assert done.returncode == 0, done.stderr
    rows = read_rows(results)
    assert len(rows) == len(found) == len(content["validation_data"]) > 2
    assert len({entry["VOXELS"]["content"]["b64"] for entry in content["data"]}) == len(rows)
    for row, outputs, wanted in zip(rows, found, content["validation_data"], strict=True):
        raw = np.frombuffer(outputs["MALIGNANCY_RAW"], "<f4")
        assert np.array_equal(raw, [np.float32(row[f"raw_{fold}"]) for fold in range(len(raw))])
        # perf_analyzer wants every output, and compares its bytes.
        assert {name: base64.b64decode(given["content"]["b64"]) for name, given in wanted.items()} == outputs
        assert wanted["RELEASE"]["shape"] == [1]


def test_the_lines_name_the_file_and_no_shared_memory_with_answers(tmp_path: Path) -> None:
    path = tmp_path / "my nodules.json"
    for checked in (False, True):
        lines = [shlex.split(line) for _, line in commands(path, "host:1", checked=checked)]
        assert len(lines) == 5 - checked
        assert all(line[line.index("--input-data") + 1] == str(path) and "host:1" in line for line in lines)
        assert any("--shared-memory=system" in line for line in lines) is not checked


def test_the_command_writes_a_worklist(worklist: Path, tmp_path: Path) -> None:
    out = tmp_path / "nodules.json"
    done = command("bench", "perf-analyzer-data", RELEASE, "--worklist", worklist, "--out", out, "--count", 1)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert list(content) == ["data"] and len(content["data"]) == 1
    assert "1 nodules" in done.stderr
    assert ("\n" + done.stdout).count("\nperf_analyzer -m nodule_score ") == 5
