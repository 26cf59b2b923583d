"""This system: Triton on a release, asked through the transports of its own client, a request a nodule."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noduleserve.client.messages import score_of, score_request
from noduleserve.client.options import TransportName
from noduleserve.errors import ServerError
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings

from .base import Case
from .started import InTriton


class Ours(InTriton):
    """See Rival and InTriton."""

    def __init__(
        self,
        release: Release,
        transport: TransportName = "stream",
        settings: ServerSettings | None = None,
        name: str = "",
    ) -> None:
        """Prepare; entering starts Triton on free ports.

        Args:
            release: what to serve.
            transport: the way to the server.
            settings: of the server; None: as the release says.
            name: in tables; by default it says the transport.
        """
        self.name = name or f"noduleserve, {transport}"
        self.what = (
            f"Triton on the release ({release.manifest['target']}), a request a nodule: the box as int16 over gRPC, "
            f"{_SENTENCES[transport]}; client and server on one machine"
        )
        super().__init__(release, transport, settings)
        self._numbers = itertools.count()

    async def _start(self, ends: AsyncExitStack) -> None:
        await super()._start(ends)
        self._info = replace(await self._way.describe(), release=self._release.id)

    async def statistics(self) -> Any:
        """Triton's own counts and times so far, model by model (ModelStatisticsResponse).

        Triton counts a request a moment after it has answered it.
        """
        return await self._way.statistics()

    async def score(self, case: Case, deadline: float) -> NDArray[np.float64]:
        """See Rival.

        Raises:
            ServerError: what `Transport.ask` and `score_of` raise; ANSWER_MALFORMED for another nodule's answer.
            RequestRefused: see `Transport.ask`.
        """
        number = str(next(self._numbers))
        request = score_request(number, case.voxels, case.box, case.geometry, case.center)
        answer = await self._way.ask(request, deadline)
        if answer.id != number:
            raise ServerError("ANSWER_MALFORMED", "The answer is another request's.")
        return score_of(answer, self._info).raw.astype(np.float64)


_SENTENCES: dict[TransportName, str] = {
    "stream": "over as many streams as the client has by default",
    "unary": "a call each",
    "shared-memory": "the voxels in shared memory and the rest a call each",
}
