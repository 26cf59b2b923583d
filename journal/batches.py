"""A thread that gathers what many hand in, hands it on in batches, and tells each when its batch is safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from noduleserve.errors import JournalError

_T = TypeVar("_T")


class Batches(Generic[_T]):
    """Hands on items in the order in which they were put.

    A batch goes when it is large enough, when its first item has waited long enough, or when it is asked for; all that
    has come in by then goes with it. After the first error nothing is taken or handed on any more.

    Attributes:
        failure: the first error, or None.
    """

    def __init__(self, write: Callable[[list[_T]], None], batch: int, seconds: float) -> None:
        """Begin.

        Args:
            write: takes a batch and returns when it is safe, or raises JournalError; called by one thread only.
            batch: so many items go without waiting for more.
            seconds: an item waits for others so long, at most.
        """
        self._write, self._batch, self._seconds = write, batch, seconds
        self._groups: list[tuple[Sequence[_T], Future[None]]] = []
        self._waiting = 0  # items in _groups
        self._due = 0.0
        self._hurry = self._closing = False
        self._changed = threading.Condition()
        self.failure: JournalError | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, items: Sequence[_T], *, hurry: bool = False) -> Future[None]:
        """Hand in items that stay together; the future is done when they are safe, and all that came before them.

        Args:
            items: none is allowed, to wait for those before.
            hurry: do not wait for more.

        Raises:
            JournalError: the first error, where there was one.
            ValueError: behind `close`.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # one who stops waiting must not keep the others from being told
        with self._changed:
            if self.failure is not None:
                raise self.failure
            if self._closing:
                raise ValueError("the journal is closed")
            if not self._groups:
                self._due = time.monotonic() + self._seconds
            self._groups.append((items, future))
            self._waiting += len(items)
            self._hurry |= hurry
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Hand on what is waiting and end the thread; an error is in `failure`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while groups := self._next_groups():
            try:
                if items := [item for group, _ in groups for item in group]:
                    self._write(items)
            except JournalError as error:
                self._fail(groups, error)
            except Exception as error:  # such as no memory left: nobody may wait for ever
                self._fail(groups, JournalError("JOURNAL_NOT_WRITTEN", f"{type(error).__name__} in the journal."))
            else:
                for _, future in groups:
                    future.set_result(None)

    def _next_groups(self) -> list[tuple[Sequence[_T], Future[None]]]:
        with self._changed:
            self._changed.wait_for(lambda: self._groups or self._closing)
            while not (self._waiting >= self._batch or self._hurry or self._closing):
                if (left := self._due - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            groups, self._groups, self._waiting, self._hurry = self._groups, [], 0, False
            return groups

    def _fail(self, groups: list[tuple[Sequence[_T], Future[None]]], error: JournalError) -> None:
        with self._changed:
            self.failure = error
            groups, self._groups, self._waiting = groups + self._groups, [], 0
        for _, future in groups:
            future.set_exception(error)
