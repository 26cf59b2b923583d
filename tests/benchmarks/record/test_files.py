"""A record comes back from its folder as it was, and what is no whole record is refused with a code."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noduleserve.benchmarks.record.files import read_record, write_record
from noduleserve.benchmarks.record.record import Goal, Line, Plot, Record, Table, plain
from noduleserve.errors import BenchmarkError

TABLE = Table(
    name="latency",
    title="Latency",
    columns=("way", "concurrency", "p99_ms", "agrees"),
    rows=[("ours", 1, 12.5, True), ("other | way", 4, None, False)],
    keys=("way", "concurrency"),
    better={"p99_ms": "lower"},
    goals=(Goal("p99_ms", at_most=20, row={"way": "ours"}), Goal("agrees", at_least=True)),
)
PLOT = Plot("latency", "Latency", "concurrency", "ms", [Line("ours", [1, 2], [3, float("nan")], [2, 3], [4, 5])])
RECORD = Record(
    benchmark="serving",
    command="noduleserve bench serving may",
    began="2026-05-01T00:00:00+00:00",
    seconds=12.5,
    machine={"processor": {"model": "a", "cores_usable": 2}, "run": {"load_before": 0.1}},
    parameters={"release": {"id": "ns-0"}, "turns": 3},
    tables=[TABLE],
    plots=[PLOT],
    remarks=["A remark."],
)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No matplotlib: drawing takes its time, and is tested elsewhere."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


text = st.text(max_size=12)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
numbers = st.floats() | st.integers() | st.floats(width=32).map(np.float32) | st.integers(-9, 9).map(np.int64)
cells = st.none() | st.booleans() | text | numbers


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(text, min_size=1, max_size=4, unique=True))
    row = st.tuples(*[cells] * len(columns))
    some = st.lists(st.sampled_from(columns), unique=True)
    goals = [Goal(column, draw(st.none() | st.floats(-9, 9)), row={column: "x"}) for column in draw(some)]
    better = {column: draw(st.sampled_from(["higher", "lower"])) for column in draw(some)}
    return Table(draw(names), draw(text), columns, draw(st.lists(row, max_size=4)), draw(some), better, tuple(goals))


@st.composite
def plots(draw: st.DrawFn) -> Plot:
    kind = draw(st.sampled_from(["lines", "bars", "stacked"]))
    x = st.floats() | st.integers(-9, 9) if kind == "lines" else text
    points = draw(st.lists(st.tuples(x, st.floats(), st.floats()), max_size=4))
    at, y, high = (list(column) for column in zip(*points, strict=True)) if points else ([], [], [])
    return Plot(draw(names), draw(text), draw(text), draw(text), [Line(draw(text), at, y, high=high)], kind)


records = st.builds(
    Record,
    benchmark=names,
    command=text,
    began=text,
    seconds=st.floats(0, 1e9),
    machine=st.dictionaries(text, cells | st.lists(cells, max_size=2), max_size=3),
    parameters=st.dictionaries(text, cells | st.tuples(cells), max_size=3),
    tables=st.lists(tables(), max_size=2, unique_by=lambda table: table.name),
    plots=st.lists(plots(), max_size=2, unique_by=lambda plot: plot.name),
    remarks=st.lists(text, max_size=2),
)


@pytest.mark.usefixtures("undrawn")
@given(record=records)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_record_comes_back_as_it_was(record: Record, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("record") / "out"
    files = write_record(record, folder)
    assert read_record(folder) == read_record(files[0]) == record
    assert sorted(files) == sorted(folder.iterdir())


def test_a_record_is_a_folder_of_json_csv_markdown_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the pictures")
    folder = tmp_path / "new" / "out"
    files = write_record(RECORD, folder)
    assert [path.name for path in files] == ["serving.json", "serving.md", "latency.csv", "latency.png", "latency.svg"]
    assert sorted(files) == sorted(folder.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    with (folder / "latency.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["way", "concurrency", "p99_ms", "agrees"],
            ["ours", "1", "12.5", "True"],
            ["other | way", "4", "", "False"],
        ]
    assert "![Latency](latency.png)" in (folder / "serving.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_without_matplotlib_plots_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    files = write_record(RECORD, tmp_path / "out")
    assert [path.suffix for path in files] == [".json", ".md", ".csv"]
    page = files[1].read_text()
    assert "Plots are left out: matplotlib is not installed." in page and "![" not in page
    assert read_record(tmp_path / "out").plots == RECORD.plots


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    write_record(RECORD, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for taken in (tmp_path / "out", tmp_path / "out" / "serving.json"):
        with pytest.raises(BenchmarkError) as caught:
            write_record(replace(RECORD, remarks=["other"]), taken)
        assert caught.value.code == "RECORD_FOLDER" and caught.value.mend
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("noduleserve.benchmarks.record.files.markdown_of", full)
    with pytest.raises(BenchmarkError) as caught:
        write_record(RECORD, tmp_path / "out")
    assert caught.value.code == "RECORD_UNWRITABLE" and "No space left" in caught.value.what
    assert list(tmp_path.iterdir()) == []


def damage(what: str, document: dict) -> object:
    record = document["record"]
    if what == "a key is gone":
        del record["tables"][0]["keys"]
    elif what == "a key is new":
        record["more"] = 1
    elif what == "a cell is gone":
        del record["tables"][0]["rows"][1][3]
    elif what == "a cell is a list":
        record["tables"][0]["rows"][1][3] = [1]
    elif what == "a key names no column":
        record["tables"][0]["keys"] = ["nothing"]
    elif what == "a name leaves the folder":
        record["tables"][0]["name"] = "../latency"
    elif what == "a point is gone":
        del record["plots"][0]["lines"][0]["y"][1]
    elif what == "a word is a number":
        record["command"] = 3
    return document


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "what",
    [
        *("a key is gone", "a key is new", "a cell is gone", "a cell is a list", "a key names no column"),
        *("a name leaves the folder", "a point is gone", "a word is a number"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, what: str) -> None:
    file = write_record(replace(RECORD, plots=[replace(PLOT, kind="bars")]), tmp_path / "out")[0]
    file.write_text(json.dumps(damage(what, json.loads(file.read_text()))))
    with pytest.raises(BenchmarkError) as caught:
        read_record(file)
    assert caught.value.code == "RECORD_DAMAGED" and "serving.json is damaged" in caught.value.what
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.usefixtures("undrawn")
def test_half_a_file_another_file_another_version_and_no_file_are_refused(tmp_path: Path) -> None:
    whole = write_record(RECORD, tmp_path / "out")[0].read_text()
    cases = {
        "RECORD_DAMAGED": whole[: len(whole) // 2],
        "RECORD_FOREIGN": '{"format": 1, "scores": []}',
        "RECORD_VERSION": whole.replace('"version": 1', '"version": 2'),
    }
    for code, content in cases.items():
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(BenchmarkError) as caught:
            read_record(tmp_path / "a.json")
        assert caught.value.code == code and caught.value.mend
    (tmp_path / "out" / "second.json").write_text(whole)
    for missing in (tmp_path / "nowhere.json", tmp_path, tmp_path / "out"):
        (tmp_path / "a.json").unlink(missing_ok=True)
        with pytest.raises(BenchmarkError) as caught:
            read_record(missing)
        assert caught.value.code == "RECORD_NOT_FOUND" and caught.value.mend


def test_what_does_not_exist_is_no_figure() -> None:
    table = Table("a", "A", ("x", "y"), [(float("nan"), np.float32("inf")), (np.int32(2), np.bool_(True))])
    assert table.rows == ((None, None), (2, True))
    assert Line("a", [1, 2], [math.inf, 1]) == Line("a", (1, 2), (math.nan, 1))


def test_a_record_that_could_not_be_kept_is_not_made() -> None:
    with pytest.raises(ValueError, match="file"):
        replace(TABLE, name="a/b")
    with pytest.raises(TypeError, match="cell"):
        replace(TABLE, rows=[("a", 1, [2], True)])
    with pytest.raises(ValueError, match="twice"):
        replace(TABLE, columns=("way", "p99_ms", "agrees", "concurrency", "agrees"), rows=[])
    with pytest.raises(ValueError, match="not as many"):
        Line("a", [1, 2], [1])
    with pytest.raises(ValueError, match="words"):
        Plot("a", "A", "x", "y", [Line("a", ["b"], [1])])
    with pytest.raises(ValueError, match="two of one name"):
        replace(RECORD, tables=[TABLE, TABLE])


def test_parameters_are_plain_and_name_no_folder() -> None:
    parameters = {"release": Path("/secret/may"), "turns": np.int64(3), "of": ("a", {1}), "goal": Goal("p", at_most=2)}
    goal = {"column": "p", "at_least": None, "at_most": 2, "row": {}}
    assert plain(parameters) == {"release": "may", "turns": 3, "of": ["a", [1]], "goal": goal}
