"""What the tuner tries, in which order, and when it says that nothing is better."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noduleserve.benchmarks.load.call import Call
from noduleserve.benchmarks.load.figures import figures_of
from noduleserve.benchmarks.tuning.choices import Place, merged, neighbours_of, stages_for
from noduleserve.benchmarks.tuning.duel import Duel, Load, Scores
from noduleserve.benchmarks.tuning.search import Search, Trial
from noduleserve.benchmarks.tuning.written import settings_text, trials_plot, trials_table, verdict
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings

OWN = ServerSettings(
    preprocess_instances=1, encoder_instances=1, encoder_batch=1, encoder_delay_us=0, similarity_instances=1
)
CPU = Place("embedded", 8, 8, merged(OWN, ServerSettings(encoder_threads=8)))
GPU = Place("tensorrt", 16, 8, merged(OWN, ServerSettings(encoder_batch=8, encoder_delay_us=1000)))
LOAD = Load("throughput", 8, 20, 60.0)


def calls(seconds: float = 0.1, count: int = 20, raw: float = 0.5, error: str = "") -> list[Call]:
    given = None if error else np.array([raw])
    return [Call("a", n * seconds, n * seconds, (n + 1) * seconds, given, error) for n in range(count)]


def duel(ratios: tuple[float, ...], own: tuple[float, ...] = (), difference: float = 0.0, error: str = "") -> Duel:
    return Duel(ratios, own, figures_of(calls(error=error)), figures_of(calls()), difference, 1e-6)


def searched(
    place: Place, ratio: Callable[[ServerSettings], float], trials: int = 1000
) -> tuple[Search, ServerSettings, list[ServerSettings]]:
    """A search where settings are as good as a function says."""
    seen: list[ServerSettings] = []

    async def measure(stage: str, settings: ServerSettings) -> Trial:
        seen.append(settings)
        return Trial(stage, settings, duel((ratio(settings),)))

    search = Search(place, measure, lambda: len(seen) >= trials)
    return search, asyncio.run(search.run()), seen


@pytest.mark.parametrize("place", [CPU, GPU], ids=["cpu", "gpu"])
def test_choices_are_ones_that_the_server_takes_and_none_is_crowded(place: Place) -> None:
    for stage in stages_for(place):
        assert stage.choices
        for settings in stage.choices:
            assert settings.chosen and (settings.encoder_batch or 1) <= place.max_batch
            assert (settings.encoder_threads is None) == (stage.name != "encoder" or place is GPU)
            threads = (settings.encoder_instances or 1) * (settings.encoder_threads or 1)
            assert threads <= 2 * place.cores
    products = {(s.encoder_instances, s.encoder_threads) for s in stages_for(CPU)[0].choices}
    assert {(1, 7), (2, 4), (4, 2), (8, 1)} <= products


def test_neighbours_differ_in_one_setting_and_stay_within_bounds() -> None:
    best = ServerSettings(encoder_instances=2, encoder_threads=4, encoder_batch=8)
    found = neighbours_of(best, CPU)
    assert ServerSettings(encoder_instances=4, encoder_threads=4, encoder_batch=8) in found
    assert ServerSettings(encoder_instances=2, encoder_threads=8, encoder_batch=8) in found
    for settings in found:
        differing = [n for n, v in settings.chosen.items() if best.chosen[n] != v]
        assert len(differing) == 1 and settings.chosen.keys() == best.chosen.keys()
        assert (settings.encoder_batch or 0) <= CPU.max_batch
        assert (settings.encoder_instances or 0) * (settings.encoder_threads or 0) <= 2 * CPU.cores
    assert neighbours_of(ServerSettings(), CPU) == []


def test_the_best_is_found_on_top_of_the_best_before_it() -> None:
    aim = {"encoder_instances": 4, "encoder_threads": 3, "preprocess_instances": 2}

    def ratio(settings: ServerSettings) -> float:
        values = CPU.own.chosen | settings.chosen
        return 2.0 - sum(abs(np.log2(values[name] / value)) for name, value in aim.items()) / 10

    search, best, seen = searched(CPU, ratio)
    assert best == ServerSettings(**aim)  # threads 3 is among no stage's choices: a neighbour
    assert len(seen) == len(set(seen)) == len(search.trials)
    assert ServerSettings() not in seen and CPU.own not in seen
    assert search.left == []


def test_where_nothing_is_better_the_releases_own_stay() -> None:
    search, best, _ = searched(GPU, lambda settings: 0.99)
    assert best == ServerSettings()
    assert "release's own settings are the best" in verdict(best, None)
    assert all(trial.stage != "neighbours" for trial in search.trials)


def test_what_does_not_count_is_never_the_best() -> None:
    async def measure(stage: str, settings: ServerSettings) -> Trial:
        bad = [Trial(stage, settings, duel((9.0,), difference=1e-3)), Trial(stage, settings, duel((9.0,), error="X"))]
        return [*bad, Trial(stage, settings, None, error="[SERVER_NOT_READY] no")][len(search.trials) % 3]

    search = Search(CPU, measure, lambda: False)
    assert asyncio.run(search.run()) == ServerSettings()
    assert len(search.trials) > 3 and not any(trial.counts for trial in search.trials)
    assert trials_plot(search.trials) is None
    assert len(trials_table(search.trials, None, LOAD).rows) == len(search.trials)


def test_settings_that_there_is_no_time_for_are_named() -> None:
    search, best, seen = searched(CPU, lambda settings: 1.0 + (settings.encoder_instances or 0) / 10, trials=2)
    assert len(seen) == 2 and best in seen
    assert search.left and not set(search.left) & set(seen)


@pytest.mark.parametrize(
    ("ratios", "own", "better"),
    [
        ((1.2, 1.25, 1.3), (0.95, 1.02, 1.04), True),
        ((1.2, 1.02, 1.3), (0.95, 1.02, 1.04), False),  # one turn within what chance does
        ((1.2, 1.25, 1.3), (0.80, 1.0, 1.0), False),  # the release's own once was 1.25 times itself
        ((0.9, 0.91, 0.92), (1.0, 1.0, 1.0), False),
    ],
)
def test_better_means_every_turn_and_beyond_chance(
    ratios: tuple[float, ...], own: tuple[float, ...], better: bool
) -> None:
    found = duel(ratios, own)
    assert found.better is better
    assert not duel(ratios, own, difference=2e-6).better
    sentence = verdict(ServerSettings(encoder_instances=2), Trial("confirmation", ServerSettings(), found))
    assert ("within chance" in sentence) is not better


def test_scores_are_held_against_the_releases_own() -> None:
    scores = Scores()
    scores.learn(calls(raw=0.5))
    assert scores.difference(calls(raw=0.5)) == 0.0
    assert scores.difference(calls(raw=0.5 + 2e-6)) > scores.tolerance == 1e-6
    assert scores.difference(calls(raw=float("nan"))) == float("inf")
    assert scores.difference(calls(error="SERVER_LOST")) == float("inf")
    scores.learn(calls(raw=0.5 + 5e-5))  # as where batches of several sizes are computed
    assert scores.tolerance == pytest.approx(5e-5)
    scores.learn(calls(raw=0.6))  # as no batch explains
    assert scores.tolerance == 1e-6


def test_the_file_is_read_as_what_was_found(tmp_path: Path) -> None:
    settings = ServerSettings(encoder_instances=2, encoder_threads=4)
    release = Release(tmp_path, {"release_id": "ns-1", "target": "embedded", "precision": "fp32"})
    machine = {"processor": {"model": 'A "B" # C', "cores_usable": 8}}
    text = settings_text(settings, duel((1.2, 1.3, 1.4), (0.99, 1.0, 1.01)), LOAD, release, machine)
    assert tomllib.loads(text) == settings.chosen
    (tmp_path / "settings.toml").write_text(text)
    assert ServerSettings.read(tmp_path / "settings.toml") == settings
    assert all(word in text for word in ("ns-1", "1.300", "1.200 to 1.400", "0.990 to 1.010", "8 in flight"))
