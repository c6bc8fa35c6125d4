"""What is asked of the ledger at the same time is committed together: transitions, leases, pauses; and looked up so."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.errors import LedgerError
from bulksend.ledger import lookups
from bulksend.ledger.base import Change, Intent, Lease, Scope, Transition
from bulksend.ledger.group import GroupCommit
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import JobState, State
from tests.simulated_time import InlineExecutor

NOW = 1_800_000_000.0
LAUNCH = "insider.launch"


def with_ledger(path: Path, check: Callable[[SqliteLedger, int], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor(), wall=lambda: NOW)
        assert await ledger.open(create=True)
        try:
            await check(ledger, (await ledger.start_job("job", "the test"))[0].id)
        finally:
            await ledger.close()

    asyncio.run(main())


def intent(key: str) -> Intent:
    return Intent(Scope.SEND, key, "default", 1, 0, 11)


async def recorded(ledger: SqliteLedger, job_id: int, transition: Transition) -> None:
    """Record once this is awaited: as all others do, so that none is earlier."""
    await ledger.record(job_id, transition)


def lost(key: str) -> Change:
    """A result of what was never begun, which the ledger refuses."""
    return Change(Scope.SEND, key, State.SENDING, State.ACCEPTED, 0)


async def lease(ledger: SqliteLedger, name: str = "acme", *, tokens: int = 5, rate_per_s: float = 5.0) -> Lease:
    return await ledger.lease(name, LAUNCH, tokens=tokens, rate_per_s=rate_per_s, delay_s=0.0)


@contextmanager
def statements(ledger: SqliteLedger) -> Iterator[list[str]]:
    """Give what SQLite is told, by first word."""
    told: list[str] = []
    connection = ledger._db._connection
    connection.set_trace_callback(lambda text: told.append(text.lstrip("- ").split()[0]))
    try:
        yield told
    finally:
        connection.set_trace_callback(None)


def kept(path: Path, statement: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


def test_transitions_leases_pauses_and_what_is_given_back_share_a_commit(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, job_id: int) -> None:
        before = [await lease(ledger, f"old{number}") for number in range(100)]
        with statements(ledger) as told:
            await asyncio.gather(
                *(recorded(ledger, job_id, intent(f"k{number}")) for number in range(50)),
                *(lease(ledger, f"new{number}") for number in range(100)),
                *(
                    ledger.give_back(f"old{number}", LAUNCH, lease=one, unused=2)
                    for number, one in enumerate(before[:50])
                ),
                *(ledger.pause(f"old{number}", LAUNCH, 60) for number in range(50, 100)),
            )
        assert told.count("COMMIT") == 1
        assert len(told) < 10, f"as many statements as there are kinds, not as there are things to do: {told}"
        assert (await lease(ledger, "old7")).start == pytest.approx(before[7].start + 0.6)
        assert (await lease(ledger, "old77")).start == NOW + 60
        assert kept(tmp_path / "a.db", "SELECT count(*) FROM send") == [(50,)]

    with_ledger(tmp_path / "a.db", check)


def test_a_pause_counts_for_the_leases_that_are_asked_for_after_it(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, _job_id: int) -> None:
        with statements(ledger) as told:
            first, _, second, other = await asyncio.gather(
                lease(ledger), ledger.pause("acme", LAUNCH, 30), lease(ledger), lease(ledger, "blue")
            )
        assert told.count("COMMIT") == 1
        assert first.start == other.start == NOW
        assert second.start == NOW + 30

    with_ledger(tmp_path / "a.db", check)


def test_leases_of_one_moment_follow_one_another_and_the_last_can_be_given_back(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, _job_id: int) -> None:
        # A rate whose periods are no whole microseconds, nor whole in binary.
        some = await asyncio.gather(*(lease(ledger, tokens=7, rate_per_s=29.3) for _ in range(50)))
        for one, following in itertools.pairwise(some):
            assert following.start == one.end
        assert some[-1].end - some[0].start == pytest.approx(50 * 7 / 29.3, abs=1e-4)
        await ledger.give_back("acme", LAUNCH, lease=some[0], unused=7)
        await ledger.give_back("acme", LAUNCH, lease=some[-1], unused=7)
        assert (await lease(ledger)).start == some[-1].start

    with_ledger(tmp_path / "a.db", check)


asks = st.lists(
    st.tuples(st.sampled_from(["lease", "pause", "give back"]), st.sampled_from("ab"), st.floats(0, 20)), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(script=asks)
def test_together_comes_to_the_same_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    results: list[list[Any]] = []

    def checked(*, together: bool) -> Callable[[SqliteLedger, int], Coroutine[Any, Any, None]]:
        async def check(ledger: SqliteLedger, _job_id: int) -> None:
            first = {name: await lease(ledger, name) for name in "ab"}

            async def one(kind: str, name: str, seconds: float) -> Lease | None:
                if kind == "lease":
                    return await lease(ledger, name)
                if kind == "pause":
                    await ledger.pause(name, LAUNCH, seconds)
                else:
                    await ledger.give_back(name, LAUNCH, lease=first[name], unused=3)
                return None

            if together:
                made = await asyncio.gather(*(one(*asked) for asked in script))
            else:
                made = [await one(*asked) for asked in script]
            results.append([made, kept(ledger.path, "SELECT * FROM bucket ORDER BY identity")])

        return check

    with_ledger(folder / "a.db", checked(together=True))
    with_ledger(folder / "b.db", checked(together=False))
    assert results[0] == results[1]


def test_what_fails_is_undone_for_all_and_all_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger, job_id: int) -> None:
        await lease(ledger)
        before = kept(path, "SELECT * FROM bucket")
        results = await asyncio.gather(
            recorded(ledger, job_id, intent("a")),
            lease(ledger),
            ledger.pause("acme", LAUNCH, 60),
            recorded(ledger, job_id, lost("nobody")),
            lease(ledger, "blue"),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [LedgerError] * 5
        assert kept(path, "SELECT * FROM bucket") == before
        assert kept(path, "SELECT * FROM send") == []
        # A ledger that failed once is not trusted again in this run; how it ended can still be said.
        for later in (lease(ledger), ledger.pause("acme", LAUNCH, 1), ledger.record(job_id, intent("b"))):
            with pytest.raises(LedgerError, match="refused a transition"):
                await later
        await ledger.end_job(job_id, JobState.INCOMPLETE, {}, counts_as_finish=False)

    with_ledger(path, check)


def test_what_waits_behind_a_commit_that_fails_is_told_too() -> None:
    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def apply(*_: object) -> list[None]:
            begun.set()
            await go_on.wait()
            raise LedgerError("the disk is full")

        commit = GroupCommit[str, None](apply)
        waiting: list[asyncio.Future[Any]] = [commit.add(1, intent("a")), commit.ask("lease")]
        await begun.wait()
        waiting += [commit.add(1, intent("b")), commit.ask("lease")]
        go_on.set()
        assert [str(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == ["the disk is full"] * 4
        await commit.idle()
        assert commit.commits == 0

    asyncio.run(main())


def test_what_is_asked_for_during_a_commit_makes_the_next_one(tmp_path: Path) -> None:
    """In life, with a thread: a thousand leases beside transitions take a few commits."""

    async def main() -> None:
        ledger = SqliteLedger(tmp_path / "a.db")
        await ledger.open(create=True)
        job_id = (await ledger.start_job("job", "the test"))[0].id
        with statements(ledger) as told:

            async def one(number: int) -> None:
                await asyncio.sleep(0.00001 * (number % 100))
                await ledger.record(job_id, intent(f"k{number}"))
                await lease(ledger, f"a{number}")

            await asyncio.gather(*(one(number) for number in range(1000)))
        assert told.count("COMMIT") < 100
        assert kept(tmp_path / "a.db", "SELECT count(*) FROM bucket") == [(1000,)]
        await ledger.close()

    asyncio.run(main())


def test_only_commits_with_transitions_are_counted(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, job_id: int) -> None:
        await lease(ledger)
        assert ledger.commit_time() == (0, 0.0)
        await asyncio.gather(lease(ledger), ledger.record(job_id, intent("a")))
        assert ledger.commit_time()[0] == 1

    with_ledger(tmp_path / "a.db", check)


def test_whoever_does_not_wait_for_a_lease_any_more_keeps_nobody_else_from_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = SqliteLedger(tmp_path / "a.db")
        await ledger.open(create=True)
        tasks = [asyncio.ensure_future(lease(ledger, f"a{number}")) for number in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, Lease) for one in results].count(True) == 9
        await ledger.close()

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_a_pause_of_any_length_is_kept(seconds: float, tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, _job_id: int) -> None:
        await ledger.pause("acme", LAUNCH, seconds)
        assert (await lease(ledger)).start >= NOW + 8e9

    with_ledger(tmp_path / "a.db", check)


# Look-ups


def test_look_ups_of_one_moment_are_answered_together_each_with_its_own(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger, job_id: int) -> None:
        await asyncio.gather(*(ledger.record(job_id, intent(f"k{number}")) for number in range(100)))
        with statements(ledger) as told:
            found = await asyncio.gather(
                *(ledger.look_up(job_id, Scope.SEND, [f"k{number}", f"x{number}"]) for number in range(100)),
                ledger.look_up(job_id, Scope.ACCOUNT, ["k1"]),
                ledger.look_up(job_id + 1, Scope.SEND, ["k1"]),
                ledger.look_up(job_id, Scope.SEND, ["k1"]),
            )
        assert told == ["SELECT"] * 3
        assert [list(one) for one in found] == [*([f"k{number}"] for number in range(100)), [], [], ["k1"]]

    with_ledger(tmp_path / "a.db", check)


def test_no_more_keys_than_some_are_looked_up_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KEYS_MOST", 10)

    async def check(ledger: SqliteLedger, job_id: int) -> None:
        with statements(ledger) as told:
            pages = [12, 4, 4, 4, 30, 1]  # 12 | 4 4 | 4 | 30 | 1
            await asyncio.gather(
                *(ledger.look_up(job_id, Scope.SEND, [str(key) for key in range(size)]) for size in pages)
            )
        assert told == ["SELECT"] * 5

    with_ledger(tmp_path / "a.db", check)


def test_a_look_up_that_fails_is_told_to_those_who_asked_and_the_next_one_is_made() -> None:
    async def main() -> None:
        wrong = [LedgerError("is damaged")]

        async def look_up(*_: object) -> dict[str, Any]:
            await asyncio.sleep(0)
            if wrong:
                raise wrong.pop()
            return {}

        several = lookups.LookUps(look_up)
        asked = [several.ask(1, Scope.SEND, ["a"]), several.ask(1, Scope.SEND, ["b"]), several.ask(2, Scope.SEND, [])]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in results] == [LedgerError, LedgerError, dict]
        assert await several.ask(1, Scope.SEND, ["a"]) == {}

    asyncio.run(main())
