"""The ledger on SQLite: one file for many jobs and processes; the only door to `sqlite3`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from bulksend.errors import JobLockedError, LedgerError, LedgerVersionError
from bulksend.ledger.base import (
    Change,
    Counts,
    GroupCommit,
    Intent,
    Invalid,
    JobRecord,
    Lease,
    Member,
    Scope,
    SendRecord,
    Transition,
)
from bulksend.ledger.lock import FileLock
from bulksend.model import JobState, State

__all__ = ["SqliteLedger"]

APPLICATION_ID = 0x62756C6B  # "bulk"
VERSION = 1
BUSY_TIMEOUT_S = 30.0
PAGE = 1000
CLOCK_SLACK_S = 10.0
"""How far in the future another process's leases can reach on fast endpoints; a clock that was set back shows as more."""

T = TypeVar("T")


@cache
def _queries() -> dict[str, str]:
    text = resources.files("bulksend.ledger").joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    return {name: statement.strip() for name, statement in zip(parts[1::2], parts[2::2], strict=True)}


class SqliteLedger:
    """A `Ledger` in one SQLite file, WAL, `synchronous=FULL`; statements run in the executor, never on the event loop.

    `wall` is the clock (seconds since the epoch). The executor must run one thing at a time; by default a thread.
    """

    def __init__(self, path: Path, *, executor: Executor | None = None, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self._wall = wall
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="bulksend-ledger")
        self._db: sqlite3.Connection | None = None
        self._locks: dict[int, FileLock] = {}
        self._commit = GroupCommit(lambda batch: self._run(partial(self._apply, batch)))

    async def _run(self, work: Callable[[], T]) -> T:
        def translated() -> T:
            try:
                return work()
            except sqlite3.Error as wrong:
                raise self._translate(wrong) from wrong
            except OSError as wrong:
                raise LedgerError(f"the ledger {self.path} cannot be written: {wrong.strerror}") from wrong

        return await asyncio.get_running_loop().run_in_executor(self._executor, translated)

    def _translate(self, wrong: sqlite3.Error) -> LedgerError:
        said = str(wrong)
        for needle, text in _PLAIN:
            if needle in said:
                return LedgerError(f"the ledger {self.path} {text}")
        return LedgerError(f"the ledger {self.path} failed: {said}")

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise LedgerError(f"the ledger {self.path} is not open")
        return self._db

    def _execute(self, query: str, /, **values: object) -> sqlite3.Cursor:
        return self._connection.execute(_queries()[query], values)

    # Opening and closing

    async def open(self, *, create: bool) -> bool:
        """Open the file, made with mode 0600 when it is new."""
        return await self._run(partial(self._open, create=create))

    def _open(self, *, create: bool) -> bool:
        if self.path.is_dir():
            raise LedgerError(f"the ledger {self.path} is a directory")
        if not self.path.exists():
            if not create:
                return False
            if not self.path.parent.is_dir():
                raise LedgerError(f"the ledger {self.path} cannot be made: there is no directory {self.path.parent}")
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            version = self._version(db)
            if version > VERSION:
                text = f"the ledger {self.path} has version {version}, from a newer bulksend; this one knows up to {VERSION}"
                raise LedgerVersionError(text)
            if version == 0 and not create:
                db.close()
                return False
            db.execute("PRAGMA synchronous = FULL")
            if create:
                db.execute("PRAGMA journal_mode = WAL")
            if version == 0:
                self._make(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return True

    def _version(self, db: sqlite3.Connection) -> int:
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application_id != APPLICATION_ID and (tables or version):
            raise LedgerError(f"{self.path} is a database of another program, not a ledger")
        return version

    def _make(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._version(db) == 0:  # nobody was quicker
                schema = resources.files("bulksend.ledger").joinpath("schema.sql").read_text("utf-8")
                for statement in re.sub(r"--.*", "", schema).split(";"):
                    if statement.strip():
                        db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    async def close(self) -> None:
        """Finish what is being committed, give locks back, close the file."""
        await self._commit.idle()
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()
        if self._db is not None:
            db, self._db = self._db, None
            await self._run(db.close)
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(wait=False)

    # Jobs

    def _lock(self, job_id: int) -> FileLock:
        return FileLock(self.path.with_name(f"{self.path.name}.job{job_id}.lock"))

    async def start_job(self, name: str, holder: str) -> tuple[JobRecord, int]:
        """Take the job's lock and mark it as running."""
        return await self._run(partial(self._start_job, name, holder))

    def _start_job(self, name: str, holder: str) -> tuple[JobRecord, int]:
        self._execute("add_job", name=name)
        job_id = self._execute("find_job", name=name).fetchone()[0]
        lock = self._lock(job_id)
        other = lock.acquire(holder)
        if other is not None:
            raise JobLockedError(f'the job "{name}" is being run by {other}; it is not run twice at a time')
        self._locks[job_id] = lock
        try:
            with self._transaction():
                before = self._read_job(self._execute("find_job", name=name).fetchone())
                turned = self._execute("recover", job_id=job_id, scope=Scope.SEND, now=self._wall()).rowcount
                self._execute("recover", job_id=job_id, scope=Scope.ACCOUNT, now=self._wall())
                self._execute("recovered", job_id=job_id, turned=turned)
                self._execute("start_job", job_id=job_id, holder=holder, now=self._wall())
        except BaseException:
            self._locks.pop(job_id).release()
            raise
        return before, turned

    async def end_job(
        self, job_id: int, state: JobState, summary: Mapping[str, object], *, counts_as_finish: bool
    ) -> None:
        """Record how the run ended; the lock goes back even when that fails."""
        await self._commit.idle()

        def end() -> None:
            try:
                with self._transaction():
                    values = {"state": state, "summary": json.dumps(summary), "now": self._wall()}
                    changed = self._execute("end_job", job_id=job_id, finished=counts_as_finish, **values).rowcount
                    if changed != 1:
                        raise LedgerError(f"the ledger {self.path} does not have job {job_id} as running")
            finally:
                self._locks.pop(job_id).release()

        await self._run(end)

    async def set_size(self, job_id: int, *, rows: int, sends: int) -> None:
        """Record how large the audience is."""
        await self._run(lambda: self._execute("set_size", job_id=job_id, rows=rows, sends=sends))

    async def find_job(self, name: str) -> JobRecord | None:
        """Return a job; whether it is still running is asked of its lock."""

        def find() -> JobRecord | None:
            row = self._execute("find_job", name=name).fetchone()
            return None if row is None else self._read_job(row)

        return await self._run(find)

    def _read_job(self, row: tuple[object, ...]) -> JobRecord:
        names = ("id", "name", "state", "started_at", "finished_at", "holder", "rows", "sends")
        values = dict(zip((*names, *Counts.__struct_fields__, "summary", "stop_requested"), row, strict=True))
        counts = {name: values.pop(name) for name in Counts.__struct_fields__}
        values |= {
            "counts": counts,
            "summary": json.loads(str(values["summary"])),
            "stop_requested": bool(values["stop_requested"]),
        }
        job = msgspec.convert(values, JobRecord)
        holder = job.holder if job.id in self._locks else self._lock(job.id).holder()
        state = JobState.INCOMPLETE if job.state is JobState.RUNNING and holder is None else job.state
        return msgspec.structs.replace(job, holder=holder, state=state)

    async def request_stop(self, name: str) -> bool:
        """Ask the running process to stop."""
        return await self._run(lambda: self._execute("request_stop", name=name).rowcount == 1)

    async def stop_requested(self, job_id: int) -> bool:
        """Say whether somebody asked."""
        return await self._run(lambda: bool(self._execute("stop_requested", job_id=job_id).fetchone()[0]))

    # Sends

    async def look_up(self, job_id: int, scope: Scope, keys: Sequence[str]) -> dict[str, SendRecord]:
        """Return the records of those keys that have one."""

        def look() -> dict[str, SendRecord]:
            rows = self._execute("look_up", job_id=job_id, scope=scope, keys=json.dumps(list(keys)))
            return {row[0]: _read_send(row) for row in rows}

        return await self._run(look)

    async def by_state(self, job_id: int, state: State) -> AsyncIterator[list[SendRecord]]:
        """Yield pages by key."""
        after = ""
        while True:
            values = {"job_id": job_id, "state": state, "after": after, "most": PAGE}
            page = await self._run(lambda: [_read_send(row) for row in self._execute("by_state", **values)])
            if not page:
                return
            after = page[-1].key
            yield page

    async def record(self, job_id: int, transition: Transition) -> None:
        """Make a transition with the next group commit."""
        await self._commit.add(job_id, transition)

    def _apply(self, batch: list[tuple[int, Transition]]) -> None:
        now = self._wall()
        intents, changes, invalid = [], [], []
        deltas: dict[int, list[int]] = {}
        for job_id, one in batch:
            delta = deltas.setdefault(job_id, [0] * len(_COUNTED))
            if isinstance(one, Intent):
                intents.append((job_id, one.scope, one.key, one.account, one.row, one.step, one.fingerprint, now))
                _count(delta, one.scope, None, State.SENDING)
            elif isinstance(one, Change):
                status = (one.ref, one.reason, one.status, one.repeats, now)
                changes.append((job_id, one.scope, one.key, one.frm, one.to, one.step, *status))
                _count(delta, one.scope, one.frm, one.to)
            else:
                invalid.append((job_id, one.key, one.account, one.row, one.fingerprint, one.reason, now))
                _count(delta, Scope.SEND, None, State.REJECTED)
        with self._transaction():
            self._guarded("intend", intents)
            self._guarded("change", changes)
            self._guarded("invalid", invalid)
            counted = [(job_id, *delta) for job_id, delta in deltas.items() if any(delta)]
            self._connection.executemany(_queries()["count"], counted)

    def _guarded(self, name: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run a transition for each row; raise when one of them was not in the state that it must come from."""
        if not rows:
            return
        if self._connection.executemany(_queries()[name], rows).rowcount != len(rows):
            scope_key = 1 if name == "invalid" else 2
            keys = ", ".join(str(row[scope_key]) for row in rows[:5])
            text = f"a send was not in the state that its change ({name}) starts from; among the keys {keys}"
            raise LedgerError(f"the ledger {self.path} refused a transition: {text}")

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)

    # Chunks

    async def members_of(self, job_id: int, keys: Sequence[str]) -> dict[str, Member]:
        """Return memberships by key."""

        def look() -> dict[str, Member]:
            rows = self._execute("members_of", job_id=job_id, keys=json.dumps(list(keys)))
            return {row[0]: Member(*row) for row in rows}

        return await self._run(look)

    async def add_members(self, job_id: int, members: Iterable[Member]) -> None:
        """Record memberships in one commit."""
        rows = [(job_id, member.key, member.chunk, member.number) for member in members]

        def add() -> None:
            with self._transaction():
                self._connection.executemany(_queries()["add_member"], rows)

        await self._run(add)

    async def last_chunk(self, job_id: int) -> int:
        """Return the highest chunk number."""
        return await self._run(lambda: int(self._execute("last_chunk", job_id=job_id).fetchone()[0]))

    async def open_members(self, job_id: int) -> AsyncIterator[list[Member]]:
        """Yield pages by chunk number and key."""
        number, key = 0, ""
        while True:
            values = {"job_id": job_id, "number": number, "key": key, "most": PAGE}
            page = await self._run(lambda: [Member(*row) for row in self._execute("open_members", **values)])
            if not page:
                return
            number, key = page[-1].number, page[-1].key
            yield page

    # Limits

    async def lease(self, identity: str, endpoint: str, *, tokens: int, rate_per_s: float) -> Lease:
        """Take the next tokens; durable, so that a restart remembers them."""

        def take() -> Lease:
            with self._transaction():
                now = self._wall()
                next_at, paused_at, paused_until = self._bucket(identity, endpoint)
                # A saved time that lies further ahead than leases can reach was saved before the clock was set back.
                next_at = min(next_at, now + max(CLOCK_SLACK_S, 20 / rate_per_s))
                if paused_at > now:
                    paused_until = now + (paused_until - paused_at)
                start = max(now, next_at, paused_until)
                end = start + tokens / rate_per_s
                self._set_bucket(identity, endpoint, end, min(paused_at, now), paused_until)
            return Lease(start, end, tokens)

        return await self._run(take)

    async def give_back(self, identity: str, endpoint: str, *, lease: Lease, unused: int) -> None:
        """Shorten the bucket by the lease's unused tail, unless somebody has leased behind it."""
        next_at = lease.end - (lease.end - lease.start) * unused / lease.tokens
        values = {"identity": identity, "endpoint": endpoint, "next_at": next_at, "end": lease.end}
        await self._run(lambda: self._execute("give_back", **values))

    async def pause(self, identity: str, endpoint: str, seconds: float) -> None:
        """Keep the later of two pauses."""

        def pause() -> None:
            with self._transaction():
                now = self._wall()
                next_at, _, paused_until = self._bucket(identity, endpoint)
                self._set_bucket(identity, endpoint, next_at, now, max(paused_until, now + seconds))

        await self._run(pause)

    def _bucket(self, identity: str, endpoint: str) -> tuple[float, float, float]:
        row = self._execute("find_bucket", identity=identity, endpoint=endpoint).fetchone()
        return (0.0, 0.0, 0.0) if row is None else (row[0], row[1], row[2])

    def _set_bucket(self, identity: str, endpoint: str, next_at: float, paused_at: float, paused_until: float) -> None:
        values = {"next_at": next_at, "paused_at": paused_at, "paused_until": paused_until}
        self._execute("set_bucket", identity=identity, endpoint=endpoint, **values)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when anything goes wrong."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


_PLAIN = (
    ("disk is full", "cannot be written: the disk is full"),
    ("disk I/O error", "cannot be written: the disk reports an error (or is full)"),
    ("readonly", "cannot be written: it is read-only for this user"),
    ("unable to open", "cannot be opened: check its directory and permissions"),
    ("is locked", f"is locked by another program for more than {BUSY_TIMEOUT_S:.0f} s"),
    ("not a database", "is not a SQLite database"),
    ("malformed", "is damaged: restore it from a copy before the job goes on"),
)
_COUNTED = (State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.SENDING)


def _count(delta: list[int], scope: Scope, frm: State | None, to: State) -> None:
    if scope is not Scope.SEND:
        return
    if frm in _COUNTED:
        delta[_COUNTED.index(frm)] -= 1
    if to in _COUNTED:
        delta[_COUNTED.index(to)] += 1


def _read_send(row: tuple[object, ...]) -> SendRecord:
    values = dict(zip(SendRecord.__struct_fields__, row, strict=True))
    return msgspec.convert({**values, "refs": json.loads(str(values["refs"]))}, SendRecord)
