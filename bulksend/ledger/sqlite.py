"""The ledger on SQLite: one file for many jobs and processes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bulksend.errors import JobLockedError, LedgerError
from bulksend.ledger.audit import Audit
from bulksend.ledger.base import (
    AuditRecord,
    Counts,
    JobRecord,
    Lease,
    Member,
    Scope,
    SegmentRecord,
    SendRecord,
    Transition,
)
from bulksend.ledger.buckets import Asked, Buckets, GiveBack, Pause, Take
from bulksend.ledger.damage import check_whole
from bulksend.ledger.database import Database
from bulksend.ledger.group import GroupCommit
from bulksend.ledger.lock import FileLock
from bulksend.ledger.lookups import LookUps
from bulksend.ledger.segments import Segments
from bulksend.ledger.sends import Sends
from bulksend.model import JobState, State

__all__ = ["SqliteLedger"]

PAGE = 1000
HISTORIES_MOST = 20


class SqliteLedger:
    """A `Ledger` in one SQLite file, WAL, `synchronous=FULL`; statements run in the executor, never on the event loop.

    `wall` is the clock (seconds since the epoch). The executor must run one thing at a time; by default a thread.
    """

    def __init__(self, path: Path, *, executor: Executor | None = None, wall: Callable[[], float] = time.time) -> None:
        # One ledger has one set of lock files, by whatever path it is reached.
        self.path = path = path.resolve()
        self._wall = wall
        self._db = Database(path, executor)
        self._locks: dict[int, FileLock] = {}
        self._segments = Segments(self._db, wall)
        self._audit = Audit(self._db)
        self._sends = Sends(self._db)
        self._look_ups = LookUps(lambda *asked: self._db.run(partial(self._sends.look_up, *asked)))
        self._buckets = Buckets(self._db)
        self._commit = GroupCommit[Asked, Lease | None](
            lambda transitions, asked: self._db.run(partial(self._apply, transitions, asked))
        )

    async def open(self, *, create: bool) -> bool:
        """Open the file, made with mode 0600 when it is new, migrated when it is older, whoever opens it."""
        return await self._db.run(partial(self._db.open, create=create))

    async def close(self) -> None:
        """Finish what is being committed, close the file, give locks back."""
        await self._commit.idle()
        try:
            await self._db.close()
        finally:
            # Last: what was under way in the executor, though its caller is gone, may have taken one.
            while self._locks:
                self._locks.popitem()[1].release()
            self._segments.unlock_all()

    async def id(self) -> str:
        """Return the ledger's own name."""
        return await self._db.run(lambda: str(self._db.execute("ledger_id").fetchone()[0]))

    # Jobs

    def _lock(self, job_id: int) -> FileLock:
        return FileLock(self.path.with_name(f"{self.path.name}.job{job_id}.lock"))

    async def start_job(
        self, name: str, holder: str, *, vendor: str | None = None, is_run: bool = True
    ) -> tuple[JobRecord, int]:
        """Take the job's lock and mark it as running."""
        return await self._db.run(partial(self._start_job, name, holder, vendor, is_run=is_run))

    def _start_job(self, name: str, holder: str, vendor: str | None, *, is_run: bool) -> tuple[JobRecord, int]:
        self._db.execute("add_job", name=name)
        job_id = self._db.execute("find_job", name=name).fetchone()[0]
        lock = self._lock(job_id)
        other = lock.acquire(holder)
        if other is not None:
            raise JobLockedError(f'the job "{name}" is being run by {other}; it is not run twice at a time')
        try:
            check_whole(self._db, job_id)
            with self._db.transaction():
                before = self._read_job(self._db.execute("find_job", name=name).fetchone(), held=True)
                has_sends = self._db.execute("has_sends", job_id=job_id).fetchone()[0]
                if vendor is not None and before.vendor not in (None, vendor) and has_sends:
                    text = f'the job "{name}" was sent to {before.vendor} before, now it names {vendor}'
                    raise LedgerError(f"{text}; give it another name, or another ledger")
                turned = self._db.execute("recover", job_id=job_id, scope=Scope.SEND, now=self._wall()).rowcount
                self._db.execute("recover", job_id=job_id, scope=Scope.ACCOUNT, now=self._wall())
                self._db.execute("recovered", job_id=job_id, turned=turned)
                values = {"holder": holder, "vendor": vendor, "is_run": is_run, "now": self._wall()}
                self._db.execute("start_job", job_id=job_id, **values)
        except BaseException:
            lock.release()
            raise
        self._locks[job_id] = lock
        return before, turned

    async def end_job(
        self, job_id: int, state: JobState, summary: Mapping[str, object], *, counts_as_finish: bool
    ) -> None:
        """Record how the run ended; the lock goes back even when that fails."""
        await self._commit.idle()

        def end() -> None:
            try:
                with self._db.transaction():
                    values = {"state": state, "summary": json.dumps(summary), "now": self._wall()}
                    changed = self._db.execute("end_job", job_id=job_id, finished=counts_as_finish, **values).rowcount
                    if changed != 1:
                        raise LedgerError(f"the ledger {self.path} does not have job {job_id} as running")
            finally:
                self._locks.pop(job_id).release()

        await self._db.run(end)

    async def set_size(self, job_id: int, *, rows: int, sends: int) -> None:
        """Record how large the audience is."""
        await self._db.run(lambda: self._db.execute("set_size", job_id=job_id, rows=rows, sends=sends))

    async def save_summary(self, job_id: int, summary: Mapping[str, object]) -> None:
        """Record the numbers so far."""
        text = json.dumps(summary)
        await self._db.run(lambda: self._db.execute("save_summary", job_id=job_id, summary=text))

    async def save_history(self, job_id: int, began_at: float, data: str) -> None:
        """Keep a run's history."""

        def save() -> None:
            with self._db.transaction():
                self._db.execute("save_history", job_id=job_id, began_at=began_at, data=data)
                self._db.execute("forget_history", job_id=job_id, most=HISTORIES_MOST)

        await self._db.run(save)

    async def histories(self, job_id: int) -> list[str]:
        """Return the histories of the job's runs."""
        rows = await self._db.run(lambda: self._db.execute("histories", job_id=job_id).fetchall())
        return [str(row[0]) for row in rows]

    def commit_time(self) -> tuple[int, float]:
        """Return the group commits so far."""
        return self._commit.commits, self._commit.took_s

    async def find_job(self, name: str) -> JobRecord | None:
        """Return a job; whether it is still running is asked of its lock."""

        def find() -> JobRecord | None:
            row = self._db.execute("find_job", name=name).fetchone()
            return None if row is None else self._read_job(row)

        return await self._db.run(find)

    def _read_job(self, row: tuple[object, ...], *, held: bool = False) -> JobRecord:
        """Read a job; with `held`, its lock is ours, and nobody runs it yet."""
        names = ("id", "name", "state", "started_at", "finished_at", "holder", "rows", "sends", "vendor")
        values = dict(zip((*names, *Counts.__struct_fields__, "summary", "stop_requested"), row, strict=True))
        counts = {name: values.pop(name) for name in Counts.__struct_fields__}
        values |= {
            "counts": counts,
            "summary": json.loads(str(values["summary"])),
            "stop_requested": bool(values["stop_requested"]),
        }
        job = msgspec.convert(values, JobRecord)
        holder = None if held else job.holder if job.id in self._locks else self._lock(job.id).holder()
        state = JobState.INCOMPLETE if job.state is JobState.RUNNING and holder is None else job.state
        return msgspec.structs.replace(job, holder=holder, state=state)

    async def request_stop(self, name: str) -> bool:
        """Ask the running process to stop."""
        return await self._db.run(lambda: self._db.execute("request_stop", name=name).rowcount == 1)

    async def stop_requested(self, job_id: int) -> bool:
        """Say whether somebody asked."""

        def ask() -> bool:
            self._db.check_file()
            return bool(self._db.execute("stop_requested", job_id=job_id).fetchone()[0])

        return await self._db.run(ask)

    # Sends

    async def look_up(self, job_id: int, scope: Scope, keys: Sequence[str]) -> dict[str, SendRecord]:
        """Return the records of those keys that have one."""
        return await self._look_ups.ask(job_id, scope, keys)

    async def look_up_in(self, job_id: int, keys: Sequence[str], states: Collection[State]) -> dict[str, SendRecord]:
        """Return the records of those sends that are in one of the states."""
        return await self._db.run(partial(self._sends.look_up_in, job_id, keys, states))

    async def of_accounts(self, job_id: int) -> list[SendRecord]:
        """Return what was made once per account."""
        return await self._db.run(partial(self._sends.of_accounts, job_id))

    async def audit(self, job_id: int) -> AsyncIterator[list[AuditRecord]]:
        """Yield pages in the order of writing."""
        after = 0
        while page := await self._db.run(partial(self._audit.page, job_id, after, PAGE)):
            after = page[-1][0]
            yield [one for _, one in page]

    async def by_state(self, job_id: int, state: State) -> AsyncIterator[list[SendRecord]]:
        """Yield pages by key."""
        after = ""
        while page := await self._db.run(partial(self._sends.page, job_id, state, after, PAGE)):
            after = page[-1].key
            yield page

    def record(self, job_id: int, transition: Transition) -> Awaitable[None]:
        """Make a transition with the next group commit."""
        return self._commit.add(job_id, transition)

    def _apply(self, transitions: Sequence[tuple[int, Transition]], asked: Sequence[Asked]) -> list[Lease | None]:
        """Make all of a group commit in one transaction, the leases last: their time runs from then on."""
        self._db.check_file()
        with self._db.transaction():
            self._sends.apply(transitions, self._wall())
            return self._buckets.apply(asked, self._wall())

    # Chunks

    async def members_of(self, job_id: int, keys: Sequence[str]) -> dict[str, Member]:
        """Return memberships by key."""

        def look() -> dict[str, Member]:
            rows = self._db.execute("members_of", job_id=job_id, keys=json.dumps(list(keys)))
            return {row[0]: Member(*row) for row in rows}

        return await self._db.run(look)

    async def add_members(self, job_id: int, members: Iterable[Member]) -> None:
        """Record memberships in one commit."""
        rows = [(job_id, member.key, member.chunk, member.number) for member in members]

        def add() -> None:
            with self._db.transaction():
                self._db.execute_many("add_member", rows)

        await self._db.run(add)

    async def last_chunk(self, job_id: int) -> int:
        """Return the highest chunk number."""
        return await self._db.run(lambda: int(self._db.execute("last_chunk", job_id=job_id).fetchone()[0]))

    async def open_members(self, job_id: int, state: State) -> AsyncIterator[list[Member]]:
        """Yield pages by chunk number and key."""
        number, key = 0, ""
        while True:
            query = partial(
                self._db.execute, "open_members", job_id=job_id, state=state, number=number, key=key, most=PAGE
            )
            page = [Member(*row) for row in await self._db.run(partial(_all, query))]
            if not page:
                return
            number, key = page[-1].number, page[-1].key
            yield page

    # Limits

    async def lease(self, identity: str, endpoint: str, *, tokens: int, rate_per_s: float, delay_s: float) -> Lease:
        """Take the next tokens with the next group commit."""
        lease = await self._commit.ask(Take(identity, endpoint, tokens, rate_per_s, delay_s))
        assert lease is not None
        return lease

    async def give_back(self, identity: str, endpoint: str, *, lease: Lease, unused: int) -> None:
        """Return a lease's unused tail with the next group commit."""
        await self._commit.ask(GiveBack(identity, endpoint, lease, unused))

    async def pause(self, identity: str, endpoint: str, seconds: float) -> None:
        """Keep the later of two pauses with the next group commit."""
        await self._commit.ask(Pause(identity, endpoint, seconds))

    # Segments

    async def find_segment(self, identity: str, segment: str) -> SegmentRecord | None:
        """Return what the last reconciliation left."""
        return await self._db.run(partial(self._segments.find, identity, segment))

    async def finish_segment(self, identity: str, segment: str, *, desired: int, fingerprint: str, job: str) -> None:
        """Record a reconciliation that came to its end."""
        finish = partial(self._segments.finish, desired=desired, fingerprint=fingerprint, job=job)
        await self._db.run(partial(finish, identity, segment))

    async def use_override(self, identity: str, segment: str, *, hash: str, by: str) -> bool:  # noqa: A002
        """Record the hash; False when another used it."""
        return await self._db.run(partial(self._segments.use_override, identity, segment, hash=hash, by=by))

    async def overrides(self, identity: str, segment: str) -> int:
        """Return how many overrides were used."""
        return await self._db.run(partial(self._segments.overrides, identity, segment))

    async def lock_segment(self, identity: str, segment: str, holder: str) -> None:
        """Take the lock beside the ledger."""
        await self._db.run(partial(self._segments.lock, identity, segment, holder))

    async def unlock_segment(self, identity: str, segment: str) -> None:
        """Give it back."""
        await self._db.run(partial(self._segments.unlock, identity, segment))

    def segment_folder(self, identity: str, segment: str) -> Path:
        """Return a path beside the ledger; its lock has the same name with `.lock` behind it."""
        return self._segments.folder(identity, segment)


def _all(query: Callable[[], Iterable[tuple[object, ...]]]) -> list[tuple[Any, ...]]:
    return list(query())
