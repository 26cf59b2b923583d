"""The tables of a database of results, version by version."""

from __future__ import annotations

APPLICATION_ID = 0x4E445356  # "NDSV", in the file's header
VERSION = 1  # user_version; a later one may add tables and columns

# What makes a nodule the same: written again, its row is replaced.
KEY = ("pid", "series", "nodule_id", "center", "release")

SCHEMA = f"""
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,         -- one each time that results are written to this database
    release TEXT NOT NULL,           -- of the model that scored
    notice TEXT,                     -- what the release says of itself that must go with every number
    calibrated INTEGER NOT NULL,     -- 1 where the release has a calibration
    folds INTEGER NOT NULL,
    preprocessing TEXT NOT NULL,     -- version of the preprocessing
    worklist_columns TEXT NOT NULL,  -- JSON array: the worklist's columns in its order
    version TEXT NOT NULL,           -- of noduleserve
    written_at TEXT NOT NULL         -- UTC, ISO 8601
);
CREATE TABLE nodules (
    nodule INTEGER PRIMARY KEY,      -- number of the nodule in this database
    pid TEXT NOT NULL,               -- as the worklist has it
    series TEXT NOT NULL,            -- UID of the series that was read, or asked for, or "path:" and image_path
    nodule_id TEXT NOT NULL,         -- as the worklist has it
    center TEXT NOT NULL,            -- JSON array: x, y, z, LPS millimetres; or the cells, where they are no numbers
    release TEXT NOT NULL,           -- of the run, also where there is no score
    run INTEGER NOT NULL REFERENCES runs,  -- that wrote this row last
    row INTEGER NOT NULL,            -- of that run's worklist, from 0
    image_path TEXT NOT NULL,        -- as the worklist has it
    x REAL, y REAL, z REAL,          -- centre, LPS millimetres
    worklist TEXT NOT NULL,          -- JSON object: every column of the worklist's row
    status TEXT NOT NULL,            -- scored or failed
    ensemble REAL,
    calibrated_ensemble REAL,
    error_code TEXT,
    error TEXT,
    warnings TEXT,                   -- codes, separated by semicolons
    ct_series_uid TEXT,              -- of the CT that was read
    outcome_at TEXT,                 -- UTC, ISO 8601
    UNIQUE ({", ".join(KEY)})
);
CREATE INDEX nodules_by_run ON nodules (run, status);
CREATE INDEX nodules_by_calibrated_ensemble ON nodules (calibrated_ensemble);
CREATE INDEX nodules_by_ensemble ON nodules (ensemble);
CREATE TABLE folds (
    nodule INTEGER NOT NULL REFERENCES nodules ON DELETE CASCADE,
    fold INTEGER NOT NULL,           -- from 0
    raw REAL,
    calibrated REAL,
    PRIMARY KEY (nodule, fold)
) WITHOUT ROWID;
CREATE TABLE semantic_labels (
    label INTEGER PRIMARY KEY,
    feature TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (feature, value)
);
CREATE TABLE semantic_probabilities (
    nodule INTEGER NOT NULL REFERENCES nodules ON DELETE CASCADE,
    label INTEGER NOT NULL REFERENCES semantic_labels,
    probability REAL,
    PRIMARY KEY (nodule, label)
) WITHOUT ROWID;
CREATE VIEW semantic AS
    SELECT nodule, feature, value, probability FROM semantic_probabilities JOIN semantic_labels USING (label);
CREATE VIEW last_run AS
    SELECT * FROM nodules WHERE run = (SELECT max(run) FROM runs);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""

_VALUES = (
    *("run", "row", "image_path", "x", "y", "z", "worklist", "status", "ensemble", "calibrated_ensemble"),
    *("error_code", "error", "warnings", "ct_series_uid", "outcome_at"),
)
NODULE_COLUMNS = (*KEY, *_VALUES)
UPSERT_NODULE = (
    f"INSERT INTO nodules ({', '.join(NODULE_COLUMNS)}) VALUES ({', '.join('?' * len(NODULE_COLUMNS))}) "
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _VALUES)}"
)
FIND_NODULE = f"SELECT nodule FROM nodules WHERE {' AND '.join(f'{name} = ?' for name in KEY)}"
INSERT_RUN = (
    "INSERT INTO runs (release, notice, calibrated, folds, preprocessing, worklist_columns, version, written_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
