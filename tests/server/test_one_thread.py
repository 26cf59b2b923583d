"""BLAS is held to one thread after numpy is loaded, as an independent reader of the libraries sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noduleserve import model_repository

FOLDER = Path(next(iter(model_repository.__path__))) / "nodule_preprocess" / "1"
SCRIPT = """
import json, sys
sys.path.insert(0, {folder!r})
import numpy
import threadpoolctl
def threads():
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
before = threads()
from one_thread import hold_to_one_thread
told = hold_to_one_thread()
numpy.ones((500, 500)) @ numpy.ones((500, 500))
print(json.dumps([before, told, threads()]))
"""


def test_numpys_library_is_told() -> None:
    pytest.importorskip("threadpoolctl", reason="it reads the number of threads")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("on one core numpy's library has one thread anyway")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(FOLDER))],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    before, told, after = json.loads(done.stdout)
    assert before and set(before) == {2}
    assert len(told) == len(before)
    assert set(after) == {1}
