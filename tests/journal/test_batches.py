"""Batches: order kept, everyone told, nobody left waiting."""

from __future__ import annotations

import threading

import pytest

from noduleserve.errors import JournalError
from noduleserve.journal.batches import Batches


def test_what_comes_while_a_batch_fails_is_told_too_and_never_written() -> None:
    writing, go = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def write(items: list[int]) -> None:
        seen.append(items)
        writing.set()
        assert go.wait(60)
        raise JournalError("JOURNAL_NOT_WRITTEN", "The disk is full.")

    batches = Batches(write, batch=1, seconds=0)
    first = batches.put([1])
    assert writing.wait(60)
    during = [batches.put([2]), batches.put([], hurry=True)]
    go.set()
    for future in (first, *during):
        with pytest.raises(JournalError, match="The disk is full"):
            future.result(60)
    with pytest.raises(JournalError, match="The disk is full"):
        batches.put([3])
    batches.close()
    assert seen == [[1]]
    assert batches.failure is not None


def test_what_comes_while_a_batch_is_written_goes_together_in_its_order() -> None:
    writing, go = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def write(items: list[int]) -> None:
        seen.append(items)
        writing.set()
        assert go.wait(60)

    batches = Batches(write, batch=1, seconds=0)
    batches.put([1])
    assert writing.wait(60)
    batches.put([2, 3])
    last = batches.put([4])
    assert not last.done()
    go.set()
    last.result(60)
    batches.put([], hurry=True).result(60)
    batches.close()
    assert seen == [[1], [2, 3, 4]]


def test_an_error_that_nobody_foresaw_leaves_nobody_waiting() -> None:
    def write(items: list[int]) -> None:
        raise MemoryError(items)

    batches = Batches(write, batch=1, seconds=0)
    with pytest.raises(JournalError, match="MemoryError"):
        batches.put([1]).result(60)
    batches.close()


def test_a_batch_that_is_asked_for_goes_at_once() -> None:
    seen: list[list[int]] = []
    batches = Batches(seen.append, batch=100, seconds=3600)
    waiting = batches.put([1])
    batches.put([], hurry=True).result(60)
    assert waiting.done() and seen == [[1]]
    batches.close()
