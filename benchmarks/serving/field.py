"""The field: this system by every transport that is asked for, the bare encoder, and rivals by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from noduleserve.client.options import TransportName
from noduleserve.release import Release

from ..rivals.base import RivalMaker
from .entrants import Entrant

TRANSPORTS: tuple[TransportName, ...] = ("stream", "unary", "shared-memory")
RIVALS = ("fastapi", "fastapi+views", "litserve", "litserve+views", "straightforward")
OF_CHECKPOINT = ("straightforward",)  # need the checkpoint that the release was made from


def entrants_of(
    release: Release,
    transports: Sequence[TransportName],
    rivals: Sequence[str],
    checkpoint: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Entrant]:
    """Who takes part, in the order in which they are measured.

    Args:
        release: that all of them have the weights of.
        transports: of this system, one at least; the first is what others are compared with.
        rivals: of RIVALS.
        checkpoint: for those of OF_CHECKPOINT.
        tell: is called with a line where this machine lacks what the release's precision needs.
    """
    ours = [Entrant(f"noduleserve, {way}", "ours", _ours(release, way)) for way in transports]
    return [
        *ours,
        Entrant("bare encoder", "bare", _bare(release, tell)),
        *(Entrant(name, "rival", _rival(name, release, checkpoint)) for name in rivals),
    ]


def _ours(release: Release, way: TransportName) -> Callable[[], RivalMaker]:
    from ..rivals.ours import Ours

    return lambda: Ours(release, way)


def _bare(release: Release, tell: Callable[[str], None]) -> Callable[[], RivalMaker]:
    from ..rivals.bare_encoder import bare_encoder

    return lambda: bare_encoder(release, tell)


def _rival(name: str, release: Release, checkpoint: Path | None) -> Callable[[], RivalMaker]:
    """Packages of a rival are asked for when it is made: one that cannot be is left out with its reason."""

    def make() -> RivalMaker:
        if name == "straightforward":
            from ..rivals.straightforward import Straightforward

            assert checkpoint is not None, "a rival of OF_CHECKPOINT goes with a checkpoint"
            return Straightforward(checkpoint)
        if name.startswith("fastapi"):
            from ..rivals.fastapi_rival import FastapiRival

            return FastapiRival(release, _views(name))
        from ..rivals.litserve_rival import LitserveRival

        return LitserveRival(release, _views(name))

    return make


def _views(name: str) -> Literal["scipy", "noduleserve"]:
    return "noduleserve" if name.endswith("+views") else "scipy"
