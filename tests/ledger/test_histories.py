"""What the ledger keeps of runs over time, how long its commits took, and its own name."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bulksend.ledger.base import Change, Intent, Scope
from bulksend.ledger.sqlite import HISTORIES_MOST, SqliteLedger
from bulksend.model import State
from tests.simulated_time import InlineExecutor


def with_ledger(path: Path, check: Callable[[SqliteLedger], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor())
        await ledger.open(create=True)
        try:
            await check(ledger)
        finally:
            await ledger.close()

    asyncio.run(main())


def id_of(path: Path) -> str:
    found: list[str] = []

    async def check(ledger: SqliteLedger) -> None:
        found.append(await ledger.id())

    with_ledger(path, check)
    return found[0]


def test_a_ledger_keeps_its_name_and_another_has_another(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    name = id_of(path)
    assert len(name) == 32
    assert id_of(path) == name, "however often it is opened"
    assert id_of(tmp_path / "b.db") != name
    for one in tmp_path.glob("a.db*"):
        one.unlink()
    assert id_of(path) != name, "it was deleted and made again"
    shutil.copy(path, tmp_path / "c.db")
    assert id_of(tmp_path / "c.db") == id_of(path)


def test_histories_are_kept_by_run_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        spring, _ = await ledger.start_job("spring", "the test")
        summer, _ = await ledger.start_job("summer", "the test")
        assert await ledger.histories(spring.id) == []
        await ledger.save_history(spring.id, 2.0, "second")
        await ledger.save_history(spring.id, 1.0, "first")
        await ledger.save_history(spring.id, 2.0, "second, later")
        await ledger.save_history(summer.id, 1.0, "another job's")
        assert await ledger.histories(spring.id) == ["first", "second, later"]
        for number in range(3, HISTORIES_MOST + 3):
            await ledger.save_history(spring.id, float(number), str(number))

    async def later(ledger: SqliteLedger) -> None:
        spring, summer = await ledger.find_job("spring"), await ledger.find_job("summer")
        assert spring is not None
        assert summer is not None
        assert await ledger.histories(spring.id) == [str(number) for number in range(3, HISTORIES_MOST + 3)]
        assert await ledger.histories(summer.id) == ["another job's"]

    with_ledger(path, check)
    with_ledger(path, later)


def test_commits_are_counted_with_the_time_that_they_took(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        assert ledger.commit_time() == (0, 0.0)
        job, _ = await ledger.start_job("spring", "the test")
        await ledger.save_history(job.id, 1.0, "no transition")
        assert ledger.commit_time() == (0, 0.0)
        keys = [str(number) for number in range(50)]
        await asyncio.gather(*(ledger.record(job.id, Intent(Scope.SEND, key, "a", 1, 0, 1)) for key in keys))
        commits, took_s = ledger.commit_time()
        assert 1 <= commits < len(keys), "many share one"
        assert 0 < took_s < 60
        await ledger.record(job.id, Change(Scope.SEND, "0", State.SENDING, State.ACCEPTED, 0))
        assert ledger.commit_time()[0] == commits + 1
        assert ledger.commit_time()[1] > took_s

    with_ledger(tmp_path / "a.db", check)
