"""The way of a worklist on a real Triton: one outcome a nodule, a bounded number in flight, each series opened once."""

from __future__ import annotations

import asyncio
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_writing import write_series
from scripted_server import ACT, RELEASE, received

from noduleserve.client.engine import Engine
from noduleserve.client.options import EngineOptions
from noduleserve.client.readers import series_reader as module
from noduleserve.client.retry import Backoff
from noduleserve.client.run import Options, score_worklist
from noduleserve.client.transports.stream import StreamTransport
from noduleserve.client.transports.unary import UnaryTransport
from noduleserve.ct.nifti import NiftiVolume
from noduleserve.ct.source import Source, open_source
from noduleserve.errors import SeriesError, ServerError
from noduleserve.progress import summary_lines
from noduleserve.results.outcome import Outcome
from noduleserve.worklist.table import Nodule


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume whose voxels are at whole LPS millimetres 0..100, 0..100, 0..10."""
    path = tmp_path_factory.mktemp("ct") / "ct.nii"
    voxels = np.full((101, 101, 11), -800, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def nodule(number: int, path: Path, tenths: float = 0.0, act: str = "score", x: float | None = None) -> Nodule:
    center = (float(number % 101) if x is None else x, tenths, float(ACT[act]))
    return Nodule(number, {"pid": f"p{number}"}, f"p{number}", "1", path, center)


def run(address: str, nodules: list[Nodule], **options: Any) -> list[Outcome]:
    """The outcomes in the order in which they come."""
    came: list[Outcome] = []
    score_worklist(nodules, address, None, Options(**options), came.append)
    return came


def by_number(outcomes: list[Outcome]) -> dict[int, Outcome]:
    found = {outcome.nodule.number: outcome for outcome in outcomes}
    assert len(found) == len(outcomes)
    return found


def test_every_nodule_has_its_outcome(scripted: str, ct: Path) -> None:
    nodules = [nodule(n, ct, tenths=(n * 7 % 5) / 10) for n in range(60)]
    outcomes = run(scripted, nodules)
    found = by_number(outcomes)
    assert sorted(found) == list(range(60))
    for number, outcome in found.items():
        assert outcome.status == "scored"
        assert outcome.score
        assert outcome.score.malignancy == pytest.approx(number / 100)
        assert outcome.score.release == RELEASE
        assert outcome.seconds["server"] > number * 7 % 5 / 100


def test_an_empty_worklist(scripted: str) -> None:
    assert run(scripted, []) == []


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_what_is_wrong_with_a_nodule_is_its_own_outcome(
    scripted: str, ct: Path, tmp_path: Path, transport: str
) -> None:
    (tmp_path / "damaged.nii").write_bytes(ct.read_bytes()[:400])
    (tmp_path / "ct.txt").touch()
    bad_row = Nodule(8, {}, "p", "1", ct, None, problem="coordX is 'x', not a number.")
    cases = [
        (nodule(0, ct), ""),
        (nodule(1, ct, act="nan"), "ANSWER_MALFORMED"),
        (nodule(2, ct, act="beyond 1"), "ANSWER_MALFORMED"),
        (nodule(3, ct, act="stumble"), "SERVER_BROKEN"),
        (nodule(4, ct, act="wrong shape"), "ANSWER_MALFORMED"),
        (nodule(5, ct, act="refuse with a code"), "NOT_TODAY"),
        (nodule(6, ct, act="refuse without"), "SERVER_REFUSED"),
        (nodule(7, ct), ""),
        (bad_row, "WORKLIST_ROW"),
        (nodule(9, ct, x=-40), "CENTER_OUTSIDE"),
        (nodule(10, ct, x=float("nan")), "CENTER_NOT_FINITE"),
        (nodule(11, tmp_path / "nowhere"), "SERIES_NOT_FOUND"),
        (nodule(12, tmp_path / "ct.txt"), "FORMAT_UNKNOWN"),
        (nodule(13, tmp_path / "damaged.nii"), "PIXELS_UNREADABLE"),
        (nodule(14, ct, tenths=20), "ANSWER_LATE"),  # the last: what a stream asks later is answered later
    ]
    found = by_number(run(scripted, [n for n, _ in cases], deadline=1.0, retries=0, transport=transport, streams=1))
    assert {n: o.error_code for n, o in found.items()} == {n.number: code for n, code in cases}
    for number, outcome in found.items():
        if cases[number][1]:
            assert outcome.score is None
            assert outcome.status == "failed"
            assert len(outcome.error) > 10
            assert "Traceback" not in outcome.error
        else:
            assert outcome.score
            assert outcome.error == ""


@pytest.mark.parametrize("kind", [StreamTransport, UnaryTransport])
@pytest.mark.parametrize("in_flight", [3])
def test_no_more_in_flight_than_allowed(
    scripted: str, ct: Path, monkeypatch: pytest.MonkeyPatch, in_flight: int, kind: type[Any]
) -> None:
    now, highest = 0, 0
    ask: Callable[..., Any] = kind.ask

    async def counted(*arguments: Any) -> Any:
        nonlocal now, highest
        now += 1
        highest = max(highest, now)
        try:
            return await ask(*arguments)
        finally:
            now -= 1

    monkeypatch.setattr(kind, "ask", counted)
    transport = "unary" if kind is UnaryTransport else "stream"
    nodules = [nodule(n, ct, tenths=0.3) for n in range(30)]
    assert len(run(scripted, nodules, in_flight=in_flight, transport=transport)) == 30
    assert highest == in_flight
    assert now == 0


def test_the_server_is_kept_busy(scripted: str, ct: Path) -> None:
    """Four instances of 0.1 s each: 40 nodules one after the other would take 4 s."""
    began = time.monotonic()
    assert len(run(scripted, [nodule(n, ct, tenths=1) for n in range(40)])) == 40
    assert time.monotonic() - began < 2.5


class CountedSource(Source):
    """Tells when it is closed."""

    def __init__(self, source: Source, name: str, closed: list[str]) -> None:
        super().__init__(source.series, source.volume)
        self._name, self._closed = name, closed

    def close(self) -> None:
        super().close()
        self._closed.append(self._name)


def test_each_series_is_opened_once_and_two_at_most_are_held(
    scripted: str, ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{name}.nii" for name in "abc"]
    for path in paths:
        path.symlink_to(ct)
    opened: list[str] = []
    closed: list[str] = []

    def counted(path: Path) -> Source:
        assert len(opened) - len(closed) < module.KEPT
        opened.append(path.name)
        return CountedSource(open_source(path), path.name, closed)

    monkeypatch.setattr(module, "open_source", counted)
    outcomes = run(scripted, [nodule(n, paths[n % 3]) for n in range(12)])
    assert opened == sorted(closed) == ["a.nii", "b.nii", "c.nii"]  # though the worklist jumps between them
    assert sorted(by_number(outcomes)) == list(range(12))
    assert all(o.score and o.score.malignancy == pytest.approx(o.nodule.number / 100) for o in outcomes)
    assert sum("open" in o.seconds for o in outcomes) == 3


def test_a_series_that_fails_to_open_is_tried_once_and_a_surprise_is_not_quoted(
    scripted: str, ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def fails(path: Path) -> Source:
        tries.append(path)
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(module, "open_source", fails)
    outcomes = run(scripted, [nodule(n, ct) for n in range(3)])
    assert len(tries) == 1
    assert {o.error_code for o in outcomes} == {"SERIES_UNREADABLE"}
    assert all("KeyError" in o.error and "Jane" not in o.error for o in outcomes)


def test_voxels_that_cannot_be_read_are_their_nodules_error(
    scripted: str, ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slice is damaged: the nodules elsewhere in the series are scored."""
    read, count = NiftiVolume.read_box, iter(range(100))

    def read_box(volume: NiftiVolume, box: Any) -> Any:
        match next(count):
            case 1:
                raise SeriesError("PIXELS_UNREADABLE", "A slice is damaged.", "Copy it again.")
            case 2:
                raise ZeroDivisionError("Doe^Jane")
        return read(volume, box)

    monkeypatch.setattr(NiftiVolume, "read_box", read_box)
    found = by_number(run(scripted, [nodule(n, ct) for n in range(4)]))
    codes = [found[n].error_code for n in range(4)]
    assert codes == ["", "PIXELS_UNREADABLE", "SERIES_UNREADABLE", ""]
    assert "Jane" not in found[2].error


def test_views_for_a_report_only_where_asked_for(scripted: str, ct: Path) -> None:
    nodules = [nodule(0, ct), nodule(1, ct, act="refuse without")]
    assert all(o.views is None for o in run(scripted, nodules))
    found = by_number(run(scripted, nodules, views=True))
    views = found[0].views
    assert views is not None
    assert views.shape == (9, 50, 50)
    assert views.max() > 0
    assert found[1].views is None


def test_leaving_in_the_middle_ends_what_was_begun(scripted: str, ct: Path) -> None:
    """Whoever stops iterating gets control back at once, and the nodules not begun are never asked for."""
    before = received(scripted)

    async def take_two() -> list[Outcome]:
        async with Engine(EngineOptions((scripted,), in_flight=4)) as engine:
            outcomes = engine.outcomes([nodule(n, ct, tenths=3) for n in range(200)])
            taken = [await anext(outcomes), await anext(outcomes)]
            await outcomes.aclose()
            assert [task for task in asyncio.all_tasks() if "flow.py" in repr(task)] == []
            assert engine.status.in_flight == engine.status.reserved == 0
            return taken

    began = time.monotonic()
    assert len(asyncio.run(take_two())) == 2
    assert time.monotonic() - began < 3
    time.sleep(0.5)
    assert received(scripted) - before <= 12


def test_another_release_in_the_middle_ends_the_run_and_nothing_is_written_as_failed(
    scripted: str, ct: Path, tmp_path: Path
) -> None:
    nodules = [nodule(n, ct, act="other release" if n == 2 else "score") for n in range(5)]
    with pytest.raises(ServerError, match=r"RELEASE_CHANGED.*ns-other"):
        score_worklist(nodules, scripted, tmp_path / "results.csv", Options(in_flight=1))
    assert not (tmp_path / "results.csv").exists()
    assert ",failed," not in (tmp_path / "results.csv.part").read_text()


def test_the_release_is_known_before_anything_is_scored(scripted: str) -> None:
    assert score_worklist([], scripted).info.release == RELEASE


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_a_busy_server_is_asked_again(scripted: str, ct: Path, transport: str) -> None:
    x = 91.0 if transport == "stream" else 92.0

    async def score() -> tuple[Outcome, int]:
        options = EngineOptions((scripted,), transport=transport, backoff=Backoff(0.01, 0.1, 0.01))  # type: ignore[arg-type]
        async with Engine(options) as engine:
            (outcome,) = [o async for o in engine.outcomes([nodule(0, ct, act="busy twice", x=x)])]
            return outcome, engine.status.retries

    outcome, retries = asyncio.run(score())
    assert outcome.score and outcome.score.malignancy == pytest.approx(x / 100)
    assert retries == 2


def test_warnings_of_the_series_and_of_the_nodule_come_with_its_outcome(scripted: str, tmp_path: Path) -> None:
    """A series of 3-mm slices: lung with air at its right side; one nodule is refused by the server."""
    voxels = np.full((101, 101, 40), -800, np.int16)
    voxels[:30] = -1000
    path = tmp_path / "wide.nii"
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    affine[1:3, 3] = 50, -60  # y and z around 0
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    places = [(50.0, 0.0), (15.0, 0.0), (80.0, 0.0)]
    nodules = [Nodule(n, {}, "p", "1", path, (x, y, float(ACT["score"]))) for n, (x, y) in enumerate(places)]
    nodules.append(Nodule(3, {}, "p", "1", path, (50.0, 0.0, float(ACT["refuse with a code"]))))
    nodules.append(nodule(4, tmp_path / "nowhere.nii"))
    run = score_worklist(nodules, scripted)
    codes = [[warning.code for warning in outcome.warnings] for outcome in run.outcomes]
    assert codes == [
        ["SPACING_WIDE"],
        ["SPACING_WIDE", "CENTER_IN_AIR", "VIEWS_BEYOND_VOLUME"],
        ["SPACING_WIDE", "VIEWS_BEYOND_VOLUME"],
        ["SPACING_WIDE"],
        [],
    ]
    assert [outcome.status for outcome in run.outcomes] == ["scored"] * 3 + ["failed"] * 2
    assert run.warned == {"SPACING_WIDE": 3, "VIEWS_BEYOND_VOLUME": 2, "CENTER_IN_AIR": 1}
    lines = summary_lines(run)
    assert lines[0].startswith("5 nodules: 3 scored (3 with a warning), 2 failed")
    assert "  2 scored with VIEWS_BEYOND_VOLUME" in lines


def test_an_archive_is_unpacked_once_and_cleared_away(
    scripted: str, ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unpacked))
    archive = tmp_path / "ct.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(ct, "ct.nii")
    seen: list[int] = []
    nodules = [nodule(n, archive) for n in range(3)] + [nodule(3, ct)]
    run = score_worklist(nodules, scripted, progress=lambda _: seen.append(len(list(unpacked.iterdir()))))
    assert [outcome.status for outcome in run.outcomes] == ["scored"] * 4
    assert max(seen) <= 1
    assert list(unpacked.iterdir()) == []


def test_two_series_of_one_folder_are_told_apart_by_their_uid(scripted: str, tmp_path: Path) -> None:
    """The folder is read once; its series are opened one after the other, whatever the order of the worklist."""
    act = round(ACT["score"])
    for uid, hu in (("1.2.3", -800), ("1.2.4", -1000)):
        stored = np.full((60, 64, 64), hu, np.int16)
        write_series(tmp_path / "ct" / uid, stored, position=(0, -32, act - 30), series_uid=uid)
    uids = ["1.2.3", "1.2.4", "1.2.3", "1.2.5", "", "1.2.4"]
    nodules = [
        Nodule(n, {}, "p", "1", tmp_path / "ct", (32.0, 0.0, float(act)), series_uid=uid) for n, uid in enumerate(uids)
    ]
    outcomes = score_worklist(nodules, scripted).outcomes
    air = [bool(outcome.warnings) for outcome in outcomes]
    assert air == [False, True, False, False, False, True]
    assert [o.error_code for o in outcomes] == ["", "", "", "SERIES_NOT_IN_FOLDER", "SERIES_AMBIGUOUS", ""]
    assert sum("open" in o.seconds for o in outcomes) == 4
