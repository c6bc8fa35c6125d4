"""Older ledgers: brought to this version as a whole or not at all, with all that stands in them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bulksend.errors import LedgerError, LedgerVersionError
from bulksend.ledger import database
from bulksend.ledger.base import Change, Counts, Intent, JobRecord, Member, Scope, SegmentRecord, SendRecord
from bulksend.model import JobState, State
from tests.ledger.old import LATEST, NOW, TABLES, content, make_old, opened, rows, shape, version


def test_all_that_stands_in_an_old_ledger_stands_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    before = content(path)
    assert [len(before[table]) for table in TABLES] == [2, 7, 4, 2]

    async def main() -> None:
        ledger = await opened(path, create=True)
        assert version(path) == LATEST
        assert content(path) == before

        spring, summer = await ledger.find_job("spring"), await ledger.find_job("summer")
        assert summer is not None
        assert spring == JobRecord(
            id=1,
            name="spring",
            state=JobState.DONE,
            started_at=100.5,
            finished_at=160.25,
            holder=None,
            rows=300,
            sends=3,
            vendor="insider https://real",
            counts=Counts(accepted=2, rejected=1),
            summary={"job": "spring"},
            stop_requested=False,
        )
        assert (summer.state, summer.counts) == (JobState.INCOMPLETE, Counts(unknown=1, sending=1))
        refs = ("25696", "169")
        record = SendRecord("chunk-1", "default", 1, 1, State.ACCEPTED, 2, 1, 11, refs, None, 200, 102)
        assert (await ledger.look_up(1, Scope.SEND, ["chunk-1", "create"])) == {"chunk-1": record}
        assert set(await ledger.look_up(1, Scope.ACCOUNT, ["chunk-1", "create"])) == {"create"}
        assert [one.key async for page in ledger.by_state(1, State.REJECTED) for one in page] == ["chunk-3"]
        assert await ledger.members_of(1, ["x", "ü"]) == {
            "x": Member("x", "chunk-1", 1),
            "ü": Member("ü", "chunk-3", 3),
        }
        assert await ledger.last_chunk(1) == 3
        lease = await ledger.lease("insider|acme", "insider.launch", tokens=1, rate_per_s=100, delay_s=0)
        assert lease.start == NOW + 0.5
        lease = await ledger.lease("insider|acme", "insider.create", tokens=1, rate_per_s=0.5, delay_s=0)
        assert lease.start == NOW + 20

        # The old job goes on, and segments are known.
        job, turned = await ledger.start_job("summer", "the next")
        assert turned == 1
        await ledger.record(job.id, Intent(Scope.SEND, "b", "blue", 2, 0, 8))
        await ledger.record(job.id, Change(Scope.SEND, "b", State.SENDING, State.ACCEPTED, 0, ref="1"))
        assert await ledger.find_segment("stream|acme", "vip") is None
        await ledger.finish_segment("stream|acme", "vip", desired=5, fingerprint="f", job="summer")
        assert await ledger.find_segment("stream|acme", "vip") == SegmentRecord(5, "f", "summer", NOW)
        assert [await ledger.use_override("stream|acme", "vip", hash="h", by=one) for one in "12"] == [True, False]
        await ledger.save_history(job.id, 5.0, "{}")
        name = await ledger.id()
        await ledger.lock_segment("stream|acme", "vip", "the next")
        await ledger.close()

        again = await opened(path, create=True)
        assert await again.find_segment("stream|acme", "vip") == SegmentRecord(5, "f", "summer", NOW)
        assert (await again.overrides("stream|acme", "vip"), await again.id()) == (1, name)
        assert await again.histories(job.id) == ["{}"]
        await again.close()

    asyncio.run(main())


def test_one_who_only_reads_migrates_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    before = content(path)

    async def main() -> None:
        ledger = await opened(path, create=False)
        assert await ledger.find_segment("stream|acme", "vip") is None
        await ledger.close()

    asyncio.run(main())
    assert version(path) == LATEST
    assert content(path) == before


def test_a_migrated_ledger_has_the_shape_of_a_new_one(tmp_path: Path) -> None:
    make_old(tmp_path / "old.db")
    old = shape(tmp_path / "old.db")

    async def main() -> None:
        for name in ("old.db", "new.db"):
            await (await opened(tmp_path / name, create=True)).close()

    asyncio.run(main())
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")
    made = {"segment", "override", "history", "sqlite_autoindex_history_1", "ledger", "audit", "audit_job"}
    assert set(shape(tmp_path / "new.db")) - set(old) == made
    names = {rows(tmp_path / name, "SELECT id FROM ledger")[0][0] for name in ("old.db", "new.db")}
    assert len(names) == 2
    assert all(len(one) == 32 for one in names)
    for pragma in ("application_id", "user_version", "journal_mode"):
        assert rows(tmp_path / "old.db", f"PRAGMA {pragma}") == rows(tmp_path / "new.db", f"PRAGMA {pragma}")


def test_a_migration_that_fails_half_way_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    before, old = content(path), shape(path)
    steps = database._steps(1)
    assert len(steps) == 8
    # After everything that changes the file.
    monkeypatch.setattr(database, "_steps", lambda _version: [*steps, "DELETE FROM member", "SELECT nonsense"])

    async def main() -> None:
        with pytest.raises(LedgerError, match="nonsense"):
            await opened(path, create=True)
        assert (version(path), content(path), shape(path)) == (1, before, old)
        monkeypatch.undo()
        await (await opened(path, create=True)).close()

    asyncio.run(main())
    assert (version(path), content(path)) == (LATEST, before)


def test_an_older_process_that_has_the_ledger_open_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        change = "UPDATE send SET state = 'accepted' WHERE job_id = 2 AND key = ? AND state = 'sending'"
        assert older.execute(change, ("nobody",)).rowcount == 0

        async def main() -> None:
            ledger = await opened(path, create=False)
            assert older.execute(change, ("c",)).rowcount == 1
            assert (await ledger.look_up(2, Scope.SEND, ["c"]))["c"].state is State.ACCEPTED
            await ledger.close()

        asyncio.run(main())


# Two at a time

OPENER = """
import asyncio, sys
from pathlib import Path
from bulksend.ledger.database import Database
from bulksend.ledger.sqlite import SqliteLedger

version = Database._version

def told(self, db):
    print(found := version(self, db), flush=True)
    return found

Database._version = told

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    try:
        await ledger.open(create=sys.argv[2] == "create")
        accepted = (await ledger.find_job("spring")).counts.accepted
        print(accepted, await ledger.use_override("i", "s", hash="h", by=sys.argv[3]))
    except Exception as wrong:
        print(type(wrong).__name__, wrong)
    finally:
        await ledger.close()

asyncio.run(main())
"""


def open_while_locked(
    path: Path, create: list[bool], before_unlock: Callable[[sqlite3.Connection], object]
) -> list[str]:
    """Let processes find version 1, each, before any of them can write; returns what they say afterwards."""
    processes = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            for number, one in enumerate(create):
                command = [sys.executable, "-c", OPENER, str(path), "create" if one else "read", str(number)]
                processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "1\n"
            before_unlock(db)
            db.execute("COMMIT")
            return [process.communicate(timeout=60)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate(timeout=20)


@pytest.mark.parametrize("create", [[True, True], [False, True], [False, False]])
def test_of_two_processes_that_migrate_at_once_one_waits_and_finds_it_done(create: list[bool], tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    before = content(path)
    said = open_while_locked(path, create, lambda _db: None)
    # What each found once it could write; what it read; and whether it was the first to use the override.
    found, first = zip(*(one.splitlines() for one in said), strict=True)
    assert sorted(found) == ["1", str(LATEST)]
    assert sorted(first) == ["2 False", "2 True"]
    assert (version(path), content(path)) == (LATEST, before)


def test_a_ledger_that_a_newer_bulksend_migrates_meanwhile_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_old(path)
    old = shape(path)
    (said,) = open_while_locked(path, [True], lambda db: db.execute("PRAGMA user_version = 99"))
    assert said.startswith(LedgerVersionError.__name__)
    assert "version 99, from a newer bulksend" in said
    assert (version(path), shape(path)) == (99, old)


# A file that may be read only

READER = """
import asyncio, os, sys
from pathlib import Path
from bulksend.errors import LedgerError
from bulksend.ledger.sqlite import SqliteLedger

async def read(path):
    ledger = SqliteLedger(Path(path))
    try:
        await ledger.open(create=False)
        print((await ledger.find_job("spring")).counts.accepted, await ledger.find_segment("i", "s"))
    except LedgerError as wrong:
        print(wrong)
    await ledger.close()

asyncio.run(read(sys.argv[1] + ".other"))  # reads what it needs of the package, which nobody else may be able to
if os.getuid() == 0:
    os.setuid(65534)
asyncio.run(read(sys.argv[1]))
"""


@pytest.mark.parametrize("old", [False, True], ids=["this version", "version 1"])
def test_a_ledger_that_may_only_be_read_is_read_when_it_is_of_this_version(old: bool) -> None:
    async def migrate(path: Path) -> None:
        await (await opened(path, create=True)).close()

    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # SQLite keeps its index of the log beside the ledger, also for a reader
        path = Path(folder) / "a.db"
        make_old(path)
        make_old(Path(f"{path}.other"))
        if not old:
            asyncio.run(migrate(path))
        path.chmod(0o444)
        command = [sys.executable, "-c", READER, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        other, said = done.stdout.splitlines()
        assert other == "2 None"
        if old:
            must = f"is of version 1 and must be brought to version {LATEST} before it can be read"
            assert said == f"the ledger {path.resolve()} {must}, but it is read-only for this user"
            if os.getuid() == 0:  # who could have written all the same
                assert version(path) == 1
        else:
            assert said == "2 None"
