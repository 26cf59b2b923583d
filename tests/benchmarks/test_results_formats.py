"""The figures of the formats are of files that hold the night."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from noduleserve.benchmarks.results_formats import (
    bench_results,
    formats_plot,
    formats_table,
    made_up_night,
    write_night,
)


def test_the_night_is_written(tmp_path: Path) -> None:
    head, outcomes = made_up_night(100)
    write_night(tmp_path / "r.sqlite", head, outcomes)
    write_night(tmp_path / "r.sqlite", head, outcomes)
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as database:
        counts = "SELECT count(*), sum(status = 'failed'), (SELECT count(*) FROM runs) FROM nodules"
        assert database.execute(counts).fetchone() == (100, 2, 1)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    figures, left_out = bench_results(count=20, turns=1)
    assert [figure.name for figure in figures] == ["CSV", "JSON Lines", "JSON Lines with embeddings", "SQLite"]
    assert all(figure.seconds > 0 and figure.size > 1000 for figure in figures)
    sizes = {figure.name: figure.size for figure in figures}
    assert sizes["JSON Lines with embeddings"] > 5 * sizes["JSON Lines"]
    assert len(left_out) == 1 and left_out[0].startswith("Left out: Parquet")
    assert [row[0] for row in formats_table(figures).rows] == list(formats_plot(figures).lines[0].x) == list(sizes)
