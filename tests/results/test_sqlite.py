"""One database for many nights: nothing twice, nothing lost, and a query sees a night whole or not at all."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noduleserve.errors import ResultsError
from noduleserve.results.base import Head
from noduleserve.results.outcome import Outcome
from noduleserve.results.outputs import check_writable, open_writers
from noduleserve.results.sqlite import SqliteWriter
from noduleserve.results.sqlite_schema import APPLICATION_ID, VERSION

MakeOutcome = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "screening.sqlite"


def write(database: Path, head: Head, outcomes: list[Outcome]) -> tuple[str, ...]:
    with open_writers([database], head) as writers:
        for outcome in outcomes:
            writers.add(outcome)
    return writers.written[0].remarks


def ask(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        rows = connection.execute(query).fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    return [row[0] if len(row) == 1 else row for row in rows]


def test_written_twice_a_nodule_is_there_once(database: Path, head: Head, odd_outcomes: list[Outcome]) -> None:
    write(database, head, odd_outcomes)
    tables = ("nodules", "folds", "semantic", "semantic_labels")
    before = {table: ask(database, f"SELECT * FROM {table}") for table in tables[1:]}
    assert write(database, head, odd_outcomes) == ()
    assert {table: ask(database, f"SELECT * FROM {table}") for table in tables[1:]} == before
    assert ask(database, "SELECT count(*) FROM nodules") == [len(odd_outcomes)]
    assert ask(database, "SELECT run FROM runs ORDER BY run") == [1, 2]
    assert ask(database, "SELECT DISTINCT run FROM nodules") == [2]


def test_earlier_nights_stay_and_a_failure_gives_way_to_a_score(
    database: Path, head: Head, make_outcome: MakeOutcome
) -> None:
    write(database, head, [make_outcome(0), make_outcome(1, error="SERVER_LOST")])
    scored = make_outcome(1)
    write(database, head, [scored, make_outcome(2)])
    found = "SELECT pid, status, error_code FROM nodules ORDER BY pid"
    assert ask(database, found) == [("p0", "scored", None), ("p1", "scored", None), ("p2", "scored", None)]
    assert ask(database, "SELECT pid FROM last_run ORDER BY row") == ["p1", "p2"]
    raw = ask(database, "SELECT raw FROM folds JOIN nodules USING (nodule) WHERE pid = 'p1' ORDER BY fold")
    assert scored.score and np.float32(raw).tobytes() == scored.score.raw.tobytes()
    write(database, head, [make_outcome(1, error="NOT_CT")])  # and nothing of the score is left beside a failure
    assert ask(database, "SELECT error_code, ensemble FROM nodules WHERE pid = 'p1'") == [("NOT_CT", None)]
    assert ask(database, "SELECT count(*) FROM folds JOIN nodules USING (nodule) WHERE pid = 'p1'") == [0]
    assert ask(database, "SELECT count(*) FROM semantic JOIN nodules USING (nodule) WHERE pid = 'p1'") == [0]


def test_another_release_center_or_series_is_another_row(database: Path, head: Head, make_outcome: MakeOutcome) -> None:
    one = make_outcome(0)
    moved = replace(one, nodule=replace(one.nodule, number=1, center=(0.1, 0.0, 0.5)))
    broken = replace(one.nodule, number=2, center=None, problem="The row has 9 cells.")
    other = replace(one, nodule=replace(one.nodule, number=3), series_uid="1.2.3")
    unread = Outcome(broken, error_code="WORKLIST_ROW", error="The row has 9 cells.")
    write(database, head, [one, moved, unread, other])
    write(database, replace(head, info=replace(head.info, release="ns-2")), [make_outcome(0, release="ns-2")])
    keys = "SELECT release, series, center FROM nodules ORDER BY nodule"
    assert ask(database, keys) == [
        ("ns-1", "path:ct/0", '["0.1", "0.0", "0.3333333333333333"]'),
        ("ns-1", "path:ct/0", '["0.1", "0.0", "0.5"]'),
        ("ns-1", "path:ct/0", '["cell:0.1", "cell:-0.0", "cell:0.3333333333333333"]'),
        ("ns-1", "1.2.3", '["0.1", "0.0", "0.3333333333333333"]'),
        ("ns-2", "path:ct/0", '["0.1", "0.0", "0.3333333333333333"]'),
    ]


def test_rows_that_name_one_nodule_are_told(database: Path, head: Head, make_outcome: MakeOutcome) -> None:
    one = make_outcome(0)
    twins = [replace(one, nodule=replace(one.nodule, number=number)) for number in range(3)]
    (remark,) = write(database, head, [*twins, make_outcome(3)])
    assert remark.startswith("2 rows ")
    assert ask(database, "SELECT row FROM nodules ORDER BY row") == [2, 3]


def test_a_release_with_other_labels_and_a_worklist_with_other_columns(
    database: Path, head: Head, make_outcome: MakeOutcome
) -> None:
    write(database, head, [make_outcome(0)])
    info = replace(head.info, release="ns-2", labels=("shape.round", "shape.new"))
    write(database, Head(("pid", "Status", "x"), info), [make_outcome(1, release="ns-2", labels=2)])
    assert ask(database, "SELECT count(*) FROM semantic_labels") == [6]
    probabilities = "SELECT probability FROM semantic JOIN nodules USING (nodule) WHERE pid = 'p1' ORDER BY value"
    score = make_outcome(1, labels=2).score
    assert score and ask(database, probabilities) == score.semantic[::-1].tolist()
    columns = ask(database, "SELECT worklist FROM nodules ORDER BY nodule DESC")[0]
    assert columns == '{"pid": "p1", "Status": "", "x": ""}'


def test_readers_see_the_nights_before_until_the_night_is_whole(
    database: Path, head: Head, make_outcome: MakeOutcome
) -> None:
    write(database, head, [make_outcome(0)])
    with closing(sqlite3.connect(database, timeout=0)) as reader:
        count = "SELECT count(*) FROM last_run"
        with open_writers([database], head) as writers:
            for number in range(500):
                writers.add(make_outcome(number))
                if number % 100 == 0:
                    assert reader.execute(count).fetchall() == [(1,)]
            assert list(database.parent.glob("*-wal")) == []
        assert reader.execute(count).fetchall() == [(500,)]
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_the_end_of_a_night_waits_for_a_reader(database: Path, head: Head, make_outcome: MakeOutcome) -> None:
    write(database, head, [make_outcome(0)])
    with closing(sqlite3.connect(database, check_same_thread=False)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM nodules").fetchone() == (1,)  # holds its lock from here on
        timer = threading.Timer(0.3, reader.rollback)
        timer.start()
        write(database, head, [make_outcome(1)])
        timer.join()
    assert ask(database, "SELECT count(*) FROM nodules") == [2]


def test_a_database_that_another_program_holds(database: Path, head: Head, make_outcome: MakeOutcome) -> None:
    write(database, head, [make_outcome(0)])
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writer = SqliteWriter(str(database), head, wait=0)
        for work in (writer.check, writer.begin):
            with pytest.raises(ResultsError, match="database is locked") as raised:
                work()
            assert raised.value.code == "OUTPUT_NOT_WRITTEN"
        writer.abort()
    check_writable([database], head.columns)


def _foreign(path: Path) -> Iterator[None]:
    path.write_bytes(b"pid,nodule_id\n")
    yield
    path.write_bytes(b"SQLite format 3\0")
    yield
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE nodules (nodule)")
        connection.commit()
    yield


def test_a_foreign_file_is_refused_and_left_alone(database: Path, head: Head) -> None:
    for _ in _foreign(database):
        before = database.read_bytes()
        for work in (lambda: check_writable([database]), lambda: write(database, head, [])):
            with pytest.raises(ResultsError) as raised:
                work()
            assert raised.value.code == "OUTPUT_FOREIGN"
        assert database.read_bytes() == before and [path.name for path in database.parent.iterdir()] == [database.name]


def test_a_later_version_is_refused_and_an_empty_file_is_none(database: Path, head: Head) -> None:
    database.touch()
    write(database, head, [])
    assert ask(database, "PRAGMA application_id") == [APPLICATION_ID]
    assert ask(database, "PRAGMA user_version") == [VERSION]
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.commit()
    with pytest.raises(ResultsError) as raised:
        write(database, head, [])
    assert raised.value.code == "OUTPUT_NEWER"


def test_a_journal_without_its_database_is_not_taken_for_one_of_the_new(database: Path, head: Head) -> None:
    beside = database.with_name(database.name + "-journal")
    beside.write_bytes(b"left behind")
    with pytest.raises(ResultsError, match=beside.name) as raised:
        write(database, head, [])
    assert raised.value.code == "OUTPUT_NOT_WRITTEN"
    assert [path.name for path in database.parent.iterdir()] == [beside.name]


def test_the_queries_of_the_documentation_run(database: Path, head: Head, odd_outcomes: list[Outcome]) -> None:
    write(database, head, odd_outcomes)
    page = (ROOT / "docs/results.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(queries) >= 5
    for query in queries:
        rows = ask(database, query)
        assert rows or "DELETE" in query, query


def test_no_query_of_a_night_or_a_threshold_reads_the_whole_table(database: Path, head: Head) -> None:
    write(database, head, [])
    for query in ("SELECT * FROM last_run", "SELECT * FROM nodules WHERE calibrated_ensemble >= 0.5"):
        plan = " ".join(str(row) for row in ask(database, f"EXPLAIN QUERY PLAN {query}"))
        assert "SEARCH nodules USING INDEX" in plan and "SCAN nodules" not in plan
