"""The search: one thing after the other on top of the best so far, then the neighbours of the best."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from noduleserve.server.settings import ServerSettings

from .choices import Place, Stage, merged, neighbours_of, stages_for
from .duel import Duel


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes:
        stage: at which.
        settings: what was tried.
        duel: what came of it, or None where the server did not start.
        memory_mb: resident, of the server and its processes.
        error: why it did not start.
    """

    stage: str
    settings: ServerSettings
    duel: Duel | None
    memory_mb: float | None = None
    error: str = ""

    @property
    def counts(self) -> bool:
        """Whether it was measured, without errors, with the release's scores."""
        return self.duel is not None and self.duel.counts

    @property
    def ratio(self) -> float:
        """How many times better than the release's own; 0 where it does not count."""
        return self.duel.ratio if self.duel and self.duel.counts else 0.0


Measure = Callable[[str, ServerSettings], Awaitable[Trial]]


class Search:
    """Goes through the choices.

    Attributes:
        trials: so far, in order.
        left: settings that the time did not suffice for.
    """

    def __init__(self, place: Place, measure: Measure, is_over: Callable[[], bool]) -> None:
        """Prepare.

        Args:
            place: what the choices depend on.
            measure: tries settings against the release's own.
            is_over: whether the time is spent.
        """
        self._place, self._measure, self._is_over = place, measure, is_over
        self.trials: list[Trial] = []
        self.left: list[ServerSettings] = []

    @property
    def best(self) -> ServerSettings:
        """The best so far; the release's own where nothing was better."""
        found = max(self.trials, key=lambda trial: trial.ratio, default=None)
        return found.settings if found and found.ratio > 1 else ServerSettings()

    async def run(self) -> ServerSettings:
        """Try everything that there is time for; the best."""
        for stage in stages_for(self._place):
            base = self.best
            await self._try(Stage(stage.name, tuple(merged(base, choice) for choice in stage.choices)))
        while not self._is_over():
            best = self.best
            await self._try(Stage("neighbours", tuple(neighbours_of(best, self._place))))
            if self.best == best:
                break
        return self.best

    async def _try(self, stage: Stage) -> None:
        for settings in self._new(stage.choices):
            if self._is_over():
                self.left.append(settings)
            else:
                self.trials.append(await self._measure(stage.name, settings))

    def _new(self, choices: Sequence[ServerSettings]) -> list[ServerSettings]:
        known = {ServerSettings(), *(trial.settings for trial in self.trials), *self.left}
        return [settings for settings in dict.fromkeys(map(self._place.reduced, choices)) if settings not in known]
