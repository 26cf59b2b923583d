"""`noduleserve build-engine` and `noduleserve serve` on target `tensorrt`, as far as a machine without a GPU goes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from serving import command
from tensorrt_links import stub_library

from noduleserve.engines.machine import compute_capability
from noduleserve.engines.repository import compose_repository
from noduleserve.errors import EngineError
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.triton import find_triton

without_gpu = pytest.mark.skipif(compute_capability() is not None, reason="there is a GPU")


def ask(expression: str, **environment: str) -> str:
    """Evaluate an expression with this room's functions in a process of its own."""
    code = f"from noduleserve.engines.machine import *; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or done.stderr


def test_the_version_of_the_library_is_asked_of_itself(links: Path) -> None:
    assert ask("tensorrt_version()") == "None"
    found = ask("tensorrt_version()", LD_LIBRARY_PATH=str(links / "tensorrt_bindings"))
    assert [part.isdigit() for part in found.split(".")] == [True] * 3, found


def test_a_driver_that_shows_no_gpu(tmp_path: Path) -> None:
    """Its cuInit answers with an error."""
    (tmp_path / "libcuda.so.1").write_bytes(stub_library("libcuda.so.1", "cuInit"))
    assert ask("compute_capability()", LD_LIBRARY_PATH=str(tmp_path)) == "None"


def test_the_bindings_alone_do_where_the_library_is(links: Path) -> None:
    """As in a container: the library from the system, its Python API from a wheel."""
    sentence = ask("import_tensorrt()")
    assert "TENSORRT_NOT_FOUND" in sentence and "tensorrt_bindings does not load: libnv" in sentence
    assert "pip install 'tensorrt-cu12-bindings==" in sentence
    libraries = str(links / "tensorrt_bindings")
    assert "<module 'tensorrt_bindings'" in ask("import_tensorrt()", LD_LIBRARY_PATH=libraries)
    assert ask("version_of(import_tensorrt())", LD_LIBRARY_PATH=libraries).startswith("11.")


@without_gpu
def test_building_needs_a_gpu_unless_it_is_only_to_look(release: Release, links: Path, tmp_path: Path) -> None:
    line = ("build-engine", release.folder, "--engines", tmp_path / "plans")
    refused = command(*line, PYTHONPATH=str(links))
    assert refused.returncode == 1 and "[NO_GPU]" in refused.stderr and "--without-gpu" in refused.stderr
    assert not (tmp_path / "plans").exists()

    built = command(*line, "--without-gpu", "--log", tmp_path / "log", PYTHONPATH=str(links))
    assert built.returncode == 0, built.stderr
    assert "profile 0: batches of 1 to 1, tuned at 1\n  profile 1: batches of 2 to 8, tuned at 8" in built.stdout
    (plan,) = (tmp_path / "plans").glob("*/model.plan")
    assert f"plan {plan} (" in built.stdout and "Engine generation completed" in (tmp_path / "log").read_text()

    both = command(*line, "--without-gpu", "--repository", tmp_path / "out", PYTHONPATH=str(links))
    assert both.returncode == 2 and "--repository" in both.stderr and not (tmp_path / "out").exists()


@without_gpu
def test_serving_needs_a_gpu_and_leaves_nothing_behind(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = command("serve", release.folder, "--engines", tmp_path)
    assert served.returncode == 1 and "[NO_GPU]" in served.stderr
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(EngineError, match="NO_GPU"), TritonProcess(release, Endpoints(grpc=0, http=0, metrics=0)):
        pytest.fail("it was started")
    assert list(tmp_path.iterdir()) == []


def test_triton_reads_the_configuration_and_lacks_but_the_backend(release: Release, tmp_path: Path) -> None:
    """The wheel's Triton has no TensorRT backend; a mistake in the configuration would be found before that."""
    (tmp_path / "model.plan").write_bytes(b"a plan")
    whole = compose_repository(release, tmp_path / "whole", tmp_path / "model.plan")
    repository = tmp_path / "repository"
    shutil.copytree(whole / "nodule_encoder", repository / "nodule_encoder", symlinks=True)
    triton = find_triton(tmp_path / "backends")
    services = [f"--allow-{service}=false" for service in ("grpc", "http", "metrics")]
    line = [triton.binary, f"--model-repository={repository}", "--disable-auto-complete-config", *services]
    done = subprocess.run(
        [*map(str, line), *triton.arguments], env=triton.full_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    (failure,) = [line for line in done.stderr.splitlines() if "failed to load 'nodule_encoder' version 1" in line]
    assert "unable to find backend library for backend 'tensorrt'" in failure
