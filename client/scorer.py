"""From a box of voxels to the outcome of its nodule: asked for, tried again, read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tenacity import AsyncRetrying
from tritonclient.grpc import service_pb2 as pb

from noduleserve.errors import NoduleserveError
from noduleserve.preprocessing import views_of_request
from noduleserve.results.outcome import Outcome, Score
from noduleserve.worklist.table import Nodule

from .messages import score_of, score_request
from .options import PRIORITIES, EngineOptions
from .readers.work import Cut
from .retry import is_fatal, retrying
from .servers import Servers
from .status import EngineStatus


@dataclass(frozen=True, eq=False)
class ReadNodule:
    """A nodule whose box has been read.

    Attributes:
        nodule: as the worklist has it.
        cut: the box.
        series_uid: of the series that it was read from.
        scanner: that made the series; see Outcome.
        opened: seconds that opening the series took, for its first nodule; None for the others.
        reserved: bytes of the budget that it holds.
        waited: seconds that it waited for room in that budget.
        ready: when its box was there, seconds of time.perf_counter.
    """

    nodule: Nodule
    cut: Cut
    series_uid: str
    scanner: dict[str, str]
    opened: float | None
    reserved: int
    waited: float = 0.0
    ready: float = field(default_factory=time.perf_counter)


class Scorer:
    """Asks the servers; any number of nodules at a time."""

    def __init__(self, servers: Servers, options: EngineOptions, status: EngineStatus) -> None:
        self._servers, self._options, self._status = servers, options, status

    async def outcome(self, read: ReadNodule) -> Outcome:
        """The score of a nodule, or why it has none.

        Raises:
            NoduleserveError: what ends the run, such as SERVER_GONE.
        """
        cut = read.cut
        waited = read.waited + time.perf_counter() - read.ready
        seconds = {"box": cut.seconds, "wait": waited} | ({} if read.opened is None else {"open": read.opened})
        try:
            score = await self._score(cut, seconds)
            views = await asyncio.to_thread(_views_of, cut) if self._options.views else None
        except NoduleserveError as error:
            if is_fatal(error):
                raise
            return replace(_outcome(read, seconds), error_code=error.code, error=error.sentence)
        except Exception as error:  # whatever it was, this nodule gets a row and the next one its turn
            what = f"{type(error).__name__} in the client."
            return replace(_outcome(read, seconds), error_code="CLIENT_ERROR", error=what)
        return replace(_outcome(read, seconds), score=score, views=views)

    async def _score(self, cut: Cut, seconds: dict[str, float]) -> Score:
        priority = PRIORITIES[self._options.priority]
        request = score_request("", cut.voxels, cut.box, cut.geometry, cut.center, priority)
        response: pb.ModelInferResponse = await self._retrying()(self._asked, request, seconds)
        return score_of(response, self._servers.info)

    async def _asked(self, request: pb.ModelInferRequest, seconds: dict[str, float]) -> pb.ModelInferResponse:
        began = time.perf_counter()
        response = await self._servers.ask(request)
        seconds["server"] = time.perf_counter() - began
        return response

    def _retrying(self) -> AsyncRetrying:
        def count() -> None:
            self._status.retries += 1

        return retrying(self._options.retries, self._options.backoff, count)


def _outcome(read: ReadNodule, seconds: dict[str, float]) -> Outcome:
    """What is known before the answer."""
    return Outcome(
        read.nodule, seconds=seconds, warnings=read.cut.warnings, series_uid=read.series_uid, scanner=read.scanner
    )


def _views_of(cut: Cut) -> NDArray[np.float32]:
    return views_of_request(cut.voxels, cut.box.start, cut.geometry.shape, cut.geometry.affine, cut.center)
