"""Finding a Triton to run: `tritonserver` on PATH, else the one inside the nvidia-pytriton wheel."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

from noduleserve.errors import ServerError

# numpy must not start a thread a core beside the encoder's own.
_MODEL_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Triton:
    """A Triton that can be started.

    Attributes:
        binary: the executable.
        arguments: what it needs to find its backends.
        environment: variables to set on top of the caller's.
    """

    binary: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def full_environment(self) -> dict[str, str]:
        """The caller's environment with what this Triton needs; thread limits that the caller set are kept."""
        return _MODEL_ENVIRONMENT | dict(os.environ) | self.environment


def find_triton(backends: Path) -> Triton:
    """Find a Triton.

    Args:
        backends: an empty folder of ours, for the backend directory that the wheel's Triton needs.

    Raises:
        ServerError: TRITON_NOT_FOUND, PYTHON_NOT_SUPPORTED, PYTHON_LIBRARY_MISSING.
    """
    on_path = shutil.which("tritonserver")
    return Triton(Path(on_path)) if on_path else _from_wheel(backends)


def _from_wheel(backends: Path) -> Triton:
    """The wheel ships server, Python backend and one stub a Python version apart; put together, they run."""
    spec = util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "TRITON_NOT_FOUND",
            "There is no tritonserver on PATH, and the package nvidia-pytriton is not installed.",
            "Run `pip install nvidia-pytriton`, or start this inside NVIDIA's Triton container.",
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    home, version = package / "tritonserver", f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ServerError(
            "PYTHON_NOT_SUPPORTED",
            f"nvidia-pytriton has no stub for Python {version}.",
            "Make the environment with Python 3.11 or 3.12.",
        )
    backend = backends / "python"
    backend.mkdir(parents=True)
    for part in [*(home / "backends" / "python").iterdir(), stub]:
        if part.is_file():
            (backend / part.name).symlink_to(part)
    libraries = [package.parent / "nvidia_pytriton.libs", _library_of_python()]
    inherited = os.environ.get("LD_LIBRARY_PATH")
    search = [str(path) for path in libraries if path] + ([inherited] if inherited else [])
    return Triton(
        home / "bin" / "tritonserver",
        (f"--backend-directory={backends}",),
        {
            "LD_LIBRARY_PATH": ":".join(search),
            # The stub heeds neither PYTHONHOME nor PYTHONPATH: its packages are those of the first python3 on PATH.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        },
    )


def _library_of_python() -> Path | None:
    """The folder of libpython, which the stub loads; None where the system's linker finds it by itself."""
    name = str(sysconfig.get_config_var("INSTSONAME") or "")
    folders = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix) / "lib")]
    for folder in folders:
        if folder and ".so" in name and (Path(folder) / name).is_file():
            return Path(folder)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    from ctypes.util import find_library

    if find_library(f"python{version}"):
        return None
    raise ServerError(
        "PYTHON_LIBRARY_MISSING",
        f"This Python {version} comes without its shared library libpython{version}.so, which Triton's stub loads.",
        f"Install it (Debian and Ubuntu: apt-get install libpython{version}), or make the environment with a Python "
        "that was built with --enable-shared.",
    )
