"""nodule_preprocess in the real Triton under load: its memory stands still, and one thread does its work."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from noduleserve.benchmarks.preprocessing_server import Watched, random_nodules, watch_preprocessing
from noduleserve.demo.command import RELEASE
from noduleserve.release import Release

LEAST_LEAK_MB = 20.0  # what would be seen of a leak


@pytest.fixture(scope="module")
def watched() -> Watched:
    """A run in an environment that lets numpy start more threads than this machine may have cores."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setenv(name, "4")
        return watch_preprocessing(Release.open(RELEASE), 240, largest_mb=3.0, tell=lambda line: None)


def test_memory_stands_still(watched: Watched) -> None:
    assert watched.at == [0, 60, 120, 180, 240]
    assert sum(watched.sent_mb[120:]) > 5 * LEAST_LEAK_MB  # what it would have grown by if boxes were kept
    assert watched.stub_mb[4] - watched.stub_mb[2] < LEAST_LEAK_MB
    assert min(watched.stub_mb) > 20  # the process of a Python with numpy


def test_one_thread_does_the_work(watched: Watched) -> None:
    assert len(watched.cpu_s) > 1  # those of numpy and of Triton are there, but idle
    assert sum(watched.cpu_s) > 0.3
    assert watched.cpu_s[0] / sum(watched.cpu_s) > 0.98


def test_the_tables_say_what_was_seen() -> None:
    seen = Watched([0, 2], [50.0, 51.5], [90.0, 91.0], [0.01, 0.03], [0.5, 2.5], [3.0, 1.0])
    memory, request, threads = seen.tables()
    assert memory.rows == ((0, 50.0, 90.0), (2, 51.5, 91.0))
    assert request.rows[0] == pytest.approx((2, 20.0, 29.8, 30.0, 0.5, 1.5, 2.5))
    assert threads.rows == ((2, 4.0, 0.75),)
    assert [line.y for line in seen.plot().lines] == [(50.0, 51.5), (90.0, 91.0)]


def test_nodules_are_of_many_shapes() -> None:
    nodules = list(itertools.islice(random_nodules(3.0), 60))
    shapes = {inputs["VOXELS"][1].shape for inputs in nodules}
    assert len(shapes) > 50
    off_diagonal = [np.count_nonzero(inputs["VOLUME_AFFINE"][1][0, :3, :3]) > 3 for inputs in nodules]
    assert 10 < sum(off_diagonal) < 30
    assert max(inputs["VOXELS"][1].nbytes for inputs in nodules) <= 3e6
