"""The tuner on a real Triton: settings beside the release's own, in turns, with the same scores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noduleserve.benchmarks.record.files import read_record
from noduleserve.benchmarks.rivals.cases import warm_up_case
from noduleserve.benchmarks.rivals.ours import Ours
from noduleserve.benchmarks.tuning.choices import Place
from noduleserve.benchmarks.tuning.duel import Load, Scores, confirmation
from noduleserve.benchmarks.tuning.tune import resident_mb
from noduleserve.release import Release
from noduleserve.server.settings import ServerSettings

DEMO = Path(__file__).parents[3] / "demo" / "release"


@pytest.fixture(scope="module")
def release() -> Release:
    pytest.importorskip("psutil", reason="memory is looked at with psutil")
    return Release.open(DEMO)


def test_what_the_release_does_by_itself_is_no_setting(release: Release) -> None:
    place = Place.of(release)
    assert place.own.encoder_instances == place.own.preprocess_instances == place.own.encoder_batch == 1
    assert place.reduced(place.own) == ServerSettings()
    settings = ServerSettings(encoder_instances=1, encoder_threads=place.cores, preprocess_instances=2)
    assert place.reduced(settings) == ServerSettings(preprocess_instances=2)


def test_two_servers_in_turns(release: Release) -> None:
    cases = [replace(warm_up_case(seed), name=str(seed)) for seed in (1, 2)]
    settings = ServerSettings(encoder_instances=2, encoder_threads=1, preprocess_instances=2)

    async def run() -> None:
        async with Ours(release) as own, Ours(release, settings=settings) as other:
            found = await confirmation(own, other, cases, Load("throughput", 2, 4, 60.0), 2, Scores())
            assert (found.figures.calls, found.own_figures.calls) == (8, 16)
            assert found.counts and found.difference <= 1e-6
            assert len(found.ratios) == len(found.own_ratios) == 2 and min(found.ratios) > 0
            assert resident_mb(other) > resident_mb(own) > 50

    asyncio.run(run())


def test_the_command_says_what_it_had_no_time_for(release: Release, tmp_path: Path) -> None:
    from noduleserve.cli import app

    words = ["bench", "tune", str(DEMO), "--budget", "0.01", "--block", "0.1", "--in-flight", "1", "--turns", "1"]
    done = CliRunner().invoke(app, [*words, "--confirm-turns", "3", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    record = read_record(tmp_path / "out")
    assert record.benchmark == "tune" and record.parameters["release"]["id"] == release.id
    assert any("raise --budget" in remark for remark in record.remarks)
    assert "release's own settings stay" in done.stdout
    assert not (tmp_path / "out" / "settings.toml").exists()
