"""The upper bound: the release's own encoder with nothing around it, on views that are ready in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack

import numpy as np
from numpy.typing import NDArray

from noduleserve.export.proof.outputs import probability
from noduleserve.protocol import arrays_of, infer_request
from noduleserve.release import Release
from noduleserve.served_engine import load_engine_module

from ..served_engine import encoder_folder
from .base import Case
from .started import InOneThread, InTriton

MODEL = "nodule_encoder"


class BareEncoder(InOneThread):
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

    async def _start(self, ends: AsyncExitStack) -> None:
        await super()._start(ends)
        engine = load_engine_module(self._folder)
        self._engine = await self._run(lambda: engine.open_engine(self._folder, log=self._tell))
        ends.callback(delattr, self, "_engine")

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            TimeoutError: its turn did not come, or end, in time.
        """
        async with asyncio.timeout(deadline):
            _, _, logits, _ = await self._run(lambda: self._engine(case.views[None]))
        return probability(logits[0])


class EncoderInTriton(InTriton):
    """See Rival and InTriton; a release whose encoder only Triton can run: nodule_encoder is asked, nothing else."""

    name = "bare encoder"
    what = "the release's encoder in Triton, asked directly with ready views: no preprocessing, the upper bound"

    def __init__(self, release: Release) -> None:
        super().__init__(release, "unary")
        self._numbers = itertools.count()

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            ServerError: what `Transport.ask` raises.
        """
        views = {"VIEWS": ("FP32", case.views[None])}
        answer = await self._way.ask(infer_request(MODEL, str(next(self._numbers)), views, ("LOGITS",)), deadline)
        return probability(arrays_of(answer)["LOGITS"][0])


def bare_encoder(release: Release, tell: Callable[[str], None] = lambda _: None) -> BareEncoder | EncoderInTriton:
    """The upper bound of a release: in this process where that is possible, else in Triton."""
    return BareEncoder(release, tell) if release.manifest["target"] == "embedded" else EncoderInTriton(release)
