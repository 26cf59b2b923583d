"""What the tuner tries: for each target stages of choices, then the neighbours of the best."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from noduleserve.errors import ServerError
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings, largest_batch, own_settings


@dataclass(frozen=True)
class Place:
    """What choices depend on.

    Attributes:
        target: of the release.
        cores: that processes of this machine may use.
        max_batch: the release's largest.
        own: what the release does without settings.
    """

    target: str
    cores: int
    max_batch: int
    own: ServerSettings

    @classmethod
    def of(cls, release: Release) -> Place:
        """This machine, for a release."""
        target, cores = str(release.manifest["target"]), len(os.sched_getaffinity(0))
        threads = {"encoder_threads": cores} if target == "embedded" else {}
        return cls(target, cores, largest_batch(release), replace(own_settings(release), **threads))

    def reduced(self, settings: ServerSettings) -> ServerSettings:
        """The same without what the release does anyway."""
        own = self.own.chosen
        return ServerSettings(**{name: value for name, value in settings.chosen.items() if own.get(name) != value})


@dataclass(frozen=True)
class Stage:
    """Choices about one thing, each of them put on top of the best so far.

    Attributes:
        name: of the thing, in tables.
        choices: to try.
    """

    name: str
    choices: tuple[ServerSettings, ...]


def stages_for(place: Place) -> list[Stage]:
    """What matters most comes first."""
    if place.target == "embedded":
        return [Stage("encoder", _instances_and_threads(place.cores)), Stage("preprocessing", _preprocessing(place))]
    return [
        Stage("preprocessing", _preprocessing(place)),
        Stage("batching", _batching(place.max_batch)),
        Stage("encoder", (ServerSettings(encoder_instances=2), ServerSettings(encoder_instances=3))),
        Stage("similarity", (ServerSettings(similarity_instances=2),)),
    ]


def neighbours_of(best: ServerSettings, place: Place) -> list[ServerSettings]:
    """One setting of the best halved, doubled, or changed by one; the release's own have none."""
    found: list[ServerSettings] = []
    for name, value in best.chosen.items():
        for other in sorted({value // 2, value - 1, value + 1, value * 2} - {value}):
            if other == 0 and name != "encoder_delay_us":
                continue
            if name == "encoder_batch" and other > place.max_batch:
                continue
            try:
                settings = replace(best, **{name: other})
            except ServerError:  # beyond what there is of it
                continue
            if not _crowded(settings, place):
                found.append(settings)
    return found


def merged(best: ServerSettings, choice: ServerSettings) -> ServerSettings:
    """A choice on top of the best so far."""
    return replace(best, **choice.chosen)


def _instances_and_threads(cores: int) -> tuple[ServerSettings, ...]:
    """Products around the cores: a bit under them, since the preprocessing wants some, up to twice as many."""
    pairs: dict[tuple[int, int], None] = {}
    for instances in _powers(min(cores, 64)):
        each = cores // instances
        for threads in (each, each - 1, 2 * each):
            if threads >= 1 and (instances > 1 or threads <= cores):
                pairs[instances, threads] = None
    return tuple(ServerSettings(encoder_instances=i, encoder_threads=t) for i, t in pairs)


def _preprocessing(place: Place) -> tuple[ServerSettings, ...]:
    counts = [count for count in _powers(min(place.cores, 32)) if count > 1]
    return tuple(ServerSettings(preprocess_instances=count) for count in counts)


def _batching(max_batch: int) -> tuple[ServerSettings, ...]:
    batches = sorted({max_batch, max(1, max_batch // 2), max(1, max_batch // 4)}, reverse=True)
    delays = (0, 500, 2000, 5000)
    return tuple(ServerSettings(encoder_batch=batch, encoder_delay_us=delay) for batch in batches for delay in delays)


def _powers(most: int) -> Sequence[int]:
    """1, 2, 4, ... up to the largest of them."""
    return [2**n for n in range(most.bit_length())]


def _crowded(settings: ServerSettings, place: Place) -> bool:
    """More than twice as many threads as cores gain nothing and take memory."""
    if place.target != "embedded":
        return (settings.encoder_instances or 1) > 4
    threads = (settings.encoder_instances or 1) * (settings.encoder_threads or place.cores)
    return threads > 2 * place.cores
