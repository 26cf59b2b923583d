"""Who waits for a score overtakes a night's worklist, on a server that is set to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from noduleserve.client.messages import score_request
from noduleserve.client.options import PRIORITIES
from noduleserve.client.transports.unary import UnaryTransport
from noduleserve.demo.command import RELEASE
from noduleserve.preprocessing import VolumeGeometry, required_box
from noduleserve.release import Release
from noduleserve.server.process import Endpoints, TritonProcess
from noduleserve.server.settings import ServerSettings, own_settings

NIGHT = 36


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    settings = ServerSettings(encoder_priority_levels=2)
    with TritonProcess(Release.open(RELEASE), Endpoints(grpc=0, http=0, metrics=0), settings=settings) as process:
        yield process.endpoints.address


def test_who_waits_overtakes_the_night(served: str) -> None:
    """Told by order, not by time: how many of the night's nodules are answered before two that came last."""
    geometry = VolumeGeometry([60, 60, 60], np.diag([2.0, 2.0, 2.0, 1.0]))
    box = required_box(geometry, (60, 60, 60))
    voxels = np.full(box.shape[::-1], -800, np.int16)

    async def run() -> list[str]:
        came: list[str] = []
        transport = UnaryTransport(served)
        await transport.connect()

        async def ask(name: str, priority: str) -> None:
            await transport.ask(score_request(name, voxels, box, geometry, (60, 60, 60), PRIORITIES[priority]), 60)
            came.append(name)

        night = [asyncio.create_task(ask(f"night {n}", "night")) for n in range(NIGHT)]
        while len(came) < 2:  # the night is well under way
            await asyncio.sleep(0)
        await asyncio.gather(ask("waiting", "interactive"), ask("night too", "night"), *night)
        await transport.close()
        return came

    came = asyncio.run(run())
    assert came.index("waiting") < NIGHT * 2 / 3  # a batch that is being computed is not broken off
    assert came.index("night too") > NIGHT * 0.9


def test_a_release_has_no_priority_levels_of_its_own() -> None:
    """With them Triton leaves a free encoder idle for up to half a second, see ServerSettings."""
    assert own_settings(Release.open(RELEASE)).encoder_priority_levels == 0
