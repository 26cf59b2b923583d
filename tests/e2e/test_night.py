"""A night in which everything is killed once: every row of the worklist has exactly one outcome in the morning."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from serving import Scoring, Serving, command, living, read_rows, until, write_rows

from noduleserve.journal.contents import Contents

BAD = ("SERIES_NOT_FOUND", "CENTER_OUTSIDE", "WORKLIST_ROW", "PIXELS_TRUNCATED")


@pytest.fixture(scope="module")
def night(real_worklist: Path, phantom_worklist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hundreds of nodules of two real series and a phantom, every thirtieth of them bad."""
    folder = tmp_path_factory.mktemp("night")
    rows: list[dict[str, Any]] = []
    for turn in range(12):
        for row in (*read_rows(real_worklist), *read_rows(phantom_worklist)):
            path = phantom_worklist.parent / row["image_path"]  # an absolute path stays what it is
            rows.append({k: row[k] for k in ("pid", "coordX", "coordY", "coordZ")} | {"image_path": str(path)})
            rows[-1]["nodule_id"] = f"{row['nodule_id']}/{turn}"
    torn = folder / "torn"
    shutil.copytree(rows[-1]["image_path"], torn)
    for path in torn.iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    harm = ({"image_path": "nowhere"}, {"coordZ": "9999"}, {"coordX": "12.5 mm"}, {"image_path": str(torn)})
    for number, row in enumerate(rows[::30]):
        # What is torn is the phantom's: of another series the centre would lie elsewhere.
        row.update({k: rows[-1][k] for k in ("coordX", "coordY", "coordZ")} if number % 4 == 3 else {})
        row.update(harm[number % 4])
    random.Random(6).shuffle(rows)
    return write_rows(folder / "tonight.csv", rows)


@pytest.fixture(scope="module")
def undisturbed(night: Path, published: Serving, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What the same night comes to when nothing is killed."""
    out = tmp_path_factory.mktemp("undisturbed") / "results.csv"
    done = command("score", night, "--server", published.address, "--out", out, "--readers", 0)
    assert done.returncode == 3, done.stderr
    return read_rows(out)


@pytest.mark.timeout(600)
def test_a_night_of_kills(
    night: Path, undisturbed: list[dict[str, str]], published_release: Path, tmp_path: Path
) -> None:
    """The run dies five times, the server twice, a reader once; both transports take turns."""
    chance, out = random.Random(22), tmp_path / "results.csv"
    server = Serving(published_release, tmp_path / "server")
    server.__enter__()
    port = server.facts["grpc"]
    for life in range(6):
        transport = ("stream", "unary")[life // 2 % 2]
        scoring = Scoring(
            *(night, "--server", server.address, "--transport", transport, "--readers", 2, "--in-flight", 4),
            *("--server-wait", 120),
            results=out,
        )
        before = scoring.written()
        if life in (1, 3):  # the server dies under the run, and comes back
            scoring.has_written(before + chance.randint(2, 15))
            os.kill(server.triton, signal.SIGKILL)
            server.process.wait(40)
            time.sleep(chance.random())
            server.__exit__(None, None, None)
            server = Serving(published_release, tmp_path / f"server-{life}", "--grpc-port", port)
            server.__enter__()
            scoring.has_written(scoring.written() + 5)
        if life == 2:  # a process that reads dies under the run
            scoring.has_written(before + chance.randint(2, 15))
            readers = [p for p in living() if p.parent == scoring.process.pid and "python" in p.name]
            os.kill(max(p.pid for p in readers), signal.SIGKILL)
            scoring.has_written(scoring.written() + 5)
        if life < 5:
            scoring.has_written(before + chance.randint(3, 25))
            scoring.process.kill()
            scoring.end(20)
            assert not out.exists()
    status, printed, errors = scoring.end(120)
    server.__exit__(None, None, None)
    assert status == 3, (printed, errors)
    assert "Traceback" not in errors
    rows = read_rows(out)
    assert f"{len(rows)} nodules in, {len(rows)} out" in printed
    _assert_same_night(rows, undisturbed)
    with Contents.open(scoring.journal) as journal:
        assert journal.missing == 0 and journal.count == len(rows)
        assert sum(journal.counts().values()) == len(rows)
    assert until(lambda: not [p for p in living() if p.parent == scoring.process.pid], 20)


def _assert_same_night(rows: list[dict[str, str]], undisturbed: list[dict[str, str]]) -> None:
    assert len(rows) == len(undisturbed) > 200
    for row, wanted in zip(rows, undisturbed, strict=True):
        assert {k: v for k, v in row.items() if k != "outcome_at"} == {
            k: v for k, v in wanted.items() if k != "outcome_at"
        }
    codes = Counter(row["error_code"] for row in rows)
    assert codes.keys() == {"", *BAD}
    assert codes[""] == len(rows) - len(range(0, len(rows), 30))
