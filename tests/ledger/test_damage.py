"""A ledger whose blocks were overwritten: a job begins only where every send of it is still found as it was."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bulksend.errors import LedgerError
from bulksend.ledger.base import Change, Intent, Scope, Transition
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import JobState, State
from tests.simulated_time import InlineExecutor

KEYS = [f"store-{number:05}" for number in range(1500)]
PAGE = 4096
TRIES = 60


async def finished(path: Path, keys: list[str]) -> None:
    """Leave a ledger with a job whose sends were all accepted."""
    ledger = SqliteLedger(path, executor=InlineExecutor())
    await ledger.open(create=True)
    job_id = (await ledger.start_job("sale", "the test"))[0].id
    for make in (_intent, _accepted):
        await asyncio.gather(*(ledger.record(job_id, make(key)) for key in keys))
    await ledger.end_job(job_id, JobState.DONE, {}, counts_as_finish=True)
    await ledger.close()


def _intent(key: str) -> Transition:
    return Intent(Scope.SEND, key, "default", 1, 0, 7)


def _accepted(key: str) -> Transition:
    return Change(Scope.SEND, key, State.SENDING, State.ACCEPTED, 0, ref="1")


async def would_be_sent(path: Path) -> list[str]:
    """Return the keys that the job's next run would send."""
    ledger = SqliteLedger(path, executor=InlineExecutor())
    await ledger.open(create=True)
    try:
        job_id = (await ledger.start_job("sale", "the next run"))[0].id
        known = await ledger.look_up(job_id, Scope.SEND, KEYS)
        return [key for key in KEYS if key not in known or known[key].state is State.PENDING]
    finally:
        await ledger.close()


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "whole.db"
    asyncio.run(finished(path, KEYS))
    return path


def rubbish(content: bytearray, at: int, size: int, dice: random.Random) -> None:
    content[at : at + size] = dice.randbytes(size)


def nothing(content: bytearray, at: int, size: int, dice: random.Random) -> None:
    content[at : at + size] = bytes(size)


def the_head(content: bytearray, at: int, size: int, dice: random.Random) -> None:
    content[at : at + size] = content[:size]


@pytest.mark.parametrize("statement", ["DELETE FROM job WHERE id = 1", "UPDATE job SET id = 7 WHERE id = 1"])
def test_a_job_that_is_missing_is_told(tmp_path: Path, whole: Path, statement: str) -> None:
    path = changed(whole, tmp_path, "INSERT INTO job (id, name, state) VALUES (9, 'other', 'done')", statement)
    with pytest.raises(LedgerError, match=r"a\.db is damaged: jobs are missing"):
        asyncio.run(would_be_sent(path))


@pytest.mark.parametrize("size", [512, PAGE])
@pytest.mark.parametrize("damage", [rubbish, nothing, the_head])
def test_a_block_that_was_overwritten_never_makes_a_send_go_out_again(
    whole: Path, tmp_path: Path, damage: Callable[[bytearray, int, int, random.Random], None], size: int
) -> None:
    dice, told = random.Random(size), 0
    for number in range(TRIES):
        content = bytearray(whole.read_bytes())
        damage(content, dice.randrange(PAGE // size, len(content) // size) * size, size, dice)
        path = tmp_path / f"{number}.db"
        path.write_bytes(content)
        try:
            assert asyncio.run(would_be_sent(path)) == []
        except LedgerError as wrong:
            told += "is damaged" in str(wrong)
    assert told > TRIES // 3


def test_a_ledger_with_an_older_block_in_it_is_told(tmp_path: Path, whole: Path) -> None:
    """As after a write that the disk reported and never made: every page is sound by itself, but sends are missing."""
    older = tmp_path / "older.db"
    asyncio.run(finished(older, KEYS[:400]))
    mixed = bytearray(whole.read_bytes())
    before = older.read_bytes()
    found = 0
    for at in range(PAGE, len(before), PAGE):
        path = tmp_path / f"{at}.db"
        path.write_bytes(mixed[:at] + before[at : at + PAGE] + mixed[at + PAGE :])
        try:
            assert asyncio.run(would_be_sent(path)) == []
        except LedgerError:
            found += 1
    assert found > 0


def test_a_send_that_is_missing_is_told(tmp_path: Path, whole: Path) -> None:
    path = changed(whole, tmp_path, "DELETE FROM send WHERE key = 'store-00007'")
    with pytest.raises(LedgerError, match=r"a\.db is damaged: it does not hold the sends that it has counted"):
        asyncio.run(would_be_sent(path))


def changed(whole: Path, folder: Path, *statements: str) -> Path:
    path = folder / "a.db"
    shutil.copy(whole, path)
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()
    return path


@pytest.mark.parametrize("text", ["{", "[1]", "nothing"])
def test_what_is_no_json_any_more_is_told_as_damage(whole: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.db"
    shutil.copyfile(whole, path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE job SET summary = ?", (text,))
    db.close()
    with pytest.raises(LedgerError, match="is damaged: restore it from a copy"):
        asyncio.run(would_be_sent(path))
