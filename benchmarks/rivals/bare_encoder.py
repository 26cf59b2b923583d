"""The upper bound: the release's own encoder with nothing around it, on views that are ready in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.transports.unary import UnaryTransport
from noduleserve.protocol import arrays_of, infer_request
from noduleserve.release import Release
from noduleserve.served_engine import load_engine_module
from noduleserve.server.process import Endpoints, TritonProcess

from ..served_engine import encoder_folder
from .base import Case
from .cases import warm_up_case
from .ours import WARM_UP_CALLS, WARM_UP_S

MODEL = "nodule_encoder"
T = TypeVar("T")


class BareEncoder:
    """See Rival; a release of target `embedded`, run in this process by the very code that Triton runs."""

    name = "bare encoder"
    what = (
        "the release's encoder in the process of the benchmark, given ready views, one nodule at a time in one thread: "
        "no server, no preprocessing, the upper bound"
    )

    def __init__(self, release: Release, tell: Callable[[str], None] = lambda _: None) -> None:
        """Prepare; entering loads it.

        Args:
            release: of target `embedded`.
            tell: is called with a line where this machine lacks what the release's precision needs.

        Raises:
            ReleaseError: TARGET_OTHER.
        """
        self._folder, self._tell = encoder_folder(release), tell

    async def __aenter__(self) -> BareEncoder:
        self._thread = ThreadPoolExecutor(1, "bare encoder")
        try:
            engine = load_engine_module(self._folder)
            self._engine = await self._run(lambda: engine.open_engine(self._folder, log=self._tell))
            for _ in range(WARM_UP_CALLS):
                await self.score(warm_up_case(), WARM_UP_S)
        except BaseException:
            await asyncio.to_thread(self._thread.shutdown)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        del self._engine

    @property
    def pids(self) -> list[int]:
        """See Rival; it has no server."""
        return []

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            TimeoutError: its turn did not come, or end, in time.
        """
        async with asyncio.timeout(deadline):
            _, _, logits, _ = await self._run(lambda: self._engine(case.views[None]))
        return probability_of(logits[0])

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(work))


class EncoderInTriton:
    """See Rival; a release whose encoder only Triton can run: its model nodule_encoder is asked, nothing else.

    Enter it in the main thread.
    """

    name = "bare encoder"
    what = "the release's encoder in Triton, asked directly with ready views: no preprocessing, the upper bound"

    def __init__(self, release: Release) -> None:
        self._release = release
        self._numbers = itertools.count()

    async def __aenter__(self) -> EncoderInTriton:
        self.server = TritonProcess(self._release, Endpoints(grpc=0, http=0, metrics=0))
        try:
            self.server.start()
            await asyncio.to_thread(self.server.wait_ready)
            self._way = UnaryTransport(self.server.endpoints.address)
            await self._way.connect()
            for _ in range(WARM_UP_CALLS):
                await self.score(warm_up_case(), WARM_UP_S)
        except BaseException:
            await asyncio.to_thread(self.server.stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await self._way.close()
        finally:
            await asyncio.to_thread(self.server.stop)

    @property
    def pids(self) -> list[int]:
        """See Rival."""
        return [self.server.pid] if self.server.pid else []

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            ServerError: what `Transport.ask` raises.
        """
        views = {"VIEWS": ("FP32", case.views[None])}
        answer = await self._way.ask(infer_request(MODEL, str(next(self._numbers)), views, ("LOGITS",)), deadline)
        return probability_of(arrays_of(answer)["LOGITS"][0])


def bare_encoder(release: Release, tell: Callable[[str], None] = lambda _: None) -> BareEncoder | EncoderInTriton:
    """The upper bound of a release: in this process where that is possible, else in Triton."""
    return BareEncoder(release, tell) if release.manifest["target"] == "embedded" else EncoderInTriton(release)


def probability_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability of cancer of logits [F, 2]: softmax in float64, [F]."""
    return 1 / (1 + np.exp(logits[:, 0].astype(np.float64) - logits[:, 1]))
