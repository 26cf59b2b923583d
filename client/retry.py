"""What is asked for again, what ends a run, and how long the pauses are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_random

from noduleserve.errors import NoduleserveError

# Of a server or of the way to it, and gone at another time or with another server.
TRANSIENT = frozenset(
    {"SERVER_LOST", "SERVER_UNREACHABLE", "SERVER_STOPPING", "SERVER_BUSY", "SERVER_BROKEN", "ANSWER_LATE"}
)
# Of the run as a whole: no nodule is to be written as failed for it.
FATAL = frozenset({"SERVER_GONE", "SERVERS_DIFFER", "RELEASE_CHANGED", "READERS_NOT_STARTED"})


@dataclass(frozen=True)
class Backoff:
    """Pauses between tries: `first` doubled again and again up to `longest`, and up to `jitter` more by chance.

    The chance keeps many clients that lost one server from coming back in the same moment.

    Attributes:
        first, longest, jitter: seconds.
    """

    first: float = 0.25
    longest: float = 30.0
    jitter: float = 0.5

    @property
    def wait(self) -> wait_base:
        """The same for tenacity."""
        return wait_exponential(multiplier=self.first, max=self.longest) + wait_random(0, self.jitter)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed."""
    return isinstance(error, NoduleserveError) and error.code in TRANSIENT


def is_fatal(error: BaseException) -> bool:
    """Whether the run breaks off."""
    return isinstance(error, NoduleserveError) and error.code in FATAL


def retrying(
    retries: int,
    backoff: Backoff,
    on_retry: Callable[[], None] = lambda: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """Tries again after transient failures, `retries` times at most; the last error is raised as it is."""

    def told(_: RetryCallState) -> None:
        on_retry()

    return AsyncRetrying(
        retry=retry_if_exception(is_transient),
        wait=backoff.wait,
        stop=stop_after_attempt(retries + 1),
        before_sleep=told,
        sleep=sleep,
        reraise=True,
    )
