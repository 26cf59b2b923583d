"""Several processes: one writer a journal, and a writer that is killed leaves all that it had told to be safe."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outcome_making import content, key, scored

from noduleserve.errors import JournalError
from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal
from noduleserve.journal.mending import verify


@contextlib.contextmanager
def child(work: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """A process that does the work, which writes to the pipe it is given; its number, and the pipe's other end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        yield pid, reading
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def wait_for_word(pipe: int) -> bytes:
    assert select.select([pipe], [], [], 60)[0], "the other process says nothing"
    return os.read(pipe, 100)


def hold(path: Path) -> Callable[[int], None]:
    def work(pipe: int) -> None:
        with Journal.open(path) as journal:
            journal.append_all([scored(1)])
            os.write(pipe, b"open")
            signal.pause()

    return work


def test_a_second_run_is_refused_and_told_who_holds_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "night.journal"
    with child(hold(path)) as (pid, pipe):
        assert wait_for_word(pipe) == b"open"
        for fresh in (False, True):
            with pytest.raises(JournalError, match="JOURNAL_IN_USE") as refused:
                Journal.open(path, fresh=fresh)
            assert f"Process {pid} is writing" in str(refused.value)
        assert [file.name for file in tmp_path.iterdir()] == ["night.journal"]
        with Contents.open(path) as contents:  # reading is free
            assert contents.count == 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with Journal.open(path) as journal:
            assert content(journal.get(key(1))) == content(scored(1))


def test_a_second_run_of_the_same_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "night.journal"
    with Journal.open(path), pytest.raises(JournalError, match="This process is writing"):
        Journal.open(path)
    with Journal.open(path):
        pass


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "night.journal"

    def parent(pipe: int) -> None:
        journal = Journal.open(path)
        if os.fork() == 0:  # a reader process of the run, which outlives it
            os.write(pipe, b"%d" % os.getpid())
            signal.pause()
        journal.append_all([scored(1)])
        signal.pause()

    with child(parent) as (pid, pipe):
        orphan = int(wait_for_word(pipe))
        try:
            with pytest.raises(JournalError, match=f"Process {pid} is writing"):
                Journal.open(path)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.kill(orphan, 0)  # it is there
            with Journal.open(path):
                pass
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_a_journal_that_is_put_aside_between_opening_and_locking_is_not_written(tmp_path: Path) -> None:
    path, aside = tmp_path / "night.journal", tmp_path / "night.journal.1"
    with Journal.open(path) as journal:
        journal.append_all([scored(1)])

    def put_aside_by_another(event: str, _: object) -> None:
        if event == "fcntl.flock" and not aside.exists():
            path.rename(aside)

    def work(pipe: int) -> None:
        sys.addaudithook(put_aside_by_another)  # called right before the lock; in this process only
        with Journal.open(path) as journal:
            journal.append_all([scored(2)])
        os.write(pipe, b"done")

    with child(work) as (_, pipe):
        assert wait_for_word(pipe) == b"done"
    for file, number in ((aside, 1), (path, 2)):
        with Contents.open(file) as contents:
            assert [record.outcome.nodule.number for record in contents.records()] == [number]


def append_for_ever(path: Path, first: int) -> Callable[[int], None]:
    def work(pipe: int) -> None:
        number = first
        with Journal.open(path, seconds=0) as journal:
            while True:
                many = [scored(n) for n in range(number, number + 1 + number % 7)]
                journal.append_all(many)
                for record in many:
                    os.write(pipe, b"%d\n" % record.outcome.nodule.number)
                number += len(many)

    return work


def killed_after(path: Path, first: int, seconds: float) -> list[int]:
    """Numbers of the records that a writer had told to be safe when it was killed."""
    told = b""
    with child(append_for_ever(path, first)) as (pid, pipe):
        select.select([pipe], [], [], 60)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while part := os.read(pipe, 2**16):
            told += part
    return [int(word) for word in told.split(b"\n")[:-1]]


def test_whatever_was_told_to_be_safe_outlives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "night.journal"
    chance = random.Random(11)
    safe: list[int] = []
    for _ in range(25):
        first = safe[-1] + 1000 if safe else 0
        told = killed_after(path, first, chance.uniform(0, 0.03))
        assert told, "the writer told of no record before it was killed"
        safe += told
        _, bad = verify(path)
        assert all(place.torn for place in bad)
        with Contents.open(path) as contents:
            assert all(key(number) in contents for number in safe)
    with Journal.open(path) as journal:
        for number in safe:
            assert content(journal.get(key(number))) == content(scored(number))
        written = [record.outcome.nodule.number for record in journal.records()]
        assert written == sorted(written)  # those too that were written but not told of yet
        assert len(path.read_bytes().splitlines()) == 1 + len(written)  # each once
        journal.append_all([scored(999_999)])
    assert verify(path)[1] == []
