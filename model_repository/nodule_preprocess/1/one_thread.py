"""Holds numpy's matrix products to the thread that asks for them.

Variables such as OPENBLAS_NUM_THREADS are read when the library is loaded, and Triton's stub has imported numpy before
any model of ours: the library itself has to be told.  More threads would only take cores from the encoder.
"""

import contextlib
import ctypes
import os
from pathlib import Path

_NAMED = ("openblas", "mkl_rt", "blis")  # what numpy may be built on
_SETTERS = [f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]
_SETTERS += ["MKL_Set_Num_Threads", "bli_thread_set_num_threads"]


def hold_to_one_thread() -> list[str]:
    """Tell every BLAS library of this process to use one thread; names of the files of those that were told."""
    told = []
    for library in _loaded():
        with contextlib.suppress(OSError):
            functions = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            for name in _SETTERS:
                if hasattr(functions, name):
                    getattr(functions, name)(1)
                    told.append(library.name)
                    break
    return told


def _loaded() -> list[Path]:
    """Files of the BLAS libraries that are mapped into this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {Path(line.split(maxsplit=5)[5]) for line in lines if line.count("/")}
    return sorted(file for file in files if any(part in file.name for part in _NAMED))
