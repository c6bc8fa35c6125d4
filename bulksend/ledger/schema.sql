-- The ledger of bulksend on SQLite, version 3. Of a row only its key and number stand here, never a payload.

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
-- token that nobody has leased yet falls due, and `leased_at` what the clock showed when that was written.
CREATE TABLE bucket (
    identity     TEXT NOT NULL,
    endpoint     TEXT NOT NULL,
    next_at      REAL NOT NULL,
    paused_at    REAL NOT NULL DEFAULT 0,
    paused_until REAL NOT NULL DEFAULT 0,
    leased_at    REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (identity, endpoint)
) STRICT, WITHOUT ROWID;

-- What the last reconciliation that came to its end left at a vendor: how many ids the desired list held, and which.
CREATE TABLE segment (
    identity    TEXT    NOT NULL,
    segment     TEXT    NOT NULL,
    desired     INTEGER NOT NULL,
    fingerprint TEXT    NOT NULL,
    job         TEXT    NOT NULL,
    finished_at REAL    NOT NULL,
    PRIMARY KEY (identity, segment)
) STRICT, WITHOUT ROWID;

-- Every difference whose guards a person overrode: an override counts once.
CREATE TABLE override (
    identity TEXT NOT NULL,
    segment  TEXT NOT NULL,
    hash     TEXT NOT NULL,
    by       TEXT NOT NULL,
    at       REAL NOT NULL,
    PRIMARY KEY (identity, segment, hash)
) STRICT, WITHOUT ROWID;

-- What happened over time in each of a job's last runs, as `observe/chronicle.py` writes it.
CREATE TABLE history (
    job_id   INTEGER NOT NULL REFERENCES job (id),
    began_at REAL    NOT NULL,
    data     TEXT    NOT NULL,
    PRIMARY KEY (job_id, began_at)
) STRICT;

-- Tells this ledger from every other, one that was deleted and made again included.
CREATE TABLE ledger (id TEXT NOT NULL) STRICT;
INSERT INTO ledger (id) VALUES (lower(hex(randomblob(16))));

-- Who settled which send outside of a run; nothing of it is ever changed or deleted.
CREATE TABLE audit (
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

CREATE INDEX audit_job ON audit (job_id, id);
