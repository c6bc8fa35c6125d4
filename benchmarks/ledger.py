"""Intents and results per second that a ledger makes durable, against a commit for each of them."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiosqlite
import msgspec
import uvloop

from benchmarks.disk import scratch
from benchmarks.frame import Aim, Result, Row
from bulksend.ledger.base import Change, Intent, Scope
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import JobState, State

__all__ = ["measure"]

_SENDERS = 512
_ROUNDS = 3
_LEAST = 20
_ABOUT = """\
Each send is an intent, durable before its call may leave, and then a result, durable as well: two records. bulksend's
SqliteLedger is given {count:,} sends as the engine gives them, {senders} at a time; one row each of {columns} columns.
The others make one table of the same columns and keys (WAL, synchronous=FULL), and an INSERT and later an UPDATE,
each with a commit of its own. All on the same disk; median of {rounds} runs, in turn."""
_TABLE = """
create table sends (
    job integer, scope text, key text, account text, row integer, step integer, state text, attempts integer,
    repeats integer, fingerprint integer, refs text, reason text, status integer, at real, primary key (job, scope, key)
) without rowid
"""
_COLUMNS = _TABLE.count(",") - 2
_INTENT = "insert into sends values (1, 'send', ?, 'default', ?, 0, 'sending', 1, 0, ?, null, null, null, ?)"
_RESULT = """
update sends set state = 'accepted', refs = ?, status = 200, at = ?
where job = 1 and scope = 'send' and key = ? and state = 'sending'
"""


class _Kept(msgspec.Struct, frozen=True):
    sends: int
    rate: float
    """Records per second."""
    cpu_us: float
    """Per record."""


def measure(*, full: bool) -> Result:
    """Let the ledger and its peers keep sends on one disk, in turn."""
    count, fewer = (500_000, 5_000) if full else (50_000, 1_000)
    one, shared, ours = "sqlite3, a commit each", "aiosqlite, one connection for all", "bulksend"
    one_at_a_time = "aiosqlite, a commit each"
    ways: dict[str, Callable[[Path], _Kept]] = {
        ours: partial(_timed, _bulksend, count),
        one: partial(_timed, _sqlite3, fewer),
        one_at_a_time: partial(_timed, partial(_aiosqlite, locked=True), fewer),
        shared: partial(_timed, partial(_aiosqlite, locked=False), count // 5),
    }
    kept: dict[str, list[_Kept]] = {name: [] for name in ways}
    with scratch() as folder:
        for turn in range(_ROUNDS):
            for number, (name, way) in enumerate(ways.items()):
                kept[name].append(way(folder / f"{turn}-{number}.db"))
        commits = _commit_s(folder / "commits.db")
    median = {name: sorted(runs, key=lambda run: run.rate)[_ROUNDS // 2] for name, runs in kept.items()}
    notes = {
        shared: "its tasks share transactions, so that each commit is many tasks'; each is durable when its commit"
        " returns, but an error of one would roll back what others have not committed yet"
    }
    rows = [
        Row(
            name,
            {
                "sends": run.sends,
                "records/s": run.rate,
                "bulksend is faster by": median[ours].rate / run.rate,
                "CPU µs/record": run.cpu_us,
            },
            notes.get(name, ""),
        )
        for name, run in median.items()
    ]
    about = _ABOUT.format(count=count, senders=_SENDERS, columns=_COLUMNS, rounds=_ROUNDS)
    return Result(
        "ledger",
        f"{about} One commit of one row takes {commits * 1e6:,.0f} µs here.",
        rows,
        [_aim(median[ours], name, median[name]) for name in (one, one_at_a_time)],
    )


def _aim(ours: _Kept, name: str, other: _Kept) -> Aim:
    times = ours.rate / other.rate
    return Aim(f"≥ {_LEAST} times {name}", times >= _LEAST, f"{times:.1f} times")


def _timed(way: Callable[[Path, int], float], count: int, path: Path) -> _Kept:
    """Keep so many sends by a way that returns how long it took, and see that all of them are there."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    took_s = way(path, count)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Kept(count, 2 * count / took_s, cpu_s / (2 * count) * 1e6)


def _bulksend(path: Path, count: int) -> float:
    async def keep() -> float:
        ledger = SqliteLedger(path)
        await ledger.open(create=True)
        job_id = (await ledger.start_job("speed", "the benchmark"))[0].id
        numbers = iter(range(count))

        async def sender() -> None:
            for number in numbers:
                key = f"s{number:07d}"
                await ledger.record(job_id, Intent(Scope.SEND, key, "default", number, 0, number))
                result = Change(Scope.SEND, key, State.SENDING, State.ACCEPTED, 0, ref=f"7/{number}", status=200)
                await ledger.record(job_id, result)

        began_s = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(_SENDERS)))
        took_s = time.perf_counter() - began_s
        job = await ledger.find_job("speed")
        assert job is not None
        assert job.counts.accepted == count
        await ledger.end_job(job_id, JobState.DONE, {}, counts_as_finish=True)
        await ledger.close()
        return took_s

    return uvloop.run(keep())


def _sqlite3(path: Path, count: int) -> float:
    db = sqlite3.connect(path)
    _prepare(db)
    began_s = time.perf_counter()
    for number in range(count):
        key = f"s{number:07d}"
        db.execute(_INTENT, (key, number, number, time.time()))
        db.commit()
        assert db.execute(_RESULT, (f"7/{number}", time.time(), key)).rowcount == 1
        db.commit()
    took_s = time.perf_counter() - began_s
    _check(db, count)
    db.close()
    return took_s


def _aiosqlite(path: Path, count: int, *, locked: bool) -> float:
    """Let the senders share a connection; `locked`: one transaction at a time, so that each commits what is its own."""

    async def keep() -> float:
        async with aiosqlite.connect(path) as db:
            await db.execute("pragma synchronous = full")
            turn = asyncio.Lock() if locked else asyncio.Semaphore(_SENDERS)
            numbers = iter(range(count))

            async def sender() -> None:
                for number in numbers:
                    key = f"s{number:07d}"
                    async with turn:
                        await db.execute(_INTENT, (key, number, number, time.time()))
                        await db.commit()
                    async with turn:
                        cursor = await db.execute(_RESULT, (f"7/{number}", time.time(), key))
                        assert cursor.rowcount == 1
                        await db.commit()

            began_s = time.perf_counter()
            await asyncio.gather(*(sender() for _ in range(_SENDERS)))
            return time.perf_counter() - began_s

    with sqlite3.connect(path) as db:
        _prepare(db)
    db.close()
    took_s = uvloop.run(keep())
    with sqlite3.connect(path) as db:
        _check(db, count)
    db.close()
    return took_s


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute(_TABLE)
    db.commit()


def _check(db: sqlite3.Connection, count: int) -> None:
    assert db.execute("select count(*) from sends where state = 'accepted'").fetchone()[0] == count


def _commit_s(path: Path) -> float:
    """Return the median time of a commit of one row, which is the disk's more than SQLite's."""
    db = sqlite3.connect(path)
    _prepare(db)
    took = []
    for number in range(200):
        db.execute(_INTENT, (str(number), number, number, 0.0))
        began_s = time.perf_counter()
        db.commit()
        took.append(time.perf_counter() - began_s)
    db.close()
    return statistics.median(took)
