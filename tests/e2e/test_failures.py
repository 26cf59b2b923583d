"""What goes wrong around a run: every nodule still has its row, every error its code, and nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scripted_server import end_quickly
from serving import Scoring, Serving, Wire, command, living, read_rows, session_of, until, write_rows

from noduleserve.release import REPOSITORY, Release, seal
from noduleserve.server.process import Endpoints, TritonProcess

ANYWHERE = Endpoints(grpc=0, http=0, metrics=0)


@pytest.fixture(scope="module")
def right(untrained: Serving, phantom_worklist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The phantom's nodules, all scored."""
    results = tmp_path_factory.mktemp("right") / "results.csv"
    done = command("score", phantom_worklist, "--server", untrained.address, "--out", results)
    assert done.returncode == 0, done.stderr
    return read_rows(results)


def longer(worklist: Path, out: Path, times: int) -> Path:
    """The worklist over and over, its series named by whole paths."""
    rows = [row | {"image_path": str(worklist.parent / row["image_path"])} for row in read_rows(worklist)]
    return write_rows(out, [row | {"nodule_id": f"{row['nodule_id']}-{n}"} for n in range(times) for row in rows])


def test_bad_rows_beside_good_ones(
    untrained: Serving, phantom_worklist: Path, right: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = [r | {"image_path": str(phantom_worklist.parent / r["image_path"])} for r in read_rows(phantom_worklist)]
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    (garbage / "1.dcm").write_bytes(os.urandom(5000))
    cases = [
        (rows[0], ""),
        (rows[1] | {"image_path": "garbage"}, None),
        (rows[1], ""),
        (rows[2] | {"coordX": "12,5"}, "WORKLIST_ROW"),
        (rows[2] | {"image_path": "nowhere"}, "SERIES_NOT_FOUND"),
        (rows[2], ""),
        (rows[3] | {"coordZ": "4000"}, "CENTER_OUTSIDE"),
        (rows[3], ""),
        (rows[4] | {"coordY": "nan"}, "WORKLIST_ROW"),
        (rows[4] | {"image_path": "garbage"}, None),
        (rows[4], ""),
    ]
    worklist = write_rows(tmp_path / "worklist.csv", [row for row, _ in cases])
    done = command("score", worklist, "--server", untrained.address, "--out", tmp_path / "results.csv")
    assert done.returncode == 3, done.stderr
    assert "11 nodules in, 11 out: 5 scored, 6 failed" in done.stdout
    assert "2 x WORKLIST_ROW" in done.stdout
    results = read_rows(tmp_path / "results.csv")
    assert len(results) == len(cases)
    for (row, code), result in zip(cases, results, strict=True):
        assert {name: result[name] for name in row} == row
        if code == "":
            (wanted,) = [r for r in right if r["nodule_id"] == row["nodule_id"]]
            assert result["status"] == "scored"
            assert result["error_code"] == result["error"] == ""
            got = [float(result[name]) for name in result if name.startswith(("raw", "calib", "sem", "ens"))]
            want = [float(wanted[name]) for name in wanted if name.startswith(("raw", "calib", "sem", "ens"))]
            np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)
        else:
            assert result["status"] == "failed"
            assert result["error_code"] == code if code else result["error_code"]
            assert result["error_code"] != "CLIENT_ERROR"
            assert len(result["error"]) > 20
            assert result["raw_0"] == result["calibrated_ensemble"] == result["release"] == ""


# ---------------------------------------------------------------- the server goes away


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_in_the_middle_of_a_stream(
    untrained_release: Path, phantom_worklist: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The run breaks off when no server comes back; taken up with one, it ends as if nothing had been."""
    worklist, results = longer(phantom_worklist, tmp_path / "worklist.csv", 60), tmp_path / "results.csv"
    with Serving(untrained_release, tmp_path / "server") as server:
        scoring = Scoring(worklist, "--server", server.address, "--server-wait", 2, results=results)
        scoring.has_written(20)
        os.kill(server.triton if number == signal.SIGKILL else server.process.pid, number)
        began = time.monotonic()
        status, out, err = scoring.end(60)
        assert time.monotonic() - began < 50  # less than one deadline
        server.process.wait(40)
        assert server.process.returncode == (1 if number == signal.SIGKILL else 0)
    assert status == 1, (out, err)
    assert "[SERVER_GONE]" in err and "Traceback" not in err
    assert not results.exists()
    before = scoring.written()
    assert 20 <= before < 300
    with Serving(untrained_release, tmp_path / "another") as server:
        status, out, err = Scoring(worklist, "--server", server.address, results=results).end(60)
    assert status == 0, (out, err)
    assert f"300 nodules in, 300 out: 300 scored, 0 failed ({before} of them by an earlier run)" in out
    rows = read_rows(results)
    assert [row["nodule_id"] for row in rows] == [row["nodule_id"] for row in read_rows(worklist)]
    assert {row["status"] for row in rows} == {"scored"}


def test_no_server(phantom_worklist: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    done = command("score", phantom_worklist, "--server", "127.0.0.1:9", "--out", results, timeout=30)
    assert done.returncode == 1
    assert "[SERVER_UNREACHABLE] No server answers at 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_port_of_http_is_no_server_either(untrained: Serving, phantom_worklist: Path, tmp_path: Path) -> None:
    address, results = f"127.0.0.1:{untrained.facts['http']}", tmp_path / "results.csv"
    done = command("score", phantom_worklist, "--server", address, "--out", results, timeout=60)
    assert done.returncode == 1
    assert "[SERVER_UNREACHABLE]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not results.exists()


# ---------------------------------------------------------------- servers that are something else

_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())])
                for r in requests]
"""
_CONFIGURATION = """
name: "$name"
backend: "python"
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


@pytest.fixture
def serve_repository() -> Iterator[Callable[[Path], str]]:
    """Serve any folder with a model repository, as if it were a release; gives the address."""
    running: list[TritonProcess] = []

    def start(folder: Path) -> str:
        files = [file.relative_to(folder).as_posix() for file in (folder / REPOSITORY).rglob("*") if file.is_file()]
        process = TritonProcess(Release(folder, {"target": "embedded", "files": dict.fromkeys(files, "")}), ANYWHERE)
        running.append(process)
        process.start()
        return process.endpoints.address

    yield start
    for process in running:
        end_quickly(process)


def answers(address: str, model: str) -> bool:
    from tritonclient.grpc import service_pb2 as pb

    with Wire(address) as wire:
        try:
            return bool(wire.stub.ModelReady(pb.ModelReadyRequest(name=model), timeout=1).ready)
        except Exception:
            return False


@pytest.mark.parametrize("name", ["something_else", "nodule_score"])
def test_a_triton_with_other_models(
    serve_repository: Callable[[Path], str], phantom_worklist: Path, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "other" / REPOSITORY / name
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(_MODEL)
    (model / "config.pbtxt").write_text(_CONFIGURATION.replace("$name", name))
    address = serve_repository(tmp_path / "other")
    assert until(lambda: answers(address, name), 30)
    done = command("score", phantom_worklist, "--server", address, "--out", tmp_path / "results.csv", timeout=60)
    assert done.returncode == 1
    assert "[SERVER_NOT_NODULESERVE]" in done.stderr
    assert "nodule_score" in done.stderr
    assert not (tmp_path / "results.csv").exists()


def another_release(release: Path, out: Path) -> Release:
    """The same weights under another encoder's id, with another notice: a release of its own."""
    shutil.copytree(release, out)
    graph = out / REPOSITORY / "nodule_encoder" / "1" / "encoder.onnx"
    model = onnx.load(graph)
    identity = next(weight for weight in model.graph.initializer if weight.name == "encoder_id")
    identity.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(identity) ^ 1, "encoder_id"))
    onnx.save(model, graph)
    numbers = numpy_helper.to_array(identity).ravel().tolist()
    (out / REPOSITORY / "nodule_similarity" / "1" / "encoder_id.json").write_text(json.dumps(numbers))
    manifest = Release.open(release).manifest
    kept = {key: value for key, value in manifest.items() if key not in ("files", "release_id")}
    return seal(out, kept | {"notice": "another one"})


@pytest.mark.parametrize("model", ["nodule_similarity", "nodule_encoder"])
def test_models_of_two_releases_never_meet(
    serve_repository: Callable[[Path], str],
    untrained_release: Path,
    phantom_worklist: Path,
    tmp_path: Path,
    model: str,
) -> None:
    other = another_release(untrained_release, tmp_path / "other")
    assert other.id != Release.open(untrained_release).id
    mixed = tmp_path / "mixed"
    shutil.copytree(untrained_release, mixed)
    shutil.rmtree(mixed / REPOSITORY / model)
    shutil.copytree(other.repository / model, mixed / REPOSITORY / model)
    address = serve_repository(mixed)
    assert until(lambda: answers(address, "nodule_score"), 60)
    done = command("score", phantom_worklist, "--server", address, "--out", tmp_path / "results.csv")
    assert done.returncode == 1, done.stderr
    assert "[SERVER_NOT_SCORING]" in done.stderr and "[RELEASE_MISMATCH]" in done.stderr
    assert "another encoder" in done.stderr and "Serve one whole release" in done.stderr
    assert not (tmp_path / "results.csv").exists()
    done = command("serve", mixed, timeout=60)
    assert done.returncode == 1
    assert "[RELEASE_EDITED]" in done.stderr


@pytest.mark.parametrize("file", ["nodule_encoder/1/encoder.onnx", "nodule_score/config.pbtxt"])
def test_a_release_edited_by_one_byte_starts_nothing(
    untrained_release: Path, phantom_worklist: Path, tmp_path: Path, file: str
) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(untrained_release, edited)
    path = edited / REPOSITORY / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    log = tmp_path / "triton.log"
    for line in (
        ("serve", edited, "--log-file", log),
        ("score", phantom_worklist, "--release", edited, "--out", tmp_path / "results.csv", "--log-file", log),
    ):
        done = command(*line, timeout=60)
        assert done.returncode == 1
        assert done.stdout == ""
        assert f"[RELEASE_EDITED] The release is not what was exported: model_repository/{file} was changed." in (
            done.stderr
        )
        assert not log.exists()  # Triton would have written it
    assert not (tmp_path / "results.csv").exists()


# ---------------------------------------------------------------- a private server's end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_its_private_server_along(
    untrained_release: Path, phantom_worklist: Path, tmp_path: Path, number: signal.Signals
) -> None:
    worklist = longer(phantom_worklist, tmp_path / "worklist.csv", 100)
    scoring = Scoring(worklist, "--release", untrained_release, results=tmp_path / "results.csv")
    scoring.has_written(10)
    (triton,) = [p.pid for p in living() if p.parent == scoring.process.pid and p.name == "tritonserver"]
    scoring.process.send_signal(number)
    status, _, err = scoring.end(40)
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in err
    assert until(lambda: session_of(triton) == [], 20), session_of(triton)
    assert scoring.written() >= 10  # what had been scored is not lost
    assert not scoring.results.exists()
    if number != signal.SIGKILL:
        assert list(scoring.tmp.iterdir()) == []


def test_out_that_cannot_be_written_is_said_before_anything_is_scored(
    untrained: Serving, phantom_worklist: Path, tmp_path: Path
) -> None:
    (tmp_path / "results.csv").mkdir()
    (tmp_path / "file").touch()
    for out in (tmp_path / "results.csv", tmp_path / "file" / "results.csv"):
        done = command("score", phantom_worklist, "--server", untrained.address, "--out", out, timeout=60)
        assert done.returncode == 1
        assert "[OUTPUT_NOT_WRITTEN]" in done.stderr
        assert "Traceback" not in done.stderr
