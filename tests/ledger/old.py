"""A ledger of version 1 with something of everything in it, and what stands in any ledger."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bulksend.ledger.sqlite import SqliteLedger
from tests.simulated_time import InlineExecutor

NOW = 1_800_000_000.0
LATEST = 3

VERSION_1 = """
-- The ledger of bulksend on SQLite, version 1. Of a row only its key and number stand here, never a payload.

CREATE TABLE job (
    id             INTEGER PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    state          TEXT    NOT NULL CHECK (state IN ('running', 'done', 'incomplete', 'stopped', 'refused')),
    holder         TEXT,
    vendor         TEXT,
    started_at     REAL,
    finished_at    REAL,
    rows           INTEGER NOT NULL DEFAULT 0,
    sends          INTEGER NOT NULL DEFAULT 0,
    -- Kept by every commit that changes a send, so that status never counts ten million rows.
    accepted       INTEGER NOT NULL DEFAULT 0,
    rejected       INTEGER NOT NULL DEFAULT 0,
    unknown        INTEGER NOT NULL DEFAULT 0,
    sending        INTEGER NOT NULL DEFAULT 0,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    summary        TEXT    NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE send (
    job_id      INTEGER NOT NULL REFERENCES job (id),
    scope       TEXT    NOT NULL CHECK (scope IN ('send', 'account')),
    key         TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    row         INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'sending', 'accepted', 'rejected', 'unknown')),
    attempts    INTEGER NOT NULL,
    repeats     INTEGER NOT NULL DEFAULT 0,
    fingerprint INTEGER NOT NULL,
    refs        TEXT    NOT NULL DEFAULT '[]',
    reason      TEXT,
    status      INTEGER,
    at          REAL    NOT NULL,
    PRIMARY KEY (job_id, scope, key)
) STRICT, WITHOUT ROWID;

-- Small at all times: what is in flight, and what a person may want to see.
CREATE INDEX send_open ON send (job_id, state, scope, key) WHERE state <> 'accepted';

CREATE TABLE member (
    job_id INTEGER NOT NULL REFERENCES job (id),
    key    TEXT    NOT NULL,
    chunk  TEXT    NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (job_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_number ON member (job_id, number, key, chunk);

-- One token bucket per account and endpoint, shared by every process on this ledger: `next_at` is when the next
-- token that nobody has leased yet falls due.
CREATE TABLE bucket (
    identity     TEXT NOT NULL,
    endpoint     TEXT NOT NULL,
    next_at      REAL NOT NULL,
    paused_at    REAL NOT NULL DEFAULT 0,
    paused_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (identity, endpoint)
) STRICT, WITHOUT ROWID;
"""

CONTENT = """
INSERT INTO job (id, name, state, holder, vendor, started_at, finished_at, rows, sends, accepted, rejected, unknown,
                 sending, stop_requested, summary)
VALUES (1, 'spring', 'done', NULL, 'insider https://real', 100.5, 160.25, 300, 3, 2, 1, 0, 0, 0, '{"job": "spring"}'),
       (2, 'summer', 'running', 'a process that died', NULL, 200, NULL, 4, 4, 0, 0, 1, 1, 1, '{}');

INSERT INTO send (job_id, scope, key, account, row, step, state, attempts, repeats, fingerprint, refs, reason, status,
                  at)
VALUES (1, 'account', 'create', 'default', 0, 1, 'accepted', 1, 0, 5, '["25696"]', NULL, 200, 101),
       (1, 'send', 'chunk-1', 'default', 1, 1, 'accepted', 2, 1, 11, '["25696", "169"]', NULL, 200, 102),
       (1, 'send', 'chunk-2', 'default', 2, 1, 'accepted', 1, 0, 12, '["170"]', NULL, 200, 103),
       (1, 'send', 'chunk-3', 'default', 3, 0, 'rejected', 1, 0, 13, '[]', 'too long', 400, 104),
       (2, 'send', 'a', 'blue', 1, 0, 'unknown', 1, 1, -7, '[]', 'a timeout', NULL, 201),
       (2, 'send', 'b', 'blue', 2, 0, 'pending', 1, 0, 8, '[]', 'HTTP 429', 429, 202),
       (2, 'send', 'c', 'blue', 3, 0, 'sending', 1, 0, 9, '[]', NULL, NULL, 203);

INSERT INTO member (job_id, key, chunk, number)
VALUES (1, 'x', 'chunk-1', 1), (1, 'y', 'chunk-1', 1), (1, 'z', 'chunk-2', 2), (1, 'ü', 'chunk-3', 3);

INSERT INTO bucket (identity, endpoint, next_at, paused_at, paused_until)
VALUES ('insider|acme', 'insider.launch', 1800000000.5, 0, 0),
       ('insider|acme', 'insider.create', 0, 1799999990, 1800000020);
"""
TABLES = ("job", "send", "member", "bucket")


def make_old(path: Path) -> None:
    """Make a ledger as version 1 made it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        schema = re.sub("--.*", "", VERSION_1)  # version 1 left them out too
        db.executescript(f"BEGIN; {schema}; {CONTENT}")
        db.execute("PRAGMA application_id = 1651862635")  # "bulk"
        db.execute("PRAGMA user_version = 1")
        db.commit()


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(statement).fetchall()


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in the columns that version 1 had."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(VERSION_1)
        columns = {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in TABLES}
    return {table: rows(path, f"SELECT {', '.join(columns[table])} FROM {table} ORDER BY 1, 2, 3") for table in TABLES}


def version(path: Path) -> int:
    return int(rows(path, "PRAGMA user_version")[0][0])


def shape(path: Path) -> dict[str, str | None]:
    """Return the statement that made each table and index."""
    found = rows(path, "SELECT name, sql FROM sqlite_schema")
    return {name: sql and " ".join(sql.split()) for name, sql in found}


async def opened(path: Path, *, create: bool) -> SqliteLedger:
    ledger = SqliteLedger(path, executor=InlineExecutor(), wall=lambda: NOW)
    assert await ledger.open(create=create)
    return ledger
