"""What a plan must fit: the GPU's compute capability and the version of TensorRT, asked of their own libraries.

Both are asked through ctypes: a machine that only serves has NVIDIA's libraries, but no Python package of theirs.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from importlib import util
from types import ModuleType

from noduleserve.errors import EngineError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
_LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10")
_BINDINGS = ("tensorrt", "tensorrt_bindings")


@dataclass(frozen=True)
class Machine:
    """What this machine runs plans with.

    Attributes:
        compute_capability: "9.0", of the first GPU that CUDA shows; None without one.
        tensorrt: "10.13.3"; None where no TensorRT library is found.
    """

    compute_capability: str | None
    tensorrt: str | None

    @classmethod
    def this(cls) -> Machine:
        """This machine."""
        return cls(compute_capability(), tensorrt_version())

    def __str__(self) -> str:
        gpu = f"compute capability {self.compute_capability}" if self.compute_capability else "no GPU"
        return f"{gpu}, TensorRT {self.tensorrt or 'of unknown version'}"


def compute_capability() -> str | None:
    """Of the first GPU that CUDA shows (CUDA_VISIBLE_DEVICES is heeded); None without driver or GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    ):
        return None
    return f"{major.value}.{minor.value}"


def tensorrt_version() -> str | None:
    """Major, minor and patch of the TensorRT library that this machine loads; None where there is none."""
    for name in _LIBRARIES:
        try:
            version = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return None


def import_tensorrt() -> ModuleType:
    """TensorRT's Python API: `tensorrt`, else the bindings alone, which load the library that the machine has.

    Raises:
        EngineError: TENSORRT_NOT_FOUND.
    """
    reasons = []
    for name in _BINDINGS:
        if util.find_spec(name) is None:
            continue
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reasons.append(f"{name} does not load: {error}")
    version = tensorrt_version()
    wanted = f"{version}.*" if version else "<version of its libnvinfer>"
    raise EngineError(
        "TENSORRT_NOT_FOUND",
        "TensorRT's Python API is not here" + (f" ({'; '.join(reasons)})." if reasons else "."),
        f"Inside NVIDIA's Triton container run `pip install 'tensorrt-cu12-bindings=={wanted}'` (-cu13- where its CUDA "
        "is 13); elsewhere `pip install tensorrt`.",
    )


def version_of(tensorrt: ModuleType) -> str:
    """Major, minor and patch of the imported API, which is that of its library."""
    return ".".join(str(tensorrt.__version__).split(".")[:3])
