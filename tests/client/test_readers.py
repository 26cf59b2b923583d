"""Reader processes: they read as the thread does, survive what kills them, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_writing import write_series
from scripted_reader import AirReader, MortalReader, SlowReader
from scripted_transport import World
from serving import living, until

from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.client.readers.lanes import MOST_PROCESSES, ProcessLane, ThreadLane, make_lanes
from noduleserve.client.readers.series_reader import SeriesReader
from noduleserve.client.readers.work import Cut, Place, Refusal
from noduleserve.errors import NoduleserveError
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule

HERE = Path(__file__).parents[1]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A volume whose voxels are at whole LPS millimetres 0..100, 0..100, 0..10, in a folder of its own."""
    path = tmp_path / "in" / "ct.nii"
    path.parent.mkdir()
    voxels = np.full((101, 101, 11), -800, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def nodule(number: int, path: Path) -> Nodule:
    return Nodule(number, {}, "p", str(number), path, (float(number), 50.0, 5.0))


def scored(
    nodules: list[Nodule], reader: Callable[[], Any] = MortalReader, readers: int = 1, world: World | None = None
) -> list[Outcome]:
    options = EngineOptions(("a:1",), readers=readers)

    async def run() -> list[Outcome]:
        async with Engine(options, make_transport=(world or World()).transport, make_reader=reader) as engine:
            return [outcome async for outcome in engine.outcomes(nodules)]

    outcomes = asyncio.run(asyncio.wait_for(run(), 60))
    return sorted(outcomes, key=lambda outcome: outcome.nodule.number)


def pids(folder: Path) -> list[int]:
    """Of readers that were at work on a series of the folder, by the files that they left."""
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def alive(numbers: list[int]) -> list[int]:
    return [process.pid for process in living() if process.pid in numbers]


def test_processes_and_the_thread_read_the_same(series: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stored = rng.integers(-1000, 500, (60, 64, 64)).astype(np.int16)
    write_series(tmp_path / "dicom", stored, position=(0, -32, -30), series_uid="1.2.3")
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as file:
        file.write(series, "ct.nii")
    places = [Place(tmp_path / "dicom"), Place(series), Place(tmp_path / "ct.zip"), Place(tmp_path / "dicom", "1.2.9")]
    places.append(Place(tmp_path / "nowhere"))
    centers = [(30.0, 10.0, 5.0), (4000.0, 0.0, 0.0)]

    async def read(lane: Any) -> list[Any]:
        found: list[Any] = []
        for place in places:
            plan = await lane.plan(place, centers)
            found.append((plan.series_uid, plan.boxes, plan.scanner))
            found += [_facts(await lane.cut(place, center)) for center in centers]
        await lane.close()
        return found

    in_process = asyncio.run(read(ProcessLane(SeriesReader)))
    assert in_process == asyncio.run(read(ThreadLane(SeriesReader)))
    (uid, boxes, scanner), (_, voxels, *_), outside, (_, _, none) = in_process[:4]
    assert uid == "1.2.3" and scanner["Spacing"] == "1" and none == {}
    assert boxes[0] == len(voxels)
    assert boxes[1] == outside and isinstance(outside, Refusal) and outside.code == "CENTER_OUTSIDE"
    assert [found.code for found in in_process[-2:]] == ["SERIES_NOT_FOUND"] * 2


def _facts(cut: Cut | Refusal) -> Any:
    if isinstance(cut, Refusal):
        return cut
    where = (*cut.box.slices, *cut.geometry.shape.tolist(), *cut.geometry.affine.ravel().tolist())
    return where, cut.voxels.tobytes(), cut.warnings, cut.center


def test_a_nodule_that_kills_its_reader_twice_is_parked_and_no_other(series: Path) -> None:
    series.with_name("x=3.crash").touch()
    series.with_name("x=2.once").touch()
    outcomes = scored([nodule(n, series) for n in range(6)])
    assert [outcome.error_code for outcome in outcomes] == ["", "", "", "READER_CRASHED", "", ""]
    assert "died or hung, twice. Mend: " in outcomes[3].error
    assert series.with_name("x=3.crashed").read_text() == "xx"
    assert not series.with_name("x=2.once").exists()


def test_a_series_whose_headers_kill_the_reader_is_parked_and_no_other(series: Path) -> None:
    other = series.with_name("other.nii")
    other.symlink_to(series)
    series.with_name("other.nii.plan.crash").touch()
    outcomes = scored([nodule(n, other if n % 2 else series) for n in range(6)])
    assert [outcome.error_code for outcome in outcomes] == ["", "READER_CRASHED"] * 3


def test_a_reader_that_is_killed_from_outside_in_the_middle(series: Path) -> None:
    """The kernel does it where memory runs out."""
    killed: list[int] = []

    async def run() -> list[Outcome]:
        options = EngineOptions(("a:1",), readers=2)
        async with Engine(options, make_transport=World().transport, make_reader=SlowReader) as engine:
            outcomes = []
            async for outcome in engine.outcomes([nodule(n, series) for n in range(8)]):
                outcomes.append(outcome)
                if len(outcomes) == 2:
                    killed.extend(pids(series.parent))
                    os.kill(killed[0], signal.SIGKILL)
            return outcomes

    outcomes = asyncio.run(asyncio.wait_for(run(), 60))
    assert sorted(outcome.nodule.number for outcome in outcomes) == list(range(8))
    assert {outcome.error_code for outcome in outcomes} == {""}
    assert len(pids(series.parent)) == len(killed) + 1
    assert alive(pids(series.parent)) == []


def test_a_reader_that_hangs_is_ended(series: Path) -> None:
    series.with_name("x=5.hang").touch()

    async def read() -> list[Any]:
        lane = ProcessLane(MortalReader, patience=0.4)
        try:
            return [await lane.cut(Place(series), (x, 50.0, 5.0)) for x in (5.0, 6.0)]
        finally:
            await lane.close()

    hung, cut = asyncio.run(read())
    assert isinstance(hung, Refusal) and hung.code == "READER_CRASHED"
    assert isinstance(cut, Cut)


def test_what_a_dead_reader_had_unpacked_is_cleared_away(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    archive = series.with_name("ct.zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(series, "ct.nii")
    series.with_name("x=2.crash").touch()

    async def read() -> tuple[int, Any]:
        lane = ProcessLane(MortalReader)
        await lane.plan(Place(archive), [])
        unpacked = len(list((tmp_path / "tmp").rglob("ct.nii")))
        crashed = await lane.cut(Place(archive), (2.0, 50.0, 5.0))
        await lane.close()
        return unpacked, crashed

    unpacked, crashed = asyncio.run(read())
    assert unpacked == 1
    assert isinstance(crashed, Refusal)
    assert list((tmp_path / "tmp").iterdir()) == []


class Unmade:
    """A reader that cannot be made."""

    def __init__(self) -> None:
        raise MemoryError


def test_processes_that_cannot_start_end_the_run(monkeypatch: pytest.MonkeyPatch, series: Path) -> None:
    """A process finds no module of that name; whatever is wrong, no nodule is to blame."""
    with pytest.raises(NoduleserveError, match="READERS_NOT_STARTED"):
        scored([nodule(n, series) for n in range(3)], reader=Unmade)


_SCRIPT = """
import sys, asyncio
from pathlib import Path
sys.path[:0] = {path!r}
from scripted_reader import SlowReader
from scripted_transport import World
from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.worklist.table import Nodule

print("begins")
async def run():
    options = EngineOptions(("a:1",), readers=2)
    nodules = [Nodule(n, {{}}, "p", "1", Path({series!r}), (float(n % 101), 50.0, 5.0)) for n in range(1000)]
    async with Engine(options, make_transport=World().transport, make_reader=SlowReader) as engine:
        async for outcome in engine.outcomes(nodules):
            print("scored", flush=True)
asyncio.run(run())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_ended_leaves_no_process_and_no_file(series: Path, tmp_path: Path, number: int) -> None:
    """And its script, which guards nothing by `if __name__`, is not run again by its readers."""
    (tmp_path / "tmp").mkdir()
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(path=[str(HERE)], series=str(series)))
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        start_new_session=True,
    )
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(3)]
    readers = pids(series.parent)
    assert lines == ["begins\n", "scored\n", "scored\n"]
    assert len(alive(readers)) >= 1
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.kill()
    out, err = process.communicate(timeout=20)
    assert "begins" not in out
    assert until(lambda: [p for p in living() if p.session == process.pid] == [], 10)
    assert until(lambda: list((tmp_path / "tmp").iterdir()) == [], 10)
    assert "scripted_reader" not in err and "spawn" not in err  # it is the script that is interrupted, no reader


def test_how_many_lanes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def kinds(readers: int | None, series: int | None) -> list[str]:
        lanes = make_lanes(readers, series, AirReader)
        for lane in lanes:
            asyncio.run(lane.close())
        return [type(lane).__name__ for lane in lanes]

    assert kinds(0, 1000) == kinds(None, 5) == kinds(None, None) == ["ThreadLane"]
    assert kinds(None, 1000) == ["ProcessLane"] * MOST_PROCESSES
    assert kinds(7, 1) == ["ProcessLane"] * 7
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert kinds(None, 1000) == ["ProcessLane"]
