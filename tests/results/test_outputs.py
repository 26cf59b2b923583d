"""Outputs are chosen by name, tried before the night, and whole or untouched whatever happens."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noduleserve.errors import ResultsError
from noduleserve.results.base import Head
from noduleserve.results.codes import OUTPUT_CODES
from noduleserve.results.outcome import Outcome
from noduleserve.results.outputs import check_writable, open_writers

MakeOutcome = Callable[..., Outcome]
NAMES = ("r.csv", "r.jsonl", "r.parquet", "r.sqlite")
ROOT = Path(__file__).parents[2]

# A night of `rows` nodules with remarks of 3 KB, in a process of its own; prints what it is asked to measure.
NIGHT = """
import random, resource, signal, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from noduleserve.results.base import Head
from noduleserve.results.outcome import Outcome, ReleaseInfo, Score
from noduleserve.results.outputs import open_writers
from noduleserve.worklist.table import Nodule

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

rows, limit, kill_at, *outs = sys.argv[1:]
rows, limit, kill_at = int(rows), int(limit), int(kill_at)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
head = Head(("pid", "remark"), ReleaseInfo("ns-1", 2, True, ("margin.smooth",)))
one, nine = np.float32([0.25, 0.5]), np.zeros((2, 9), np.float32)
score = Score(0.5, one, one, np.float32([1]), nine[:, :4], nine, "ns-1")
with open_writers(outs, head) as writers:
    for number in range(rows):
        if number == kill_at:
            signal.raise_signal(signal.SIGKILL)
        cells = {"pid": f"p{number}", "remark": random.Random(number).randbytes(1500).hex()}
        writers.add(Outcome(Nodule(number, cells, cells["pid"], "1", Path("/ct"), (0.0, 0.0, float(number))), score))
        if number == 5000:
            early = peak()
if rows > 5000:
    print(peak() - early)
"""


def night(outs: list[Path], rows: int, *, limit: int = 0, kill_at: int = -1) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", NIGHT, str(rows), str(limit), str(kill_at), *map(str, outs)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def needs_pyarrow(*names: str) -> None:
    if any(name.endswith(".parquet") for name in names):
        pytest.importorskip("pyarrow", reason="Parquet is written with pyarrow")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    needs_pyarrow(request.param)
    return request.param


def code_of(outs: list[Path | str], head: Head) -> str:
    """The code with which both the check and the opening refuse."""
    codes = []
    with pytest.raises(ResultsError) as raised:
        check_writable(outs, head.columns)
    codes.append(raised.value.code)
    with pytest.raises(ResultsError) as raised, open_writers(outs, head):
        pytest.fail("it was opened")
    codes.append(raised.value.code)
    assert codes[0] == codes[1] and codes[0] in OUTPUT_CODES
    return codes[0]


@pytest.mark.parametrize("out", ["results", "results.xlsx", "results.csv.gz", "csv", ""])
def test_a_name_that_says_no_format(tmp_path: Path, head: Head, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if out == "":  # the working folder
        out = "nothing."
    assert code_of(["fine.csv", out], head) == "OUTPUT_FORMAT_UNKNOWN"
    assert files(tmp_path) == {}


def test_endings_in_capitals_and_folders_that_are_not_there(
    tmp_path: Path, head: Head, make_outcome: MakeOutcome
) -> None:
    outs = [tmp_path / "a" / "b" / "R.CSV", str(tmp_path / "c" / "R.Db")]
    check_writable(outs, head.columns)
    assert files(tmp_path / "a" / "b") == files(tmp_path / "c") == {}
    with open_writers(outs, head) as writers:
        writers.add(make_outcome(0))
        assert not (tmp_path / "a" / "b" / "R.CSV").exists()
    assert [written.rows for written in writers.written] == [1, 1]
    assert (tmp_path / "c" / "R.Db").read_bytes().startswith(b"SQLite format 3\0")


def test_the_same_output_twice(tmp_path: Path, head: Head) -> None:
    (tmp_path / "link.csv").symlink_to("r.csv")
    assert code_of([tmp_path / "r.csv", tmp_path / "." / "r.csv"], head) == "OUTPUT_TWICE"
    assert code_of([tmp_path / "r.csv", tmp_path / "link.csv"], head) == "OUTPUT_TWICE"
    assert [path.name for path in tmp_path.iterdir()] == ["link.csv"]


def test_a_place_that_cannot_be_written(tmp_path: Path, head: Head, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    assert code_of([tmp_path / "file" / name], head) == "OUTPUT_NOT_WRITTEN"
    os.mkfifo(tmp_path / name)  # as a device, it must not be replaced by a file
    if name != "r.sqlite":  # of which the header would be read
        assert code_of([tmp_path / name], head) == "OUTPUT_NOT_WRITTEN"
    assert (tmp_path / name).is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["file", name]


def test_a_block_that_ends_in_an_error_leaves_everything_as_it_was(
    tmp_path: Path, head: Head, make_outcome: MakeOutcome, name: str
) -> None:
    for old in ([make_outcome(0), make_outcome(1)], []):
        if old:
            with open_writers([tmp_path / name], head) as writers:
                for outcome in old:
                    writers.add(outcome)
        else:
            (tmp_path / name).unlink()
        before = files(tmp_path)
        with pytest.raises(KeyboardInterrupt), open_writers([tmp_path / name], head) as writers:
            writers.add(make_outcome(0, error="NOT_CT"))
            raise KeyboardInterrupt
        assert files(tmp_path) == before


def test_a_run_that_is_killed_leaves_the_old_file_and_the_next_run_begins_anew(
    tmp_path: Path, head: Head, make_outcome: MakeOutcome
) -> None:
    needs_pyarrow(*NAMES)
    outs = [tmp_path / name for name in NAMES]
    with open_writers(outs, head) as writers:
        writers.add(make_outcome(0))
    before = files(tmp_path)
    assert night(outs, 300, kill_at=200).returncode == -signal.SIGKILL
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert {*after} - {*before} >= {"r.csv.part", "r.jsonl.part", "r.parquet.part"}
    check_writable(outs, head.columns)
    with open_writers(outs, head) as writers:
        writers.add(make_outcome(0))
    after = files(tmp_path)
    assert after.keys() == before.keys()
    assert {name: after[name] for name in NAMES[:2]} == {name: before[name] for name in NAMES[:2]}


@pytest.mark.parametrize("there", [False, True], ids=["new", "old"])
def test_a_full_disk_leaves_the_old_file_and_no_part(
    tmp_path: Path, head: Head, make_outcome: MakeOutcome, name: str, there: bool
) -> None:
    if there:
        with open_writers([tmp_path / name], head) as writers:
            writers.add(make_outcome(0))
    before = files(tmp_path)
    done = night([tmp_path / name], 1000, limit=60_000)
    assert done.returncode == 1, done.stderr
    assert f"ResultsError: [OUTPUT_NOT_WRITTEN] {tmp_path / name} cannot be written (" in done.stderr
    assert "Exception ignored" not in done.stderr
    assert files(tmp_path) == before


def test_an_output_that_fails_does_not_cost_the_others(tmp_path: Path) -> None:
    outs = [tmp_path / "r.jsonl", tmp_path / "r.csv"]
    assert night(outs, 40).returncode == 0
    larger, smaller = (path.stat().st_size for path in outs)
    whole = outs[1].read_bytes()
    for path in outs:
        path.unlink()
    done = night(outs, 40, limit=(larger + smaller) // 2)
    assert done.returncode == 1 and f"OUTPUT_NOT_WRITTEN] {outs[0]} " in done.stderr
    assert files(tmp_path) == {"r.csv": whole}


def test_two_runs_at_once(tmp_path: Path, head: Head, name: str, make_outcome: MakeOutcome) -> None:
    with open_writers([tmp_path / name], head) as writers:
        assert code_of([tmp_path / name], head) == "OUTPUT_IN_USE"
        writers.add(make_outcome(0))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_stays_a_link(tmp_path: Path, head: Head, name: str, make_outcome: MakeOutcome) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / name).symlink_to(Path("real") / name)
    with open_writers([tmp_path / name], head) as writers:
        writers.add(make_outcome(0))
    assert (tmp_path / name).is_symlink() and [path.name for path in (tmp_path / "real").iterdir()] == [name]


def test_who_may_read_the_old_file_may_read_the_new_one(tmp_path: Path, head: Head, name: str) -> None:
    for _ in range(2):
        with open_writers([tmp_path / name], head):
            pass
        (tmp_path / name).chmod(0o600)
    with open_writers([tmp_path / name], head):
        pass
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_check_finds_columns_that_clash(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as raised:
        check_writable([tmp_path / "r.csv"], ["pid", "notice"])
    assert raised.value.code == "OUTPUT_COLUMNS" and files(tmp_path) == {}


def test_rows_come_once_and_in_order(tmp_path: Path, head: Head, make_outcome: MakeOutcome) -> None:
    for second in (3, 2):
        with pytest.raises(ValueError, match="row"), open_writers([tmp_path / "r.csv"], head) as writers:
            writers.add(make_outcome(3))
            writers.add(make_outcome(second))
    assert files(tmp_path) == {}


def test_parquet_without_pyarrow(tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import of an absent package meets
    assert code_of([tmp_path / "r.csv", tmp_path / "r.parquet"], head) == "OUTPUT_NEEDS_PACKAGE"
    assert files(tmp_path) == {}


def test_in_bounded_memory(tmp_path: Path) -> None:
    needs_pyarrow(*NAMES)
    done = night([tmp_path / name for name in NAMES[:3]], 20_000)
    assert int(done.stdout) < 40, done.stderr  # MiB beyond what 5,000 rows took; kept, the others would be 45 and more
    assert all((tmp_path / name).stat().st_size > 40e6 for name in NAMES[:2])


def test_a_database_in_bounded_memory(tmp_path: Path) -> None:
    done = night([tmp_path / "r.sqlite"], 20_000)
    assert int(done.stdout) < 75, done.stderr  # 64 are SQLite's, for the pages that it has changed


def test_the_codes_are_those_that_are_raised() -> None:
    raised = set()
    for file in (*(ROOT / "results").glob("*.py"), ROOT / "noduleserve/commands/results.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ResultsError":
                raised |= {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)}
    assert raised == OUTPUT_CODES.keys()
