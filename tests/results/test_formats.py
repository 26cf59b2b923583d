"""The same outcomes through all formats: the same numbers to the last bit, the same texts, nothing lost."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from noduleserve.errors import ResultsError
from noduleserve.results.base import Head
from noduleserve.results.codes import OUTPUT_CODES
from noduleserve.results.columns import SCHEMA, csv_cells, markdown, table_columns, table_row
from noduleserve.results.jsonl import json_schema
from noduleserve.results.outcome import Outcome, ReleaseInfo
from noduleserve.results.outputs import open_writers

ROOT = Path(__file__).parents[2]
MakeOutcome = Callable[..., Outcome]
Row = dict[str, Any]
TIME = datetime(2026, 11, 24, 22, 13, 5, 123000, tzinfo=UTC)


def write(path: Path, head: Head, outcomes: list[Outcome], **options: Any) -> Path:
    with open_writers([path], head, **options) as writers:
        for outcome in outcomes:
            writers.add(outcome, TIME)
    (written,) = writers.written
    assert (written.target, written.rows) == (str(path), len(outcomes))
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]
    return path


def rows_of_csv(path: Path, head: Head) -> list[Row]:
    kinds = dict(table_columns(head))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: _typed(cell, kinds[name], name in head.columns) for name, cell in row.items()} for row in rows]


def _typed(cell: str, kind: str, worklists: bool) -> Any:
    if worklists:
        return cell
    if not cell:
        return None
    if kind == "time":
        return datetime.fromisoformat(cell)
    return cell if kind == "text" else float(cell)


def rows_of_jsonl(path: Path, head: Head) -> list[Row]:
    return [_flat(json.loads(line), head) for line in path.read_bytes().decode("ascii").splitlines()]


def _flat(one: Row, head: Head) -> Row:
    folds, labels = range(head.info.folds), head.info.labels
    semantic = {
        f"{feature}.{value}": p for feature, values in (one["semantic"] or {}).items() for value, p in values.items()
    }
    return {
        **one["worklist"],
        **{f"raw_{k}": one["raw"] and one["raw"][k] for k in folds},
        "ensemble": one["ensemble"],
        **{f"calibrated_{k}": one["calibrated"] and one["calibrated"][k] for k in folds},
        "calibrated_ensemble": one["calibrated_ensemble"],
        **{f"semantic.{label}": semantic.get(label) for label in labels},
        **{name: one[name] for name in ("release", "status", "error_code", "error")},
        "warnings": ";".join(warning["code"] for warning in one["warnings"]) or None,
        "ct_series_uid": one["ct_series_uid"],
        "outcome_at": datetime.fromisoformat(one["outcome_at"]),
        "notice": one["notice"],
    }


def rows_of_parquet(path: Path, head: Head) -> list[Row]:
    pq = pytest.importorskip("pyarrow.parquet", reason="Parquet is read with pyarrow")
    return pq.read_table(path).to_pylist()


def rows_of_sqlite(path: Path, head: Head) -> list[Row]:
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        nodules = [dict(row) for row in database.execute("SELECT * FROM last_run JOIN runs USING (run) ORDER BY row")]
        folds = {(n, k): pair for n, k, *pair in database.execute("SELECT nodule, fold, raw, calibrated FROM folds")}
        semantic = {(n, f"{f}.{v}"): p for n, f, v, p in database.execute("SELECT * FROM semantic")}
    database.close()
    return [_joined(row, folds, semantic, head) for row in nodules]


def _joined(row: Row, folds: dict[Any, Any], semantic: dict[Any, Any], head: Head) -> Row:
    of_fold = [folds.get((row["nodule"], k), (None, None)) for k in range(head.info.folds)]
    found = {
        **json.loads(row["worklist"]),
        **{f"raw_{k}": raw for k, (raw, _) in enumerate(of_fold)},
        **{f"calibrated_{k}": calibrated for k, (_, calibrated) in enumerate(of_fold)},
        **{f"semantic.{label}": semantic.get((row["nodule"], label)) for label in head.info.labels},
        **{name: row[name] for name in ("ensemble", "calibrated_ensemble", "status", "error_code", "error")},
        **{name: row[name] for name in ("warnings", "ct_series_uid", "notice")},
        "release": row["release"] if row["status"] == "scored" else None,  # of the run, there
        "outcome_at": datetime.fromisoformat(row["outcome_at"]),
    }
    return {name: found.pop(name) for name, _ in table_columns(head)} | found


READERS = {"r.csv": rows_of_csv, "r.jsonl": rows_of_jsonl, "r.parquet": rows_of_parquet, "r.sqlite": rows_of_sqlite}


@pytest.fixture(params=READERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="Parquet is written with pyarrow")
    return request.param


def bits(value: Any, kind: str) -> Any:
    return value if value is None or kind in ("text", "time") else np.float32(value).tobytes()


def test_every_format_holds_the_same(tmp_path: Path, name: str, head: Head, odd_outcomes: list[Outcome]) -> None:
    found = READERS[name](write(tmp_path / name, head, odd_outcomes), head)
    columns = table_columns(head)
    assert [list(row) for row in found] == [[column for column, _ in columns]] * len(odd_outcomes)
    for row, outcome in zip(found, odd_outcomes, strict=True):
        for value, (column, kind) in zip(table_row(outcome, head, TIME), columns, strict=True):
            if kind == "float64" and name != "r.csv":
                assert row[column] == value, column
            elif kind == "float64":
                assert (row[column] is None) == (value is None) and value == pytest.approx(row[column], abs=1e-9)
            else:
                assert bits(row[column], kind) == bits(value, kind), column
        score = outcome.score
        if score is None:
            assert row["raw_0"] is row["ensemble"] is row["semantic.shape.round"] is None
            assert row["error_code"] == outcome.error_code and row["error"] == outcome.error
        else:
            assert np.float32([row[f"raw_{k}"] for k in range(3)]).tobytes() == score.raw.tobytes()
            assert np.float32([row[f"semantic.{s}"] for s in head.info.labels]).tobytes() == score.semantic.tobytes()
            assert row["ensemble"] == pytest.approx(np.mean(score.raw.tolist()), abs=1e-9)
        assert {column: row[column] for column in head.columns} == outcome.nodule.columns
    assert found[2]["calibrated_0"] is found[2]["calibrated_ensemble"] is None
    assert found[4]["warnings"] == "SPACING_WIDE;CENTER_IN_AIR"


def test_a_release_without_semantic_features(tmp_path: Path, name: str, make_outcome: MakeOutcome, head: Head) -> None:
    bare = Head(head.columns, ReleaseInfo("ns-1", 3, calibrated=False, labels=()))
    outcomes = [make_outcome(0, labels=0, calibrated=False), make_outcome(1, error="NOT_CT")]
    first, second = READERS[name](write(tmp_path / name, bare, outcomes), bare)
    assert not [column for column in first if column.startswith("semantic")]
    assert (first["status"], second["status"], first["notice"]) == ("scored", "failed", None)


def test_no_row_at_all_and_failed_rows_only(tmp_path: Path, name: str, make_outcome: MakeOutcome, head: Head) -> None:
    (tmp_path / "none").mkdir()
    assert READERS[name](write(tmp_path / "none" / name, head, []), head) == []
    failed = [make_outcome(n, error="SERVER_LOST") for n in range(3)]
    (tmp_path / "failed").mkdir()
    rows = READERS[name](write(tmp_path / "failed" / name, head, failed), head)
    assert [row["error_code"] for row in rows] == ["SERVER_LOST"] * 3


def test_a_file_name_that_is_no_utf_8_does_not_cost_the_night(
    tmp_path: Path, name: str, make_outcome: MakeOutcome, head: Head
) -> None:
    outcome = replace(make_outcome(0, error="FILE_UNREADABLE"), error="caf\udce9.dcm cannot be read.")
    (row,) = READERS[name](write(tmp_path / name, head, [outcome]), head)
    assert row["error"] == "caf\\udce9.dcm cannot be read."


def test_csv_repeats_ids_as_they_are_also_those_that_look_like_formulas(
    tmp_path: Path, head: Head, odd_outcomes: list[Outcome]
) -> None:
    data = write(tmp_path / "r.csv", head, odd_outcomes).read_bytes()
    assert b"\r\n=cmd|' /C calc'!A0,1,ct/3," in data
    assert b"\r\n-1+1,1,ct/4," in data


def test_csv_is_what_it_was(tmp_path: Path, make_outcome: MakeOutcome, head: Head) -> None:
    outcome = make_outcome(0, warnings=("SPACING_WIDE",))
    assert outcome.score
    lines = write(tmp_path / "r.csv", head, [outcome, make_outcome(1, error="NOT_CT")]).read_bytes().split(b"\r\n")
    numbers = [*outcome.score.raw, outcome.score.raw.astype(float).mean()]
    numbers += [*outcome.score.calibrated, outcome.score.calibrated.astype(float).mean(), *outcome.score.semantic]
    cells = ["p0", "1", "ct/0", "0.1", "-0.0", "0.3333333333333333", "", *(f"{float(n):.9g}" for n in numbers)]
    cells += ["ns-1", "scored", "", "", "SPACING_WIDE", "", "2026-11-24T22:13:05.123Z", "untrained demo weights"]
    assert lines[1].decode() == ",".join(cells)
    assert b'p1,1,ct/1,1.1,-0.0,0.3333333333333333,,,,,,,,,,,,,,,,failed,NOT_CT,"NOT_CT, which' in lines[2]
    assert lines[3:] == [b""]


def test_every_json_line_is_of_the_schema(tmp_path: Path, head: Head, odd_outcomes: list[Outcome]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    for embedding in (False, True):
        (tmp_path / str(embedding)).mkdir()
        path = write(tmp_path / str(embedding) / "r.jsonl", head, odd_outcomes, embedding=embedding)
        for line, outcome in zip(path.read_text().splitlines(), odd_outcomes, strict=True):
            one = json.loads(line)
            validator.validate(one)
            assert ("embedding" in one) == embedding
            if outcome.score is not None:
                attention = np.array(one["view_attention"], np.float32)
                assert attention.tobytes() == outcome.score.view_attention.tobytes()
                if embedding:
                    assert np.array(one["embedding"], np.float32).tobytes() == outcome.score.embedding.tobytes()


@pytest.mark.parametrize(
    "change",
    [{"status": "failed"}, {"raw": None}, {"raw": [0.5, None]}, {"ensemble": 1.5}, {"more": 1}, {"release": ""}],
    ids=str,
)
def test_the_schema_refuses(tmp_path: Path, head: Head, make_outcome: MakeOutcome, change: Row) -> None:
    one = json.loads(write(tmp_path / "r.jsonl", head, [make_outcome(0)]).read_text())
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(one)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(one | change)


def test_parquet_has_types_and_says_of_which_release(tmp_path: Path, head: Head, odd_outcomes: list[Outcome]) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet is written with pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    schema = pq.read_schema(write(tmp_path / "r.parquet", head, odd_outcomes))
    assert [schema.field(n).type for n in ("pid", "raw_0", "ensemble", "calibrated_2")] == [
        pa.string(), pa.float32(), pa.float64(), pa.float32(),
    ]  # fmt: skip
    assert schema.field("outcome_at").type == pa.timestamp("ms", tz="UTC")
    assert not schema.field("pid").nullable and schema.field("raw_0").nullable
    assert schema.metadata[b"noduleserve.release"] == b"ns-1"
    assert schema.metadata[b"noduleserve.notice"] == b"untrained demo weights"
    assert set(schema.metadata) >= {b"noduleserve.version", b"noduleserve.folds", b"noduleserve.calibrated"}


def test_a_score_of_another_release_or_shape_is_refused_by_all(
    tmp_path: Path, make_outcome: MakeOutcome, head: Head
) -> None:
    for wrong in (make_outcome(0, release="ns-2"), make_outcome(0, labels=4)):
        with (
            pytest.raises(ResultsError) as raised,
            open_writers([tmp_path / "r.csv", tmp_path / "r.jsonl"], head) as writers,
        ):
            writers.add(wrong)
        assert raised.value.code == "OUTPUT_OTHER_RELEASE"
    assert list(tmp_path.iterdir()) == []


def test_a_worklist_must_not_have_our_columns(tmp_path: Path, name: str, head: Head) -> None:
    for columns in (("pid", "notice"), ("pid", "raw_2"), ("pid", "pid")):
        with (
            pytest.raises(ResultsError) as raised,
            open_writers([tmp_path / name], Head(columns, head.info)),
        ):
            pytest.fail("it was opened")
        assert raised.value.code == "OUTPUT_COLUMNS" and columns[1] in raised.value.what
    assert list(tmp_path.iterdir()) == []


def test_rows_have_as_many_cells_as_there_are_columns(head: Head, odd_outcomes: list[Outcome]) -> None:
    for outcome in odd_outcomes:
        row = table_row(outcome, head, TIME)
        assert len(row) == len(csv_cells(row)) == len(table_columns(head))
    assert len({column.name for column in SCHEMA}) == len(SCHEMA)


def test_the_page_has_every_column_key_and_code() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert markdown() in page
    assert "\n".join(f"| {code} | {meaning} |" for code, meaning in OUTPUT_CODES.items()) in page
    assert [key for key in json_schema()["properties"] if f"`{key}`" not in page] == []
