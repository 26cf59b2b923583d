"""Which code ran: noduleserve with its commit, and the packages that its speed hangs on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib import metadata, util
from pathlib import Path
from typing import Any

import noduleserve

PACKAGES = (
    *("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "torch", "open_clip_torch", "tensorrt"),
    *("nvidia-pytriton", "tritonclient", "grpcio", "protobuf", "scipy", "threadpoolctl"),
    *("fastapi", "litserve", "uvicorn", "pydantic", "httpx", "starlette"),
    *("pydicom", "highdicom", "nibabel", "SimpleITK", "pyarrow"),
    *("python-gdcm", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-libjpeg", "pylibjpeg-rle", "pyjpegls"),
    *("imagecodecs", "pillow", "psutil", "matplotlib"),
)
_NOT_CODE = ("docs/", "README.md", "LICENSE")  # whose changes leave every figure alone


def versions() -> dict[str, str]:
    """Of the packages that matter, as far as they are installed; and of Triton."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if triton := _triton(found.get("nvidia-pytriton", "")):
        found["tritonserver"] = triton
    return found


def code() -> dict[str, Any]:
    """Noduleserve's version; of a checkout also the commit, and whether files differ from it. None: not a checkout."""
    root = Path(noduleserve.__file__).resolve().parent.parent
    return {"noduleserve": noduleserve.__version__} | commit_of(root)


def commit_of(root: Path) -> dict[str, Any]:
    """Commit of the checkout that begins at a folder, and whether any file that may matter differs from it."""
    nothing: dict[str, Any] = {"commit": None, "changed": None}
    if not (root / ".git").exists():  # or it would be that of a repository around an environment
        return nothing
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        lines = _git(root, "status", "--porcelain", "--untracked-files=all").splitlines()
    except (OSError, subprocess.SubprocessError):
        return nothing
    # A file that git does not know matters where Python may import it.
    changed = [line[3:] for line in lines if line[:2] != "??" or line.endswith(".py")]
    return {"commit": commit, "changed": any(not path.startswith(_NOT_CODE) for path in changed)}


def _git(root: Path, *words: str) -> str:
    line = ["git", "-C", str(root), "--no-optional-locks", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout


def _triton(wheel: str) -> str:
    """The Triton that would be started: where it is from, and the beginning of its binary's SHA-256; "" for none.

    The binary cannot be asked for its version without starting it.
    """
    if on_path := shutil.which("tritonserver"):
        binary, source = Path(on_path), f"on PATH {os.environ.get('TRITON_SERVER_VERSION', '')}".strip()
    else:
        spec = util.find_spec("pytriton")
        folders = list(spec.submodule_search_locations or ()) if spec else []
        binary = Path(folders[0]) / "tritonserver" / "bin" / "tritonserver" if folders else Path()
        source = f"of nvidia-pytriton {wheel}"
    if not binary.is_file():
        return ""
    with binary.open("rb") as file:
        return f"{source}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
