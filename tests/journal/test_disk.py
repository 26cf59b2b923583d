"""Disks that take no more: nobody is told that a record is safe when it is not, and the journal stays usable."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from outcome_making import content, key, scored

from noduleserve.errors import JournalError
from noduleserve.journal.appending import Appender
from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal
from noduleserve.journal.mending import verify


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond a size; Python ignores SIGXFSZ, so that writing gives EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "night.journal"
    with Journal.open(path) as journal:
        journal.append_all([scored(0)])
    return path


@pytest.mark.parametrize("room", [0, 1, 1000, 5000])
def test_a_full_disk_keeps_what_counted_and_the_journal_goes_on(path: Path, room: int) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"JOURNAL_NOT_WRITTEN.*Make space"), Journal.open(path) as journal:
        with largest_file(len(before) + room):
            journal.append(scored(1))
            with pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
                journal.append_all([scored(2), scored(3)])
        assert path.read_bytes() == before  # cut back: no half of a record stays
        with pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
            journal.append(scored(4))  # though there is room again: something was lost, and the run must break off
        with pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
            journal.flush()
        assert content(journal.get(key(0))) == content(scored(0))
        assert journal.count == 1
    with Journal.open(path) as journal:
        assert journal.cut_bytes == 0
        journal.append_all([scored(number) for number in (1, 2, 3)])
    with Contents.open(path) as contents:
        assert [content(r) for r in contents.records()] == [content(scored(number)) for number in range(4)]


def test_everyone_who_waits_is_told(path: Path) -> None:
    async def commit_many() -> list[BaseException | None]:
        journal = Journal.open(path, batch=6, seconds=3600)
        with largest_file(path.stat().st_size + 3000):
            tasks = [asyncio.create_task(journal.commit([scored(number)])) for number in range(6)]
            told = await asyncio.gather(*tasks, return_exceptions=True)
            late = await asyncio.gather(journal.commit([scored(9)]), return_exceptions=True)
        journal.close()
        return told + late

    told = asyncio.run(commit_many())
    assert [getattr(error, "code", None) for error in told] == ["JOURNAL_NOT_WRITTEN"] * 7
    assert verify(path)[1] == []


def test_what_was_safe_before_stays_told_safe(path: Path) -> None:
    async def commit_until_full() -> list[int]:
        safe = []
        journal = Journal.open(path, seconds=0)
        with largest_file(path.stat().st_size + 20_000), contextlib.suppress(JournalError):
            for number in range(1, 100):
                await journal.commit([scored(number)])
                safe.append(number)
        journal.close()
        return safe

    safe = asyncio.run(commit_until_full())
    assert 2 <= len(safe) < 20
    with Contents.open(path) as contents:
        assert [r.outcome.nodule.number for r in contents.records()] == [0, *safe]


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_disk(path: Path) -> None:
    with pytest.raises(KeyError), Journal.open(path, batch=9, seconds=3600) as journal:
        with largest_file(path.stat().st_size):
            journal.append(scored(1))
            journal.close()
        raise KeyError("an error of the run")


def test_a_full_device_moves_no_end() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY | os.O_APPEND)
    try:
        appender = Appender(descriptor, 7)
        with pytest.raises(OSError) as caught:
            appender.append(b"a record")
        assert caught.value.errno == errno.ENOSPC
        assert appender.end == 7
    finally:
        os.close(descriptor)


def test_a_journal_that_finds_no_room_for_its_header_leaves_no_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "new.journal"
    with largest_file(40), pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
        Journal.open(path)
    assert path.read_bytes() == b""
    with Journal.open(path) as journal:
        journal.append_all([scored(1)])


def test_a_torn_end_is_not_cut_where_it_cannot_be_kept(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"kind":"outcome","ke')
    before = path.read_bytes()
    with largest_file(0), pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
        Journal.open(path)
    assert path.read_bytes() == before


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Journal.open(folder / "old.journal") as journal:
            journal.append_all([scored(1)])
        (folder / "old.journal").chmod(0o444)
        folder.chmod(0o555)
        try:
            with as_nobody():
                for path in (folder / "new.journal", folder / "old.journal", folder / "deep" / "new.journal"):
                    with pytest.raises(JournalError, match=r"JOURNAL_NOT_WRITTEN.*permission"):
                        Journal.open(path)
                with Contents.open(folder / "old.journal") as contents:
                    assert contents.count == 1
            assert [file.name for file in folder.iterdir()] == ["old.journal"]
        finally:
            folder.chmod(0o755)
