"""Starting Triton and failing to: every way that it can go wrong has a code, Triton's reason and no leftovers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from serving import SHM, Inputs, Wire, request_of, scored, session_of

from noduleserve.errors import ServerError
from noduleserve.release import REPOSITORY, Release
from noduleserve.server.health import is_ready
from noduleserve.server.process import Endpoints, TritonProcess

ANYWHERE = Endpoints(grpc=0, http=0, metrics=0)


@pytest.fixture
def broken(release: Release, tmp_path: Path) -> Release:
    """A copy of the release that a test may break; `Release.open` would refuse it afterwards."""
    shutil.copytree(release.folder, tmp_path / "broken")
    return Release(tmp_path / "broken", release.manifest)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a TritonProcess puts its own files, and whatever Triton and its models leave in HOME and TMPDIR."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    # A Triton in a container is not started by us: the models must see to it themselves.
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    return folder


def leftovers(process: TritonProcess, temporary: Path) -> list[str]:
    found = [file.name for file in temporary.iterdir()]
    found += [file.name for file in SHM.glob(f"{process._shm_prefix}*")]
    return found + (session_of(process.pid) if process.pid else [])


def test_starts_serves_and_stops(release: Release, nodule: Inputs, temporary: Path) -> None:
    process = TritonProcess(release, ANYWHERE)
    with process, Wire(process.endpoints.address) as wire:
        assert is_ready(process.endpoints.address)
        scored([wire.unary(request_of(nodule))])
        assert process.returncode() is None
        assert leftovers(process, temporary)
    assert process.returncode() == 0
    assert not is_ready(process.endpoints.address)
    assert leftovers(process, temporary) == []
    process.stop()  # harmless again


def test_a_model_that_does_not_load_ends_in_tritons_reason(broken: Release, temporary: Path) -> None:
    model = broken.folder / REPOSITORY / "nodule_similarity" / "1" / "model.py"
    model.write_text("raise RuntimeError('the bank is empty')\n" + model.read_text())
    process = TritonProcess(broken, ANYWHERE)
    with pytest.raises(ServerError) as raised, process:
        pytest.fail("it became ready")
    assert raised.value.code == "SERVER_NOT_READY"
    assert "RuntimeError: the bank is empty" in raised.value.what
    assert "nodule_similarity" in raised.value.what
    assert leftovers(process, temporary) == []


def test_a_configuration_that_does_not_parse_ends_in_tritons_reason(broken: Release, temporary: Path) -> None:
    (broken.folder / REPOSITORY / "nodule_score" / "config.pbtxt").write_text("name: nodule_score {")
    process = TritonProcess(broken, ANYWHERE)
    with pytest.raises(ServerError) as raised, process:
        pytest.fail("it became ready")
    assert raised.value.code == "SERVER_NOT_READY"
    assert "nodule_score" in raised.value.what
    assert leftovers(process, temporary) == []


def test_a_model_that_loads_too_slowly_is_given_up(broken: Release, temporary: Path) -> None:
    model = broken.folder / REPOSITORY / "nodule_similarity" / "1" / "model.py"
    model.write_text("import time\ntime.sleep(600)\n" + model.read_text())
    process = TritonProcess(broken, ANYWHERE)
    process.start()
    try:
        with pytest.raises(ServerError, match=r"SERVER_NOT_READY.*not ready after 2 s"):
            process.wait_ready(timeout=2)
    finally:
        process.stop(timeout=1)
    assert leftovers(process, temporary) == []


def test_a_log_that_is_asked_for_is_kept(release: Release, tmp_path: Path, temporary: Path) -> None:
    with TritonProcess(release, ANYWHERE, log=tmp_path / "triton.log"):
        pass
    assert "Started GRPCInferenceService" in (tmp_path / "triton.log").read_text()
    assert leftovers(TritonProcess(release, ANYWHERE), temporary) != []  # the probe above looks at the right place


def test_encoder_threads_reach_the_encoder(broken: Release, tmp_path: Path) -> None:
    engine = broken.folder / REPOSITORY / "nodule_encoder" / "1" / "engine.py"
    text = engine.read_text()
    mark = "    options.intra_op_num_threads = threads\n"
    assert mark in text
    engine.write_text(text.replace(mark, mark + "    print('threads', options.intra_op_num_threads, flush=True)\n"))
    with TritonProcess(broken, ANYWHERE, log=tmp_path / "triton.log", encoder_threads=3):
        pass
    assert "threads 3\n" in (tmp_path / "triton.log").read_text()


def test_endpoints_take_free_ports_and_name_them() -> None:
    found = ANYWHERE.resolved()
    assert 0 not in (found.grpc, found.http, found.metrics)
    assert len({found.grpc, found.http, found.metrics}) == 3
    assert found.address == f"127.0.0.1:{found.grpc}"
    assert Endpoints("0.0.0.0", 1).address == "127.0.0.1:1"
    assert Endpoints("::1", 1).address == "[::1]:1"
