"""SQLite: the results of many nights in one database, which a query can use while the next night is written.

A night is one transaction with a rollback journal, not a write-ahead log: the database stays one file that may be
copied and may lie on a network share. Readers see the nights before until the transaction ends, and wait for the
moment in which it does.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import noduleserve
from noduleserve.errors import ResultsError

from .base import Head, Written, not_written
from .columns import ct_series_uid, iso, mean, numbers, table_columns, text_or_none, utf8, warning_codes
from .outcome import Outcome, Score
from .sqlite_schema import APPLICATION_ID, FIND_NODULE, INSERT_RUN, KEY, SCHEMA, UPSERT_NODULE, VERSION
from .whole_file import WholeFile

_HEADER = 100  # bytes
_CACHE_KIB = 64 * 1024  # what a transaction may change before readers have to wait for its end
_WAIT_S = 60.0  # for other programs that hold the database


class SqliteWriter:
    """Writes one night into a database: new nodules are added, those that are there already are replaced.

    A database that is not there yet is made as a part file and put in its place whole.
    """

    def __init__(self, target: str, head: Head, *, wait: float = _WAIT_S) -> None:
        """Name the database.

        Args:
            target: of the file.
            head: of the run.
            wait: seconds for other programs that hold the database.
        """
        self.target, self._head, self._wait, self._rows = target, head, wait, 0
        self._whole = WholeFile(target)
        self._connection: sqlite3.Connection | None = None
        self._nodules: set[int] = set()

    def check(self) -> None:
        """See ResultsWriter; of a database that is there, only its lock is tried."""
        if not _is_ours(self._whole.path, self.target):
            self._whole.check()
            return
        with self._told():
            connection = self._connect(new=False)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            finally:
                connection.close()

    def begin(self) -> None:
        """See ResultsWriter."""
        table_columns(self._head)  # a worklist that CSV could not hold is refused here too
        old = _is_ours(self._whole.path, self.target)
        if not old:
            old = self._begin_new()
        with self._told():
            connection = self._connection = self._connect(new=not old)
            if not old:
                connection.executescript(SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            self._run = connection.execute(INSERT_RUN, self._run_values()).lastrowid
            self._labels = [self._label(label) for label in self._head.info.labels]

    def add(self, outcome: Outcome, time: datetime.datetime | None = None) -> None:
        """See ResultsWriter."""
        key = nodule_key(outcome, self._head)
        with self._told():
            connection = self._open_connection()
            connection.execute(UPSERT_NODULE, (*key, *self._nodule_values(outcome, time)))
            (nodule,) = connection.execute(FIND_NODULE, key).fetchone()
            connection.execute("DELETE FROM folds WHERE nodule = ?", (nodule,))  # of an earlier night
            connection.execute("DELETE FROM semantic_probabilities WHERE nodule = ?", (nodule,))
            if outcome.score is not None:
                self._add_score(connection, nodule, outcome.score)
        self._nodules.add(nodule)
        self._rows += 1

    def _add_score(self, connection: sqlite3.Connection, nodule: int, score: Score) -> None:
        folds = enumerate(zip(numbers(score.raw), numbers(score.calibrated), strict=True))
        semantic = zip(self._labels, numbers(score.semantic), strict=True)
        fold_rows = [(nodule, fold, raw, calibrated) for fold, (raw, calibrated) in folds]
        connection.executemany("INSERT INTO folds VALUES (?, ?, ?, ?)", fold_rows)
        semantic_rows = [(nodule, label, probability) for label, probability in semantic]
        connection.executemany("INSERT INTO semantic_probabilities VALUES (?, ?, ?)", semantic_rows)

    def finish(self) -> Written:
        """See ResultsWriter."""
        with self._told():
            self._open_connection().execute("COMMIT")
        self._close()
        if self._whole.is_open:
            self._whole.commit()
        same = self._rows - len(self._nodules)
        rows = "1 row of the worklist names" if same == 1 else f"{same} rows of the worklist name"
        remark = f"{rows} a nodule that another row names too: they share one row of the database."
        return Written(self.target, self._rows, (remark,) if same else ())

    def abort(self) -> None:
        """See ResultsWriter."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
        self._close()
        self._whole.abort()

    def _begin_new(self) -> bool:
        """Take the part file of a new database; True where another run has put a database in its place meanwhile."""
        self._whole.open()
        if _is_ours(self._whole.path, self.target):
            self._whole.abort()
            return True
        for ending in ("-journal", "-wal"):  # SQLite would take it for one of the new database, and change that by it
            beside = self._whole.path.with_name(self._whole.path.name + ending)
            if beside.exists():
                raise not_written(self.target, f"there is no such database, but its {beside.name} is there")
        return False

    def _connect(self, *, new: bool) -> sqlite3.Connection:
        path = self._whole.part if new else self._whole.path
        # A new one is nobody else's, and its part file has a lock of its own.
        uri = f"{path.as_uri()}?mode=rw{'&nolock=1' if new else ''}"
        connection = sqlite3.connect(uri, uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False)
        try:
            if new:
                connection.execute("PRAGMA journal_mode = MEMORY")  # nothing to fall back to but no file at all
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_connection(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise not_written(self.target, str(error)) from None

    def _run_values(self) -> tuple[str | int | None, ...]:
        info = self._head.info
        columns = json.dumps(self._head.columns, ensure_ascii=False)
        now = iso(datetime.datetime.now(datetime.UTC))
        notice = text_or_none(info.notice)
        about = info.release, notice, int(info.calibrated), info.folds, self._head.preprocessing
        return *about, columns, noduleserve.__version__, now

    def _nodule_values(self, outcome: Outcome, time: datetime.datetime | None) -> tuple[str | int | float | None, ...]:
        nodule, score = outcome.nodule, outcome.score
        columns = {name: utf8(nodule.columns.get(name, "")) for name in self._head.columns}
        return (
            *(self._run, nodule.number, columns.get("image_path", utf8(str(nodule.image_path)))),
            *(nodule.center or (None, None, None)),
            *(json.dumps(columns, ensure_ascii=False), outcome.status),
            *((None, None) if score is None else (mean(score.raw), mean(score.calibrated))),
            *(text_or_none(outcome.error_code), text_or_none(outcome.error), warning_codes(outcome)),
            *(ct_series_uid(outcome), None if time is None else iso(time)),
        )

    def _label(self, label: str) -> int:
        feature, _, value = label.partition(".")
        connection = self._open_connection()
        connection.execute("INSERT OR IGNORE INTO semantic_labels (feature, value) VALUES (?, ?)", (feature, value))
        find = "SELECT label FROM semantic_labels WHERE feature = ? AND value = ?"
        (number,) = connection.execute(find, (feature, value)).fetchone()
        return int(number)


def nodule_key(outcome: Outcome, head: Head) -> tuple[str, ...]:
    """What makes a nodule the same from night to night, in the order of `KEY`."""
    nodule = outcome.nodule
    path = nodule.columns.get("image_path", str(nodule.image_path))
    series = ct_series_uid(outcome) or nodule.series_uid or f"path:{path}"
    if nodule.center is None:
        # "cell:" keeps such a row from replacing one whose numbers are written the same
        center = ["cell:" + nodule.columns.get(name, "") for name in ("coordX", "coordY", "coordZ")]
    else:
        center = [repr(float(millimetres) + 0.0) for millimetres in nodule.center]  # + 0.0: there is no -0.0
    release = outcome.score.release if outcome.score else head.info.release
    key = nodule.pid, series, nodule.nodule_id, json.dumps(center, ensure_ascii=False), release
    assert len(key) == len(KEY)
    return tuple(map(utf8, key))


def _is_ours(path: Path, target: str) -> bool:
    """Whether a file is a database of results; False where there is none, or an empty one.

    Reads the file's header itself, since SQLite might change the file on opening it.

    Raises:
        ResultsError: OUTPUT_FOREIGN, OUTPUT_NEWER, OUTPUT_NOT_WRITTEN.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise not_written(target, error.strerror) from None
    if not header:
        return False
    version, application = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    if not header.startswith(b"SQLite format 3\0") or application != APPLICATION_ID:
        raise ResultsError(
            "OUTPUT_FOREIGN",
            f"{target} is no database that noduleserve wrote; it is left as it is.",
            "Name another file.",
        )
    if version > VERSION:
        raise ResultsError(
            "OUTPUT_NEWER",
            f"{target} has version {version} of the tables; this noduleserve writes version {VERSION}.",
            "Install the newer noduleserve, or name another file.",
        )
    return True
