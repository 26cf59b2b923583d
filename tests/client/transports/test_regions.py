"""Whose a region of shared memory is, when it is written again, and what is swept away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from noduleserve.client.transports import regions
from noduleserve.client.transports.regions import FOLDER, RegionPool, is_stale, sweep

if not FOLDER.is_dir():
    pytest.skip("no POSIX shared memory", allow_module_level=True)
MB = 2**20


@pytest.fixture
def pool() -> Iterator[RegionPool]:
    made = RegionPool()
    yield made
    made.close()
    made.end()


def files(pool: RegionPool) -> list[str]:
    return sorted(file.name for file in FOLDER.glob(f"{pool._owner}-*"))


def test_a_region_that_came_back_is_lent_again_and_one_that_was_given_up_never(pool: RegionPool) -> None:
    first = pool.lend(5)
    other = pool.lend(5)
    assert first.name != other.name and files(pool) == sorted([first.name, other.name])
    pool.take_back(first)
    assert pool.lend(MB) is first
    pool.give_up(first)
    names = {pool.lend(5).name for _ in range(3)}
    assert first.name not in names
    assert first.name in pool.given_up and first.name not in files(pool)


def test_regions_grow_and_small_ones_make_room(pool: RegionPool) -> None:
    small = pool.lend(MB)
    pool.take_back(small)
    large = pool.lend(MB + 1)
    assert (small.size, large.size) == (MB, 2 * MB)
    assert files(pool) == [large.name] and pool.given_up == [small.name]
    assert (FOLDER / large.name).stat().st_blocks * 512 >= large.size  # the memory is there before it is written
    assert (FOLDER / large.name).stat().st_mode & 0o777 == 0o600


def test_a_region_is_given_up_while_a_request_goes_on_and_comes_back_too_late(pool: RegionPool) -> None:
    region = pool.lend(1)
    pool.give_up(region)
    pool.take_back(region)
    assert pool.lend(1) is not region


def test_a_closed_pool_lends_nothing_and_leaves_nothing(pool: RegionPool) -> None:
    region = pool.lend(1)
    pool.take_back(pool.lend(1))
    pool.close()
    pool.give_up(region)  # its request ended after all
    assert files(pool) == [] and len(pool.given_up) == 2
    with pytest.raises(OSError, match="closed"):
        pool.lend(1)


@pytest.mark.skipif(not os.statvfs(FOLDER).f_blocks, reason="/dev/shm has no limit here")
def test_no_room_is_an_error_and_not_a_signal(pool: RegionPool) -> None:
    with pytest.raises(OSError):
        pool.lend(2**44)
    assert files(pool) == []


def test_what_a_killed_process_left_is_swept_and_what_others_use_is_not(pool: RegionPool) -> None:
    region = pool.lend(1)
    script = (
        "import os, signal\n"
        "from multiprocessing import resource_tracker\n"
        "from noduleserve.client.transports.regions import RegionPool\n"
        "region = RegionPool().lend(1)\n"
        "resource_tracker.unregister(region._memory._name, 'shared_memory')\n"  # as if it had been killed with it
        "print(region.name, flush=True)\n"
        "input()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    line = [sys.executable, "-c", script]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        name = process.stdout.readline().strip()
        sweep()
        assert (FOLDER / name).exists() and not is_stale(name)
        process.communicate("\n")
    assert (FOLDER / name).exists() and is_stale(name)
    foreign = name.replace(f"{regions.PREFIX}-{regions._space()}-", f"{regions.PREFIX}-1-")
    (FOLDER / name).rename(FOLDER / foreign)
    try:
        sweep()
        assert (FOLDER / foreign).exists() and not is_stale(foreign)  # of another container: who knows
    finally:
        (FOLDER / foreign).rename(FOLDER / name)
    sweep()
    assert not (FOLDER / name).exists()
    assert files(pool) == [region.name]


def test_regions_of_a_pool_that_ended_in_this_process_are_stale() -> None:
    ended = RegionPool()
    name = ended.lend(1).name
    assert not is_stale(name)
    ended.close()
    ended.end()
    assert is_stale(name)
    assert not is_stale("noduleserve_123_abc") and not is_stale("psm_1234")
