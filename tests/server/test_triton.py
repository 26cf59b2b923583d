"""Finding Triton: the one on PATH before the one of the wheel, and a clear word where there is none."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving import Inputs, Serving, Wire, command, request_of, scored

from noduleserve.errors import ServerError
from noduleserve.server.triton import find_triton

Serve = Callable[..., Serving]


@pytest.fixture
def no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with nothing on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_one_of_the_wheel(no_path: Path, tmp_path: Path) -> None:
    triton = find_triton(tmp_path / "backends")
    assert triton.binary.parent.parent.name == "tritonserver"
    assert os.access(triton.binary, os.X_OK)
    assert triton.arguments == (f"--backend-directory={tmp_path / 'backends'}",)
    parts = {part.name for part in (tmp_path / "backends" / "python").iterdir()}
    assert parts >= {"libtriton_python.so", "triton_python_backend_stub", "triton_python_backend_utils.py"}
    assert triton.environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), str(no_path)]


def test_thread_limits_of_the_caller_are_kept(no_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment = find_triton(tmp_path / "backends").full_environment()
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("5", "1")


def test_the_one_on_path_comes_first_and_serves(
    serve: Serve, nodule: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_triton(tmp_path / "backends")
    assert wheel.arguments  # the machine has no other one
    variables = [f"export {name}={shlex.quote(value)}" for name, value in wheel.environment.items()]
    call = shlex.join([str(wheel.binary), *wheel.arguments])
    script = tmp_path / "bin" / "tritonserver"
    script.parent.mkdir()
    ran = tmp_path / "ran"
    script.write_text("\n".join(["#!/bin/sh", *variables, f"echo $$ > {ran}", f'exec {call} "$@"', ""]))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    assert find_triton(tmp_path / "unused").binary == script
    server = serve()
    assert int(ran.read_text()) == server.triton
    with Wire(server.address) as wire:
        scored([wire.unary(request_of(nodule))])


def test_none_at_all(no_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"TRITON_NOT_FOUND.*pip install nvidia-pytriton"):
        find_triton(tmp_path / "backends")


def test_a_wheel_without_this_pythons_stub(no_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = SimpleNamespace(submodule_search_locations=[str(tmp_path / "pytriton")])
    monkeypatch.setattr(util, "find_spec", lambda name: empty)
    with pytest.raises(ServerError, match=r"PYTHON_NOT_SUPPORTED.*no stub for Python 3"):
        find_triton(tmp_path / "backends")


def test_served_without_an_activated_environment(serve: Serve, nodule: Inputs) -> None:
    """As a service manager starts it: PATH knows nothing of this Python, and may know another one."""
    server = serve(path="/usr/bin:/bin")
    with Wire(server.address) as wire:
        scored([wire.unary(request_of(nodule))])


def test_an_error_is_two_sentences_and_no_traceback(tmp_path: Path) -> None:
    done = command("serve", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("noduleserve: [RELEASE_NOT_FOUND] There is no MANIFEST.json in")
    assert "Mend: Name a folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
