"""Who settled a send is written with the change, or neither is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bulksend.errors import LedgerError
from bulksend.ledger import sqlite
from bulksend.ledger.base import AuditRecord, Change, Intent, Scope, Settler
from bulksend.model import State
from tests.ledger.old import NOW, make_old, opened, rows

ANN = Settler("ann", "desk")


def settled(key: str, to: State, settler: Settler | None = ANN) -> Change:
    return Change(Scope.SEND, key, State.UNKNOWN, to, 0, reason="seen", settler=settler)


def test_entries_come_back_in_order_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PAGE", 2)

    async def main() -> None:
        ledger = await opened(tmp_path / "a.db", create=True)
        job, _ = await ledger.start_job("sale", "a test")
        other, _ = await ledger.start_job("other", "a test")
        assert [page async for page in ledger.audit(job.id)] == []
        for key in ("c", "a", "b"):
            await ledger.record(job.id, Intent(Scope.SEND, key, "blue", 7, 0, 1))
            await ledger.record(job.id, Change(Scope.SEND, key, State.SENDING, State.UNKNOWN, 0))
            await ledger.record(job.id, settled(key, State.PENDING))
        pages = [page async for page in ledger.audit(job.id)]
        assert [[one.key for one in page] for page in pages] == [["c", "a"], ["b"]]
        entry = AuditRecord("c", 7, "blue", 0, State.UNKNOWN, State.PENDING, "seen", "ann", "desk", NOW)
        assert pages[0][0] == entry
        assert [page async for page in ledger.audit(other.id)] == []
        await ledger.close()

    asyncio.run(main())


def test_a_change_that_does_not_hold_leaves_no_entry(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = await opened(tmp_path / "a.db", create=True)
        job, _ = await ledger.start_job("sale", "a test")
        await ledger.record(job.id, Intent(Scope.SEND, "a", "blue", 7, 0, 1))
        await ledger.record(job.id, Change(Scope.SEND, "a", State.SENDING, State.UNKNOWN, 0))
        await ledger.record(job.id, settled("a", State.ACCEPTED))
        with pytest.raises(LedgerError, match="refused a transition"):
            await ledger.record(job.id, settled("a", State.PENDING))
        await ledger.close()

    asyncio.run(main())
    assert rows(tmp_path / "a.db", "SELECT became FROM audit") == [("accepted",)]


def test_what_no_person_settles_leaves_no_entry(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = await opened(tmp_path / "a.db", create=True)
        job, _ = await ledger.start_job("sale", "a test")
        await ledger.record(job.id, Intent(Scope.SEND, "a", "blue", 7, 0, 1))
        await ledger.record(job.id, Change(Scope.SEND, "a", State.SENDING, State.UNKNOWN, 0))
        await ledger.record(job.id, settled("a", State.ACCEPTED, None))
        assert [page async for page in ledger.audit(job.id)] == []
        await ledger.close()

    asyncio.run(main())
    assert rows(tmp_path / "a.db", "SELECT * FROM audit") == []


def test_a_ledger_of_an_older_version_keeps_an_audit_too(tmp_path: Path) -> None:
    make_old(tmp_path / "a.db")

    async def main() -> None:
        ledger = await opened(tmp_path / "a.db", create=False)
        job, _ = await ledger.start_job("summer", "a test", is_run=False)
        assert job.started_at == 200
        await ledger.record(job.id, settled("a", State.PENDING))
        assert [one.key async for page in ledger.audit(job.id) for one in page] == ["a"]
        await ledger.close()

    asyncio.run(main())
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        assert db.execute("SELECT started_at FROM job WHERE name = 'summer'").fetchall() == [(200.0,)]


def test_only_sends_in_the_states_are_looked_up(tmp_path: Path) -> None:
    make_old(tmp_path / "a.db")

    async def main() -> None:
        ledger = await opened(tmp_path / "a.db", create=False)
        found = await ledger.look_up_in(1, ["chunk-1", "chunk-3", "nobody"], [State.REJECTED, State.UNKNOWN])
        assert list(found) == ["chunk-3"]
        assert [(one.account, one.refs) for one in await ledger.of_accounts(1)] == [("default", ("25696",))]
        await ledger.close()

    asyncio.run(main())
