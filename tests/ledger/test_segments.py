"""What the ledger promises of vendor segments: what was done last, an override once, one process at a time."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.errors import JobLockedError, LedgerError
from bulksend.ledger.base import SegmentRecord
from bulksend.ledger.lock import FileLock
from bulksend.ledger.sqlite import SqliteLedger
from tests.simulated_time import InlineExecutor

NOW = 1_800_000_000.0
STREAM = "stream|https://chat.stream-io-api.com|api_key=abc"
VIP = (STREAM, "vip")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def with_ledger(
    path: Path, check: Callable[[SqliteLedger], Coroutine[Any, Any, None]], clock: Callable[[], float] | None = None
) -> None:
    async def main() -> None:
        ledger = await opened(path, clock or Clock())
        try:
            await check(ledger)
        finally:
            await ledger.close()

    asyncio.run(main())


async def opened(path: Path, clock: Callable[[], float] | None = None) -> SqliteLedger:
    ledger = SqliteLedger(path, executor=InlineExecutor(), wall=clock or Clock())
    assert await ledger.open(create=True)
    return ledger


def locks(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("*.lock"))


# What was done


def test_a_segment_is_known_from_its_first_finish_on_and_the_last_one_stands(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.db", Clock()

    async def first(ledger: SqliteLedger) -> None:
        assert await ledger.find_segment(*VIP) is None
        assert await ledger.use_override(*VIP, hash="0badcafe", by="first")
        assert await ledger.find_segment(*VIP) is None, "an override is no reconciliation"
        await ledger.finish_segment(*VIP, desired=0, fingerprint="none", job="sync-1")
        assert await ledger.find_segment(*VIP) == SegmentRecord(0, "none", "sync-1", NOW)
        clock.now += 60
        await ledger.finish_segment(*VIP, desired=10_000_000, fingerprint="many", job="sync-2")

    async def second(ledger: SqliteLedger) -> None:
        record = SegmentRecord(desired=10_000_000, fingerprint="many", job="sync-2", finished_at=NOW + 60)
        assert await ledger.find_segment(*VIP) == record
        assert not await ledger.use_override(*VIP, hash="0badcafe", by="second"), "a finish keeps what was used"

    with_ledger(path, first, clock)
    with_ledger(path, second, clock)


def test_segments_of_one_name_at_two_accounts_are_two(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        other = ("usercom|https://acme.user.com|app=acme", "vip")
        await ledger.finish_segment(*VIP, desired=1, fingerprint="one", job="a")
        await ledger.finish_segment(*other, desired=2, fingerprint="two", job="b")
        await ledger.finish_segment(STREAM, "VIP", desired=3, fingerprint="three", job="c")
        found = [await ledger.find_segment(*one) for one in (VIP, other, (STREAM, "VIP"), (STREAM, "vi"))]
        assert [one and one.desired for one in found] == [1, 2, 3, None]

    with_ledger(tmp_path / "a.db", check)


def test_what_is_said_of_a_segment_is_committed_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        other = sqlite3.connect(path)
        await ledger.finish_segment(*VIP, desired=7, fingerprint="f", job="a")
        assert other.execute("SELECT desired FROM segment").fetchall() == [(7,)]
        await ledger.use_override(*VIP, hash="0badcafe", by="first")
        assert other.execute("SELECT hash, by, at FROM override").fetchall() == [("0badcafe", "first", NOW)]
        other.close()

    with_ledger(path, check)


def test_a_ledger_that_was_removed_or_closed_records_nothing_of_a_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def refuse_all(ledger: SqliteLedger, match: str) -> None:
        with pytest.raises(LedgerError, match=match):
            await ledger.finish_segment(*VIP, desired=1, fingerprint="f", job="a")
        with pytest.raises(LedgerError, match=match):
            await ledger.use_override(*VIP, hash="0badcafe", by="first")
        with pytest.raises(LedgerError, match=match):
            await ledger.lock_segment(*VIP, "the test")

    async def check(ledger: SqliteLedger) -> None:
        path.rename(tmp_path / "away.db")
        await refuse_all(ledger, "was removed or replaced")

    async def closed() -> None:
        ledger = await opened(tmp_path / "b.db")
        await ledger.close()
        await refuse_all(ledger, "is not open")
        await refuse_all(SqliteLedger(tmp_path / "c.db", executor=InlineExecutor()), "is not open")

    with_ledger(path, check)
    asyncio.run(closed())
    assert locks(tmp_path) == []


# Overrides


def test_an_override_counts_once_however_many_came_between(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        used = [await ledger.use_override(*VIP, hash=one, by=str(at)) for at, one in enumerate("abcabc")]
        assert used == [True] * 3 + [False] * 3
        assert await ledger.use_override(STREAM, "another", hash="a", by="0")
        assert await ledger.use_override("batch|elsewhere", "vip", hash="a", by="0")

    async def later(ledger: SqliteLedger) -> None:
        assert [await ledger.use_override(*VIP, hash=one, by="9") for one in "abcd"] == [False] * 3 + [True]
        assert await ledger.overrides(*VIP) == 4

    with_ledger(path, check)
    with_ledger(path, later)


def test_who_used_an_override_may_say_so_again_after_a_death(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        assert await ledger.use_override(*VIP, hash="a", by="mine")

    async def later(ledger: SqliteLedger) -> None:
        assert [await ledger.use_override(*VIP, hash="a", by=one) for one in ("mine", "other", "mine")] == [
            True,
            False,
            True,
        ]
        assert await ledger.overrides(*VIP) == 1, "it was one override"

    with_ledger(path, check)
    with_ledger(path, later)


def test_overrides_are_counted_by_segment(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        counts = []
        for where, one in ((VIP, "a"), (VIP, "b"), ((STREAM, "VIP"), "a"), (VIP, "a"), (("batch|x", "vip"), "c")):
            await ledger.use_override(*where, hash=one, by=f"by {len(counts)}")
            counts.append(await ledger.overrides(*VIP))
        assert counts == [1, 2, 2, 2, 2]
        assert await ledger.overrides("nobody's", "vip") == 0

    with_ledger(tmp_path / "a.db", check)


def test_of_many_that_use_one_override_at_once_one_may(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        ledgers = [SqliteLedger(path) for _ in range(8)]  # a connection and a thread each, as processes have
        for ledger in ledgers:
            await ledger.open(create=True)
        for one in "abcdefgh":
            won = await asyncio.gather(
                *(ledger.use_override(*VIP, hash=one, by=str(at)) for at, ledger in enumerate(ledgers))
            )
            assert won.count(True) == 1
        for ledger in ledgers:
            await ledger.close()

    asyncio.run(main())


# The lock


def test_a_second_reconciliation_is_told_who_is_at_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        await ledger.lock_segment(*VIP, "process 7 on host")
        await ledger.lock_segment(*VIP, "process 7 on host")  # the same again is fine
        (name,) = locks(tmp_path)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600

        other = await opened(path)
        with pytest.raises(JobLockedError) as caught:
            await other.lock_segment(*VIP, "process 8 on host")
        assert str(caught.value) == 'the segment "vip" is being brought into line by process 7 on host'
        await other.unlock_segment(*VIP)  # it has nothing to give back
        with pytest.raises(JobLockedError, match="process 7 on host"):
            await other.lock_segment(*VIP, "process 8 on host")
        # Other segments, and other accounts, are free.
        await other.lock_segment(STREAM, "another", "process 8 on host")
        await other.lock_segment("batch|elsewhere", "vip", "process 8 on host")
        await other.start_job("job", "process 8 on host")
        assert len(locks(tmp_path)) == 4

        await ledger.unlock_segment(*VIP)
        await other.lock_segment(*VIP, "process 8 on host")
        with pytest.raises(JobLockedError, match="process 8 on host"):
            await ledger.lock_segment(*VIP, "process 7 on host")
        await other.close()
        await ledger.lock_segment(*VIP, "process 7 on host")

    with_ledger(path, check)
    assert locks(tmp_path) == []


def test_a_ledger_reached_by_two_paths_has_one_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        await ledger.lock_segment(*VIP, "process 7 on host")
        (tmp_path / "link.db").symlink_to(path)
        other = await opened(tmp_path / "link.db")
        assert other.segment_folder(*VIP) == ledger.segment_folder(*VIP)
        with pytest.raises(JobLockedError):
            await other.lock_segment(*VIP, "process 8 on host")
        await other.close()

    with_ledger(path, check)


HOLDER = """
import asyncio, sys
from pathlib import Path
from bulksend.ledger.sqlite import SqliteLedger

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.open(create=True)
    await ledger.lock_segment(sys.argv[2], sys.argv[3], "the one that dies")
    print("holds", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_lock_of_a_segment_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), *VIP], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"

        async def held(ledger: SqliteLedger) -> None:
            with pytest.raises(JobLockedError, match='"vip" is being brought into line by the one that dies'):
                await ledger.lock_segment(*VIP, "the test")

        with_ledger(path, held)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        assert len(locks(tmp_path)) == 1, "the file stays; the lock does not"

        async def free(ledger: SqliteLedger) -> None:
            await ledger.lock_segment(*VIP, "the test")

        with_ledger(path, free)
        assert locks(tmp_path) == []
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_a_lock_that_is_taken_while_the_ledger_closes_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was cancelled, the thread was not: nobody but `close` can give the lock back."""
    path = tmp_path / "a.db"
    taken, go_on = Event(), Event()
    acquire = FileLock.acquire

    def held_up(lock: FileLock, holder: str) -> str | None:
        said = acquire(lock, holder)
        taken.set()
        assert go_on.wait(60)
        return said

    async def main() -> None:
        ledger = SqliteLedger(path)  # its own thread, as in life
        await ledger.open(create=True)
        monkeypatch.setattr(FileLock, "acquire", held_up)
        taking = asyncio.create_task(ledger.lock_segment(*VIP, "the test"))
        assert await asyncio.to_thread(taken.wait, 60)
        taking.cancel()
        closing = asyncio.create_task(ledger.close())
        await asyncio.wait([taking])
        await asyncio.sleep(0)  # close has begun, and waits for the thread
        go_on.set()
        await closing
        assert locks(tmp_path) == []
        monkeypatch.undo()
        other = await opened(path)
        await other.lock_segment(*VIP, "the next")
        await other.close()

    asyncio.run(main())


# Names of files


def test_the_folder_stands_beside_the_ledger_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    ledger = SqliteLedger(path, executor=InlineExecutor())
    folder = ledger.segment_folder(*VIP)
    # Written out: processes of two versions of bulksend must agree on the name of the lock.
    assert folder == tmp_path / "a.db.segment-58ebf4307f299038"
    assert list(tmp_path.iterdir()) == []

    async def check(ledger: SqliteLedger) -> None:
        await ledger.lock_segment(*VIP, "the test")
        assert locks(tmp_path) == [f"{folder.name}.lock"]
        assert not folder.exists()

    with_ledger(path, check)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["../x", "a/b", "\0", '","'])


@settings(max_examples=100, deadline=None)
@given(one=st.tuples(texts, texts), other=st.tuples(texts, texts))
def test_any_text_has_a_safe_name_of_its_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    ledger = SqliteLedger(Path("/nowhere/a.db"), executor=InlineExecutor())
    folder = ledger.segment_folder(*one)
    assert folder.parent == Path("/nowhere")
    assert folder.name.removeprefix("a.db.segment-").isalnum()
    assert (folder == ledger.segment_folder(*other)) == (one == other)
    assert ledger.segment_folder("a", "bc") != ledger.segment_folder("ab", "c")


@settings(max_examples=30, deadline=None)
@given(segment=texts)
def test_a_segment_of_any_name_is_locked_and_found_again(
    tmp_path_factory: pytest.TempPathFactory, segment: str
) -> None:
    async def check(ledger: SqliteLedger) -> None:
        await ledger.lock_segment(STREAM, segment, "the test")
        await ledger.finish_segment(STREAM, segment, desired=1, fingerprint="f", job="a")
        assert await ledger.find_segment(STREAM, segment) == SegmentRecord(1, "f", "a", NOW)
        assert await ledger.use_override(STREAM, segment, hash="a", by="mine")
        assert await ledger.overrides(STREAM, segment) == 1
        await ledger.unlock_segment(STREAM, segment)

    with_ledger(tmp_path_factory.mktemp("ledger") / "a.db", check)
