-- What makes an older ledger a new one: a line `-- version_N --`, what is new in it, and the statements that lead there
-- from version N - 1. Never changed once released; `schema.sql` is where all of them lead. A process of the version
-- before may be at work on the ledger meanwhile: what it reads and writes must stay.

-- version_2 --
-- Vendor segments that are brought into line with a desired list.
CREATE TABLE segment (
    identity    TEXT    NOT NULL,
    segment     TEXT    NOT NULL,
    desired     INTEGER NOT NULL,
    fingerprint TEXT    NOT NULL,
    job         TEXT    NOT NULL,
    finished_at REAL    NOT NULL,
    PRIMARY KEY (identity, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE override (
    identity TEXT NOT NULL,
    segment  TEXT NOT NULL,
    hash     TEXT NOT NULL,
    by       TEXT NOT NULL,
    at       REAL NOT NULL,
    PRIMARY KEY (identity, segment, hash)
) STRICT, WITHOUT ROWID;

-- What happened over time in each run, for reports.
CREATE TABLE history (
    job_id   INTEGER NOT NULL REFERENCES job (id),
    began_at REAL    NOT NULL,
    data     TEXT    NOT NULL,
    PRIMARY KEY (job_id, began_at)
) STRICT;

-- Tells this ledger from every other, one that was deleted and made again included.
CREATE TABLE ledger (id TEXT NOT NULL) STRICT;
INSERT INTO ledger (id) VALUES (lower(hex(randomblob(16))));

-- version_3 --
-- When the bucket's `next_at` was written: what tells a clock that was set back since.
ALTER TABLE bucket ADD COLUMN leased_at REAL NOT NULL DEFAULT 0;

-- Who settled which send outside of a run.
CREATE TABLE IF NOT EXISTS audit (
    id      INTEGER PRIMARY KEY,
    job_id  INTEGER NOT NULL REFERENCES job (id),
    key     TEXT    NOT NULL,
    row     INTEGER NOT NULL,
    account TEXT    NOT NULL,
    step    INTEGER NOT NULL,
    frm     TEXT    NOT NULL,
    became  TEXT    NOT NULL,
    reason  TEXT,
    by      TEXT    NOT NULL,
    host    TEXT    NOT NULL,
    at      REAL    NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS audit_job ON audit (job_id, id);
