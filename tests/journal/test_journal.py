"""The journal as a run uses it: what counts is there, once, in order, and the next run goes on from it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from pathlib import Path

import pytest
from outcome_making import INFO, content, key, nodule, parked, run, scored

from noduleserve.errors import JournalError
from noduleserve.journal.contents import Contents
from noduleserve.journal.journal import Journal
from noduleserve.journal.line import encode
from noduleserve.journal.record import OutcomeRecord, Record, RowRecord


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "night.journal"


def written(path: Path, *records: Record) -> Path:
    with Journal.open(path) as journal:
        journal.append_all(records)
    return path


def numbers(contents: Contents) -> list[int]:
    return [record.outcome.nodule.number for record in contents.records()]


def test_outcomes_are_found_in_the_run_and_after_it(path: Path) -> None:
    with Journal.open(path) as journal:
        assert (journal.count, journal.cut_bytes, journal.run) == (0, 0, None)
        assert journal.get(key(1)) is None
        journal.append_all([scored(1), parked(2)])
        assert content(journal.get(key(1))) == content(scored(1))
        assert key(2) in journal and key(3) not in journal
    with Contents.open(path) as contents:
        assert [content(record) for record in contents.records()] == [content(scored(1)), content(parked(2))]
        assert contents.get(key(3)) is None
        assert contents.first is not None and contents.last is not None and contents.first <= contents.last


def test_what_is_not_on_the_disk_is_not_there(path: Path) -> None:
    with Journal.open(path, batch=100, seconds=3600) as journal:
        size = path.stat().st_size
        journal.append(scored(1))
        assert journal.get(key(1)) is None and path.stat().st_size == size
        journal.flush()
        assert journal.get(key(1)) is not None and path.stat().st_size > size
        journal.append(scored(2))
    with Contents.open(path) as contents:  # leaving the block wrote the rest
        assert numbers(contents) == [1, 2]


def test_the_next_run_goes_on_and_changes_no_byte(path: Path) -> None:
    before = written(path, scored(1)).read_bytes()
    with Journal.open(path) as journal:
        assert key(1) in journal
        journal.append_all([scored(2)])
    assert path.read_bytes().startswith(before)
    with Contents.open(path) as contents:
        assert numbers(contents) == [1, 2]


def test_a_later_outcome_stands_for_the_earlier_ones(path: Path) -> None:
    written(path, parked(1), scored(2), scored(1))
    with Journal.open(path) as journal:
        assert numbers(journal) == [2, 1]
        assert content(journal.get(key(1))) == content(scored(1))
        assert journal.counts() == {("ns-1", "scored"): 2}
        journal.append_all([parked(2, "SERIES_UNREADABLE")])
        assert journal.counts() == {("ns-1", "scored"): 1, ("ns-1", "SERIES_UNREADABLE"): 1}
        assert journal.count == 2


def test_counts_are_by_release_and_code(path: Path) -> None:
    written(path, scored(1), scored(1, "ns-2"), parked(2), parked(3), parked(4, "SERIES_UNREADABLE"))
    with Contents.open(path) as contents:
        assert contents.counts() == {
            ("ns-1", "scored"): 1,
            ("ns-2", "scored"): 1,
            ("ns-1", "CENTER_OUTSIDE"): 2,
            ("ns-1", "SERIES_UNREADABLE"): 1,
        }


def test_every_row_of_the_worklist_comes_in_its_order_twins_too(path: Path) -> None:
    twin = dataclasses.replace(nodule(1), number=3, columns={**nodule(1).columns, "remark, with comma": "twin"})
    with Journal.open(path) as journal:
        journal.append_all([run(5), scored(2), scored(1), RowRecord(key(1), twin), parked(0)])
        assert journal.run is not None and journal.run.info.labels == INFO.labels
        assert journal.missing == 1
        rows = list(journal.rows())
    assert [row.outcome.nodule.number for row in rows] == [0, 1, 2, 3]
    assert rows[3].outcome.nodule == twin
    assert content(rows[3])[3:] == content(scored(1))[3:]


def test_twins_get_the_later_outcome_of_their_key(path: Path) -> None:
    twin = dataclasses.replace(nodule(1), number=3)
    computed_twice = OutcomeRecord(key(1), dataclasses.replace(parked(1).outcome, nodule=twin))
    written(path, run(4), parked(1), computed_twice, scored(1))
    with Contents.open(path) as contents:
        assert [(row.outcome.nodule.number, row.outcome.status) for row in contents.rows()] == [
            (1, "scored"),
            (3, "scored"),
        ]


@pytest.mark.parametrize(
    ("second", "rows"),
    [
        (run(3), [0, 1]),
        (run(3, digest="1" * 64), []),
        (run(3, release="ns-2"), []),
        (dataclasses.replace(run(3), preprocessing="2"), []),
    ],
    ids=["taken up", "other worklist", "other release", "other preprocessing"],
)
def test_a_run_takes_up_the_one_before_where_both_are_the_same(path: Path, second: Record, rows: list[int]) -> None:
    written(path, run(3), scored(0), scored(1))
    written(path, second)
    with Contents.open(path) as contents:
        assert [row.outcome.nodule.number for row in contents.rows()] == rows
        assert contents.missing == 3 - len(rows)
        assert numbers(contents) == [0, 1]


def test_outcomes_of_an_earlier_run_are_resumed(path: Path) -> None:
    written(path, run(3), scored(0))
    with Journal.open(path) as journal:
        assert [row.outcome.resumed for row in journal.rows()] == [False]
        journal.append_all([run(3), scored(1)])
        assert [row.outcome.resumed for row in journal.rows()] == [True, False]


def test_a_row_that_is_known_is_not_written_again(path: Path) -> None:
    written(path, run(3), scored(0), scored(1))
    with Journal.open(path) as journal:
        journal.append_all([run(3)])
        size = path.stat().st_size
        journal.append_all([RowRecord(key(0), nodule(0)), RowRecord(key(1), nodule(1))])
        assert path.stat().st_size == size
        journal.append_all([run(3, digest="1" * 64), RowRecord(key(0), dataclasses.replace(nodule(0), number=2))])
        assert [row.outcome.nodule.number for row in journal.rows()] == [2]


def test_fresh_keeps_the_old_one_under_a_number(path: Path) -> None:
    first = written(path, scored(1)).read_bytes()
    with Journal.open(path, fresh=True) as journal:
        assert journal.count == 0
        journal.append_all([scored(2)])
    second = path.read_bytes()
    with Journal.open(path, fresh=True):
        pass
    assert path.with_name("night.journal.1").read_bytes() == first
    assert path.with_name("night.journal.2").read_bytes() == second
    with Journal.open(path.with_name("night.journal.1")) as old:
        assert numbers(old) == [1]


def test_fresh_without_an_old_one_makes_one(path: Path) -> None:
    with Journal.open(path, fresh=True):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["night.journal"]


@pytest.mark.parametrize("foreign", [b"pid,nodule_id\n1,2\n", b"{", b'{"format":"noduleserve', b"\x00" * 100, b"\n"])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_foreign_file_is_left_as_it_is(tmp_path: Path, foreign: bytes, fresh: bool) -> None:
    path = tmp_path / "worklist.csv"
    path.write_bytes(foreign)
    with pytest.raises(JournalError, match="JOURNAL_NOT_A_JOURNAL"):
        Journal.open(path, fresh=fresh)
    with pytest.raises(JournalError, match="JOURNAL_NOT_A_JOURNAL"):
        Contents.open(path)
    assert path.read_bytes() == foreign
    assert [file.name for file in tmp_path.iterdir()] == ["worklist.csv"]


def test_what_is_no_file_is_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/full")):
        with pytest.raises(JournalError, match="JOURNAL_NOT_A_JOURNAL"):
            Journal.open(path)
    with pytest.raises(JournalError, match="JOURNAL_NOT_WRITTEN"):
        Journal.open(tmp_path)
    with pytest.raises(JournalError, match="JOURNAL_UNREADABLE"):
        Contents.open(tmp_path)
    with pytest.raises(JournalError, match="JOURNAL_NOT_FOUND"):
        Contents.open(tmp_path / "none")


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "made-by-mktemp"
    path.touch()
    written(path, scored(1))
    with Contents.open(path) as contents:
        assert numbers(contents) == [1]


def test_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "later.journal"
    path.write_bytes(encode({"format": "noduleserve.journal", "version": 2}) + encode({"kind": "outcome", "new": 1}))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="JOURNAL_VERSION"):
        Journal.open(path)
    with pytest.raises(JournalError, match="JOURNAL_VERSION"):
        Contents.open(path)
    assert path.read_bytes() == before


def test_an_outcome_with_fields_of_a_later_time_is_refused(path: Path) -> None:
    written(path)
    with path.open("ab") as file:
        file.write(encode({"kind": "outcome", "key": "00" * 32}))
    with pytest.raises(JournalError, match="JOURNAL_VERSION"):
        Journal.open(path)


def test_kinds_that_are_not_known_are_passed_over(path: Path) -> None:
    written(path, scored(1))
    with path.open("ab") as file:
        file.write(encode({"kind": "remark", "text": "from a later noduleserve"}))
    written(path, scored(2))
    with Contents.open(path) as contents:
        assert numbers(contents) == [1, 2]


def test_embeddings_can_be_left_out(path: Path) -> None:
    with Journal.open(path, embeddings=False) as journal:
        journal.append_all([scored(1)])
        found = journal.get(key(1))
    assert found is not None and found.outcome.score is not None
    assert found.outcome.score.embedding.shape == (2, 0)


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    with Journal.open(path) as journal:
        pass
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.append(scored(1))


def test_what_was_handed_in_is_kept_when_the_block_ends_in_an_error(path: Path) -> None:
    with pytest.raises(KeyError), Journal.open(path, batch=100, seconds=3600) as journal:
        journal.append(scored(1))
        raise KeyError("an error of the run")
    with Contents.open(path) as contents:
        assert numbers(contents) == [1]


def test_commits_of_many_share_a_batch_and_keep_their_order(path: Path) -> None:
    async def commit_all() -> None:
        with Journal.open(path, batch=8, seconds=3600) as journal:
            tasks = [asyncio.create_task(journal.commit([scored(number)])) for number in range(8)]
            await asyncio.gather(*tasks)  # eight make a batch, so that nobody waits an hour
            assert numbers(journal) == list(range(8))
            await journal.commit([])

    asyncio.run(commit_all())


def test_a_commit_in_a_hurry_takes_those_before_along(path: Path) -> None:
    async def commit_all() -> None:
        with Journal.open(path, batch=1000, seconds=3600) as journal:
            before = asyncio.create_task(journal.commit([scored(1)]))
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                await journal.commit([], hurry=True)
                await before
            assert numbers(journal) == [1]
            assert min(journal.spent.values()) > 0

    asyncio.run(commit_all())


def test_a_lone_commit_waits_no_longer_than_it_was_told(path: Path) -> None:
    async def commit_one() -> None:
        with Journal.open(path, batch=1000, seconds=0.01) as journal:
            await journal.commit([scored(1)])
            assert key(1) in journal

    asyncio.run(commit_one())


def test_one_who_stops_waiting_takes_nothing_from_the_others(path: Path) -> None:
    async def commit_two() -> None:
        with Journal.open(path, batch=3, seconds=3600) as journal:
            first = asyncio.create_task(journal.commit([scored(1)]))
            second = asyncio.create_task(journal.commit([scored(2)]))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.sleep(0)
            await journal.commit([scored(3)])
            await second
            assert first.cancelled()
            assert numbers(journal) == [1, 2, 3]

    asyncio.run(commit_two())


def test_threads_may_append_and_read_at_once(path: Path) -> None:
    wrong: list[int] = []

    def work(journal: Journal, first: int) -> None:
        for number in range(first, first + 25):
            journal.append_all([scored(number)])
            if content(journal.get(key(number))) != content(scored(number)) or not journal.counts():
                wrong.append(number)

    with Journal.open(path, seconds=0) as journal:
        threads = [threading.Thread(target=work, args=(journal, 100 * k)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.count == 100
    assert not wrong


def test_a_reader_sees_a_running_journal_up_to_where_it_is(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append_all([scored(1)])
        with Contents.open(path) as contents:
            journal.append_all([scored(2)])
            assert numbers(contents) == [1]
            assert numbers(journal) == [1, 2]
