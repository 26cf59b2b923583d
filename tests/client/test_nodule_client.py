"""The client for other people's programmes, on a real Triton: one nodule, many, with and without asyncio."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scripted_server import ACT, LABELS, RELEASE, received

import noduleserve.client
from noduleserve.client import AsyncNoduleClient, Nodule, NoduleClient, nodule_at
from noduleserve.client.codes import CLIENT_CODES
from noduleserve.client.nodule_client import error_of
from noduleserve.ct.codes import SERIES_CODES
from noduleserve.errors import NoduleserveError, RequestRefused, SeriesError, ServerError, WorklistError
from noduleserve.results.outcome import Outcome


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume whose voxels are at whole LPS millimetres 0..100, 0..100, 0..10."""
    path = tmp_path_factory.mktemp("ct") / "ct.nii"
    voxels = np.full((101, 101, 11), -800, np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def at(ct: Path, x: float, tenths: float = 0.0, act: str = "score") -> Nodule:
    return nodule_at(ct, (x, tenths, ACT[act]), nodule_id=f"{x:g}")


def test_one_nodule(scripted: str, ct: Path) -> None:
    with NoduleClient(scripted) as client:
        assert (client.info.release, client.info.labels) == (RELEASE, LABELS)
        outcome = client.score(at(ct, 42))
        assert outcome.score and outcome.score.malignancy == pytest.approx(0.42)
        assert [warning.code for warning in outcome.warnings] == ["VIEWS_BEYOND_VOLUME"]
        assert outcome.nodule.nodule_id == "42"


def test_an_error_is_an_exception_of_the_one_tree(scripted: str, ct: Path) -> None:
    with NoduleClient(scripted, retries=0) as client:
        cases = (
            (at(ct, 1, act="refuse with a code"), RequestRefused, "NOT_TODAY"),
            (at(ct, 1, act="refuse without"), RequestRefused, "SERVER_REFUSED"),
            (at(ct, 1, act="nan"), ServerError, "ANSWER_MALFORMED"),
            (at(ct, -40), RequestRefused, "CENTER_OUTSIDE"),
            (at(ct.with_name("nowhere"), 1), SeriesError, "SERIES_NOT_FOUND"),
            (at(ct, 1, act="other release"), ServerError, "RELEASE_CHANGED"),
        )
        for nodule, kind, code in cases:
            with pytest.raises(kind, match=rf"\[{code}\]") as raised:
                client.score(nodule)
            assert raised.value.code == code
        assert client.score(at(ct, 7)).score  # nothing of it stays


def test_every_code_has_its_kind() -> None:
    def kind(code: str) -> type[NoduleserveError]:
        error = error_of(Outcome(nodule_at("x", (0, 0, 0)), error_code=code, error="It is so. Mend: Do this."))
        assert (error.code, error.what, error.mend) == (code, "It is so.", "Do this.")
        return type(error)

    assert {kind(code) for code in SERIES_CODES} == {SeriesError}
    servers = {code for code in CLIENT_CODES if kind(code) is ServerError}
    assert CLIENT_CODES.keys() - servers == {"WORKLIST_ROW", "SERVER_REFUSED", "READER_CRASHED"}
    assert kind("WORKLIST_ROW") is WorklistError
    assert kind("READER_CRASHED") is SeriesError


def test_a_timeout_holds_for_everything(scripted: str, ct: Path) -> None:
    with NoduleClient(scripted) as client:
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"ANSWER_LATE.*0\.3 s"):
            client.score(at(ct, 1, tenths=30), timeout=0.3)
        assert client.score(at(ct, 2)).score  # on the other stream: it need not wait for what was given up
        assert time.monotonic() - began < 2


def test_many_as_a_stream(scripted: str, ct: Path) -> None:
    with NoduleClient(scripted) as client:
        outcomes = list(client.stream([at(ct, x, act="nan" if x == 3 else "score") for x in range(20)]))
    found = {o.nodule.nodule_id: o.score.malignancy if o.score else o.error_code for o in outcomes}
    assert found.pop("3") == "ANSWER_MALFORMED"
    assert found == pytest.approx({str(x): x / 100 for x in range(20) if x != 3})


def test_an_endless_stream_that_is_left(scripted: str, ct: Path) -> None:
    before, made = received(scripted), itertools.count()

    def endless() -> Iterator[Nodule]:
        while True:
            yield at(ct, next(made) % 100)

    with NoduleClient(scripted, in_flight=2) as client:
        stream = client.stream(endless())
        taken = [next(stream) for _ in range(10)]
        stream.close()
        assert client.score(at(ct, 5)).score  # it is still of use
    assert len({outcome.nodule.nodule_id for outcome in taken}) == 10
    assert received(scripted) - before < 30
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("noduleserve")] == []


def test_calls_side_by_side_and_one_that_is_given_up(scripted: str, ct: Path) -> None:
    async def run() -> list[Outcome]:
        async with AsyncNoduleClient(scripted, transport="unary") as client:
            given_up = asyncio.create_task(client.score(at(ct, 1, tenths=50)))
            scores = [client.score(at(ct, x, tenths=1)) for x in range(10, 14)]
            await asyncio.sleep(0.05)
            given_up.cancel()
            found = await asyncio.gather(*scores)
            with pytest.raises(asyncio.CancelledError):
                await given_up
            found += [outcome async for outcome in client.stream([at(ct, 20)])]
            return found

    outcomes = asyncio.run(run())
    assert [o.score.malignancy for o in outcomes if o.score] == pytest.approx([0.1, 0.11, 0.12, 0.13, 0.2])


def test_outside_of_a_block_it_is_of_no_use(scripted: str, ct: Path) -> None:
    client = NoduleClient(scripted)
    with pytest.raises(RuntimeError, match="with block"):
        client.score(at(ct, 1))


def test_no_server_leaves_no_thread() -> None:
    with pytest.raises(ServerError, match="SERVER_UNREACHABLE"), NoduleClient("127.0.0.1:9"):
        pass
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("noduleserve")] == []


def test_a_nodule_made_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nodule = nodule_at("ct", (1, 2.5, -3), nodule_id="n", pid="p", series_uid="1.2", number=4)
    assert nodule.image_path == tmp_path / "ct"
    assert (nodule.center, nodule.series_uid, nodule.number, nodule.problem) == ((1.0, 2.5, -3.0), "1.2", 4, "")
    assert list(nodule.columns.values()) == ["p", "n", "ct", "1.0", "2.5", "-3.0"]
    for wrong in ((1, 2), (1, 2, float("nan"))):
        with pytest.raises(ValueError, match="three finite numbers"):
            nodule_at("ct", wrong)


def test_names_are_imported_when_they_are_asked_for() -> None:
    """A reader's process must not pay for gRPC."""
    code = (
        "import sys, noduleserve.client.readers.worker, noduleserve.client.readers.series_reader\n"
        "assert not {'grpc', 'tritonclient', 'rich', 'typer', 'tenacity'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {getattr(noduleserve.client, name).__name__ for name in noduleserve.client.__all__} == set(
        noduleserve.client.__all__
    )
    with pytest.raises(AttributeError, match="NoSuchName"):
        noduleserve.client.NoSuchName
