"""Parquet: the results table with types, for pandas, DuckDB, Spark and the like."""

from __future__ import annotations

import datetime
from typing import Any

import noduleserve
from noduleserve.errors import ResultsError

from .base import Head, Written
from .columns import Kind, Value, table_columns, table_row
from .outcome import Outcome
from .whole_file import WholeFile

GROUP_ROWS = 4096  # of one row group, which is what memory holds


class ParquetWriter:
    """One Parquet file: text as UTF-8 strings, numbers as float32 and float64, missing ones null, never NaN.

    The file's own metadata have `noduleserve.release`, `noduleserve.notice`, `noduleserve.calibrated`,
    `noduleserve.folds`, `noduleserve.preprocessing` and `noduleserve.version`.
    """

    def __init__(self, target: str, head: Head) -> None:
        """Name the file.

        Raises:
            ResultsError: OUTPUT_NEEDS_PACKAGE.
        """
        _pyarrow()
        self.target, self._head, self._rows = target, head, 0
        self._whole = WholeFile(target)
        self._group: list[list[Value]] = []
        self._writer: Any = None

    def check(self) -> None:
        """See ResultsWriter."""
        self._whole.check()

    def begin(self) -> None:
        """See ResultsWriter."""
        import pyarrow.parquet

        self._schema = arrow_schema(self._head)
        file = self._whole.open()
        with self._whole.writing():
            self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """See ResultsWriter."""
        self._group.append(table_row(outcome, self._head, time))
        self._rows += 1
        if len(self._group) == GROUP_ROWS:
            self._write_group()

    def finish(self) -> Written:
        """See ResultsWriter."""
        if self._group:
            self._write_group()
        with self._whole.writing():
            self._writer.close()
        self._whole.commit()
        return Written(self.target, self._rows)

    def abort(self) -> None:
        """See ResultsWriter."""
        if self._writer is not None:
            self._writer.is_open = False  # its footer must not be written to a file that is gone
        self._whole.abort()

    def _write_group(self) -> None:
        import pyarrow as pa

        columns = zip(*self._group, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._group.clear()
        with self._whole.writing():
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema), row_group_size=GROUP_ROWS)


def arrow_schema(head: Head) -> Any:
    """The schema of the file, a pyarrow.Schema.

    Raises:
        ResultsError: OUTPUT_COLUMNS, OUTPUT_NEEDS_PACKAGE.
    """
    pa = _pyarrow()
    types: dict[Kind, Any] = {
        "text": pa.string(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "time": pa.timestamp("ms", tz="UTC"),
    }
    metadata = {
        "noduleserve.release": head.info.release,
        "noduleserve.notice": head.info.notice,
        "noduleserve.calibrated": str(head.info.calibrated).lower(),
        "noduleserve.folds": str(head.info.folds),
        "noduleserve.preprocessing": head.preprocessing,
        "noduleserve.version": noduleserve.__version__,
    }
    never_null = {*head.columns, "status"}
    fields = [pa.field(name, types[kind], nullable=name not in never_null) for name, kind in table_columns(head)]
    return pa.schema(fields, metadata=metadata)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ResultsError(
            "OUTPUT_NEEDS_PACKAGE",
            "Parquet is written with the Python package pyarrow, which is not installed.",
            "Run `pip install 'noduleserve[parquet]'`, or choose .csv, .jsonl or .sqlite.",
        ) from error
    return pyarrow
