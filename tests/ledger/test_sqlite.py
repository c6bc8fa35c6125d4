"""What the SQLite ledger promises: guarded and durable transitions, one runner per job, plain words else."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.errors import JobLockedError, LedgerError, LedgerVersionError
from bulksend.ledger.base import Change, Counts, Intent, Invalid, Member, Scope, SendRecord, Transition
from bulksend.ledger.database import _named
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import JobState, State
from tests.simulated_time import InlineExecutor

NOW = 1_800_000_000.0
IDENTITY = ("insider|acme", "insider.launch")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def with_ledger(
    path: Path, check: Callable[[SqliteLedger], Coroutine[Any, Any, None]], clock: Callable[[], float] | None = None
) -> None:
    async def main() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor(), wall=clock or Clock())
        assert await ledger.open(create=True)
        try:
            await check(ledger)
        finally:
            await ledger.close()

    asyncio.run(main())


async def started(ledger: SqliteLedger, name: str = "job") -> int:
    return (await ledger.start_job(name, "the test"))[0].id


def intent(key: str = "a", *, step: int = 0, scope: Scope = Scope.SEND) -> Intent:
    return Intent(scope, key, "default", 1, step, 11)


def change(frm: State, to: State, key: str = "a", *, step: int = 0, ref: str | None = None) -> Change:
    return Change(Scope.SEND, key, frm, to, step, ref=ref, reason=None if ref else f"{frm} to {to}", status=200)


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask over a connection of our own: only what is committed shows."""
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


def connection(ledger: SqliteLedger) -> sqlite3.Connection:
    return ledger._db._connection


async def counts(ledger: SqliteLedger, name: str = "job") -> Counts:
    job = await ledger.find_job(name)
    assert job is not None
    return job.counts


# Transitions


def test_the_life_of_a_send(tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        await ledger.record(job_id, intent())
        assert await counts(ledger) == Counts(sending=1)
        clock.now += 5
        back = Change(
            Scope.SEND, "a", State.SENDING, State.PENDING, 0, reason="HTTP 429: told to wait", status=429, repeats=1
        )
        await ledger.record(job_id, back)
        assert await counts(ledger) == Counts()
        await ledger.record(job_id, intent())
        await ledger.record(job_id, change(State.SENDING, State.PENDING, step=1, ref="25696"))
        await ledger.record(job_id, intent(step=1))
        await ledger.record(job_id, change(State.SENDING, State.ACCEPTED, step=1, ref="169"))
        assert await counts(ledger) == Counts(accepted=1)
        assert await ledger.look_up(job_id, Scope.SEND, ["a", "b"]) == {
            "a": SendRecord("a", "default", 1, 1, State.ACCEPTED, 3, 0, 11, ("25696", "169"), None, 200, NOW + 5)
        }
        assert await ledger.look_up(job_id, Scope.ACCOUNT, ["a"]) == {}

    with_ledger(tmp_path / "a.db", check, clock)


REACH: dict[State | None, list[Transition]] = {
    None: [],
    State.PENDING: [intent(), change(State.SENDING, State.PENDING)],
    State.SENDING: [intent()],
    State.ACCEPTED: [intent(), change(State.SENDING, State.ACCEPTED)],
    State.REJECTED: [intent(), change(State.SENDING, State.REJECTED)],
    State.UNKNOWN: [intent(), change(State.SENDING, State.UNKNOWN)],
}
INVALID = Invalid("a", "default", 1, 11, "a blank value")
ILLEGAL: list[tuple[State | None, Transition]] = [
    *[(state, intent()) for state in (State.SENDING, State.ACCEPTED, State.REJECTED, State.UNKNOWN)],
    (State.PENDING, intent(step=1)),
    *[(state, INVALID) for state in (State.SENDING, State.ACCEPTED, State.REJECTED, State.UNKNOWN)],
    *[
        (state, change(frm, State.ACCEPTED))
        for state, frm in itertools.product((None, *State), (State.SENDING, State.UNKNOWN, State.PENDING))
        if state is not frm
    ],
    (State.SENDING, Change(Scope.ACCOUNT, "a", State.SENDING, State.ACCEPTED, 0)),
    (State.SENDING, change(State.SENDING, State.ACCEPTED, "b")),
]


@pytest.mark.parametrize(("state", "transition"), ILLEGAL)
def test_an_illegal_transition_raises_and_changes_nothing(
    state: State | None, transition: Transition, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        for one in REACH[state]:
            await ledger.record(job_id, one)
        before = rows(path, "SELECT * FROM send"), rows(path, "SELECT * FROM job")
        with pytest.raises(LedgerError, match=f"refused a transition.*{transition.key}"):
            await ledger.record(job_id, transition)
        assert (rows(path, "SELECT * FROM send"), rows(path, "SELECT * FROM job")) == before
        # A ledger that failed once is not trusted again in this run.
        with pytest.raises(LedgerError):
            await ledger.record(job_id, intent("fresh"))
        assert (rows(path, "SELECT * FROM send"), rows(path, "SELECT * FROM job")) == before

    with_ledger(path, check)


def test_one_bad_transition_takes_the_whole_commit_back_and_everybody_in_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        some = [intent("a"), intent("b"), change(State.SENDING, State.ACCEPTED, "nobody"), intent("c")]
        results = await asyncio.gather(*(ledger.record(job_id, one) for one in some), return_exceptions=True)
        assert [type(result) for result in results] == [LedgerError] * 4
        assert rows(path, "SELECT key FROM send") == []
        assert await counts(ledger) == Counts()

    with_ledger(path, check)


keys = st.sampled_from("abc")
moves = st.one_of(
    st.tuples(st.just("intent"), keys, st.integers(0, 1), st.just(State.SENDING)),
    st.tuples(st.just("invalid"), keys, st.just(0), st.just(State.REJECTED)),
    *[
        st.tuples(st.just(frm), keys, st.integers(0, 1), st.sampled_from(list(State)))
        for frm in (State.SENDING, State.UNKNOWN, State.PENDING)
    ],
)


@settings(max_examples=60, deadline=None)
@given(script=st.lists(moves, max_size=30))
def test_any_sequence_of_transitions_against_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, str, int, State]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "a.db"
    model: dict[str, tuple[State, int, int]] = {}
    """State, step and attempts by key."""

    async def one(ledger: SqliteLedger, job_id: int, move: tuple[str, str, int, State]) -> bool:
        """Apply a move to both; say whether it was legal."""
        kind, key, step, to = move
        state, at, attempts = model.get(key, (None, 0, 0))
        transition: Transition
        if kind == "intent":
            legal = state is None or (state is State.PENDING and at == step)
            transition, after = intent(key, step=step), (State.SENDING, step, attempts + 1)
        elif kind == "invalid":
            legal = state in (None, State.PENDING)
            transition, after = Invalid(key, "default", 1, 11, "blank"), (State.REJECTED, at, attempts)
        else:
            legal = state is State(kind)
            transition, after = change(State(kind), to, key, step=step), (to, step, attempts)
        if not legal:
            with pytest.raises(LedgerError):
                await ledger.record(job_id, transition)
            return False
        await ledger.record(job_id, transition)
        model[key] = after
        return True

    async def agree(ledger: SqliteLedger, job_id: int) -> None:
        found = await ledger.look_up(job_id, Scope.SEND, list("abcd"))
        assert {key: (record.state, record.step, record.attempts) for key, record in found.items()} == model
        number = dict.fromkeys(State, 0)
        for state, _, _ in model.values():
            number[state] += 1
        kept = await counts(ledger)
        assert kept == Counts(
            number[State.ACCEPTED], number[State.REJECTED], number[State.UNKNOWN], number[State.SENDING]
        )
        for state in State:
            pages = [[record.key for record in page] async for page in ledger.by_state(job_id, state)]
            assert sum(pages, []) == sorted(key for key, (at, _, _) in model.items() if at is state)  # noqa: RUF017

    async def check() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor(), wall=Clock())
        await ledger.open(create=True)
        job_id = await started(ledger)
        for move in script:
            if await one(ledger, job_id, move):
                continue
            # As after a crash: the next process goes on with what is on disk, and recovers what was in flight.
            await ledger.close()
            ledger = SqliteLedger(path, executor=InlineExecutor(), wall=Clock())
            await ledger.open(create=True)
            _, turned = await ledger.start_job("job", "the next")
            sending = [key for key, (state, _, _) in model.items() if state is State.SENDING]
            assert turned == len(sending)
            for key in sending:
                model[key] = (State.UNKNOWN, *model[key][1:])
        await agree(ledger, job_id)
        await ledger.close()

    asyncio.run(check())


def test_recorded_means_on_disk(tmp_path: Path) -> None:
    """Another connection sees a transition as soon as `record` has returned, however many share a commit."""
    path = tmp_path / "a.db"

    async def main() -> None:
        ledger = SqliteLedger(path)  # its own thread, as in life
        await ledger.open(create=True)
        job_id = await started(ledger)
        other = sqlite3.connect(path)

        async def one(number: int) -> None:
            await asyncio.sleep(0.0001 * (number % 7))
            key = f"k{number}"
            await ledger.record(job_id, intent(key))
            assert other.execute("SELECT state FROM send WHERE key = ?", (key,)).fetchone() == ("sending",)
            await ledger.record(job_id, change(State.SENDING, State.ACCEPTED, key))
            assert other.execute("SELECT state FROM send WHERE key = ?", (key,)).fetchone() == ("accepted",)

        await asyncio.gather(*(one(number) for number in range(300)))
        assert other.execute("SELECT accepted, sending FROM job").fetchone() == (300, 0)
        other.close()
        await ledger.close()

    asyncio.run(main())


def test_many_transitions_of_one_moment_share_a_commit(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        statements: list[str] = []
        connection(ledger).set_trace_callback(statements.append)
        await asyncio.gather(*(ledger.record(job_id, intent(f"k{number}")) for number in range(500)))
        assert statements.count("COMMIT") == 1

    with_ledger(tmp_path / "a.db", check)


def test_every_commit_is_synced(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        assert connection(ledger).execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection(ledger).execute("PRAGMA journal_mode").fetchone() == ("wal",)

    with_ledger(tmp_path / "a.db", check)


def test_a_caller_that_goes_away_does_not_harm_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = SqliteLedger(tmp_path / "a.db")
        await ledger.open(create=True)
        job_id = await started(ledger)
        tasks = [asyncio.ensure_future(ledger.record(job_id, intent(f"k{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks].count(True) == 1
        assert len(await ledger.look_up(job_id, Scope.SEND, [f"k{number}" for number in range(20)])) == 20
        await ledger.close()

    asyncio.run(main())


# Reading


@settings(max_examples=40, deadline=None)
@given(some=st.lists(st.text(min_size=1).filter(str.isprintable), min_size=1, max_size=5, unique=True))
def test_a_key_of_any_printable_text_is_found_again(tmp_path_factory: pytest.TempPathFactory, some: list[str]) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        for key in some:
            await ledger.record(job_id, intent(key))
        assert set(await ledger.look_up(job_id, Scope.SEND, some)) == set(some)
        pages = [page async for page in ledger.by_state(job_id, State.SENDING)]
        assert {record.key for page in pages for record in page} == set(some)

    with_ledger(tmp_path_factory.mktemp("ledger") / "a.db", check)


def test_by_state_yields_page_by_page_in_order_of_key(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        await asyncio.gather(*(ledger.record(job_id, intent(f"k{number:05}")) for number in reversed(range(2500))))
        await asyncio.gather(
            *(ledger.record(job_id, change(State.SENDING, State.UNKNOWN, f"k{number:05}")) for number in range(2200))
        )
        pages = [[record.key for record in page] async for page in ledger.by_state(job_id, State.UNKNOWN)]
        assert [len(page) for page in pages] == [1000, 1000, 200]
        assert [key for page in pages for key in page] == [f"k{number:05}" for number in range(2200)]
        assert [page async for page in ledger.by_state(job_id, State.REJECTED)] == []

    with_ledger(tmp_path / "a.db", check)


def test_pages_may_be_settled_while_they_are_read(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        some = [f"k{number:05}" for number in range(1500)]
        await asyncio.gather(*(ledger.record(job_id, intent(key)) for key in some))
        await asyncio.gather(*(ledger.record(job_id, change(State.SENDING, State.UNKNOWN, key)) for key in some))
        seen = []
        async for page in ledger.by_state(job_id, State.UNKNOWN):
            seen += [record.key for record in page]
            moves = (ledger.record(job_id, change(State.UNKNOWN, State.ACCEPTED, one.key)) for one in page)
            await asyncio.gather(*moves)
        assert seen == some
        assert await counts(ledger) == Counts(accepted=1500)

    with_ledger(tmp_path / "a.db", check)


# Jobs


def test_a_job_from_start_to_end(tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        assert await ledger.find_job("job") is None
        before, turned = await ledger.start_job("job", "process 7 on host")
        assert (before.state, before.started_at, before.holder, turned) == (JobState.INCOMPLETE, None, None, 0)
        running = await ledger.find_job("job")
        assert running is not None
        assert (running.state, running.holder, running.started_at) == (JobState.RUNNING, "process 7 on host", NOW)
        assert running.summary == {}
        await ledger.set_size(running.id, rows=10, sends=4)
        clock.now += 60
        summary = {"job": "job", "sends": {"total": 4}, "rate_per_min": 5991.5, "text": "spring 春", "none": None}
        await ledger.end_job(running.id, JobState.DONE, summary, counts_as_finish=True)
        done = await ledger.find_job("job")
        assert done is not None
        assert (done.state, done.holder, done.finished_at, done.rows, done.sends) == (
            JobState.DONE,
            None,
            NOW + 60,
            10,
            4,
        )
        assert done.summary == summary
        # A run that finds nothing to do leaves the time at which the job was finished.
        clock.now += 60
        before, _ = await ledger.start_job("job", "again")
        assert (before.state, before.finished_at) == (JobState.DONE, NOW + 60)
        await ledger.end_job(done.id, JobState.DONE, summary, counts_as_finish=False)
        again = await ledger.find_job("job")
        assert again is not None
        assert again.finished_at == NOW + 60

    with_ledger(tmp_path / "a.db", check, clock)


def test_a_job_that_does_not_run_is_not_ended(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        rows_changed = connection(ledger).execute("UPDATE job SET state = 'done'").rowcount
        assert rows_changed == 1
        with pytest.raises(LedgerError, match="as running"):
            await ledger.end_job(job_id, JobState.DONE, {}, counts_as_finish=True)
        # The lock went back all the same.
        await started(ledger)

    with_ledger(tmp_path / "a.db", check)


def test_what_a_dead_process_left_in_flight_becomes_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def first(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        for key in "abcd":
            await ledger.record(job_id, intent(key))
        await ledger.record(job_id, change(State.SENDING, State.ACCEPTED, "a"))
        await ledger.record(job_id, change(State.SENDING, State.PENDING, "b"))
        await ledger.record(job_id, intent("create", scope=Scope.ACCOUNT))

    async def second(ledger: SqliteLedger) -> None:
        dead = await ledger.find_job("job")
        assert dead is not None
        assert (dead.state, dead.holder) == (JobState.INCOMPLETE, None)
        before, turned = await ledger.start_job("job", "the next")
        assert (before.counts, turned) == (Counts(accepted=1, sending=2), 2)
        assert await counts(ledger) == Counts(accepted=1, unknown=2)
        found = await ledger.look_up(before.id, Scope.SEND, list("abcd"))
        assert {key: one.state.value for key, one in found.items()} == {
            "a": "accepted",
            "b": "pending",
            "c": "unknown",
            "d": "unknown",
        }
        assert (found["c"].repeats, found["c"].status) == (1, None)
        assert found["c"].reason == "the process ended while the call was under way"
        create = (await ledger.look_up(before.id, Scope.ACCOUNT, ["create"]))["create"]
        assert (create.state, create.repeats) == (State.UNKNOWN, 1)

    with_ledger(path, first)
    with_ledger(path, second)


def test_a_second_runner_is_told_who_holds_the_job_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        job_id = (await ledger.start_job("job", "process 7 on host"))[0].id
        await ledger.record(job_id, intent())

        other = SqliteLedger(path, executor=InlineExecutor(), wall=Clock())
        await other.open(create=True)
        with pytest.raises(JobLockedError, match="process 7 on host"):
            await other.start_job("job", "process 8 on host")
        seen = await other.find_job("job")
        assert seen is not None
        assert (seen.state, seen.holder) == (JobState.RUNNING, "process 7 on host")
        assert seen.counts == Counts(sending=1)
        # Another job of the same ledger is free.
        await started(other, "another job")
        await other.close()
        await ledger.record(job_id, change(State.SENDING, State.ACCEPTED))
        await ledger.end_job(job_id, JobState.DONE, {}, counts_as_finish=True)

    with_ledger(path, check)
    assert list(tmp_path.glob("*.lock")) == []


HOLDER = """
import asyncio, sys
from pathlib import Path
from bulksend.ledger.base import Intent, Scope
from bulksend.ledger.database import _named
from bulksend.ledger.sqlite import SqliteLedger

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.open(create=True)
    job, _ = await ledger.start_job("job", "the one that dies")
    await ledger.record(job.id, Intent(Scope.SEND, "a", "default", 1, 0, 11))
    print("holds", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"

        async def held(ledger: SqliteLedger) -> None:
            with pytest.raises(JobLockedError, match="the one that dies"):
                await started(ledger)

        with_ledger(path, held)
        process.send_signal(signal.SIGKILL)
        process.wait(20)

        async def free(ledger: SqliteLedger) -> None:
            before, turned = await ledger.start_job("job", "the next")
            assert turned == 1
            found = await ledger.look_up(before.id, Scope.SEND, ["a"])
            assert found["a"].state is State.UNKNOWN

        with_ledger(path, free)
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_a_job_that_was_sent_to_one_vendor_does_not_go_on_at_another(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def run_at(ledger: SqliteLedger, vendor: str | None) -> None:
        job_id = (await ledger.start_job("job", "the test", vendor=vendor))[0].id
        await ledger.end_job(job_id, JobState.INCOMPLETE, {}, counts_as_finish=False)

    async def check(ledger: SqliteLedger) -> None:
        # While nothing was sent, the address may be put right.
        await run_at(ledger, "insider http://127.0.0.1:1")
        await run_at(ledger, "insider https://real")
        job_id = (await ledger.start_job("job", "the test", vendor="insider https://real"))[0].id
        await ledger.record(job_id, intent())
        await ledger.record(job_id, change(State.SENDING, State.ACCEPTED))
        await ledger.end_job(job_id, JobState.INCOMPLETE, {}, counts_as_finish=False)
        with pytest.raises(LedgerError, match="was sent to insider https://real before"):
            await run_at(ledger, "insider https://other")
        # The refusal keeps neither the lock nor anything else.
        await run_at(ledger, None)
        await run_at(ledger, "insider https://real")

    with_ledger(path, check)


def test_a_ledger_that_was_removed_under_the_run_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        await ledger.record(job_id, intent())
        path.rename(tmp_path / "away.db")
        with pytest.raises(LedgerError, match="was removed or replaced"):
            await ledger.stop_requested(job_id)
        with pytest.raises(LedgerError, match="was removed or replaced"):
            await ledger.record(job_id, change(State.SENDING, State.ACCEPTED))

    with_ledger(path, check)


def test_a_stop_is_asked_for_once_per_run(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        assert not await ledger.request_stop("job")
        job_id = await started(ledger)
        assert not await ledger.stop_requested(job_id)
        assert await ledger.request_stop("job")
        assert await ledger.stop_requested(job_id)
        await ledger.end_job(job_id, JobState.STOPPED, {}, counts_as_finish=False)
        assert not await ledger.request_stop("job")
        await started(ledger)
        assert not await ledger.stop_requested(job_id)

    with_ledger(path, check)


def test_two_jobs_in_one_ledger_know_nothing_of_each_other(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        first, second = await started(ledger, "one"), await started(ledger, "two")
        await ledger.record(first, intent())
        await ledger.record(second, intent())
        await asyncio.gather(
            ledger.record(first, change(State.SENDING, State.ACCEPTED)),
            ledger.record(second, change(State.SENDING, State.REJECTED)),
        )
        assert await counts(ledger, "one") == Counts(accepted=1)
        assert await counts(ledger, "two") == Counts(rejected=1)
        assert [page async for page in ledger.by_state(first, State.REJECTED)] == []
        await ledger.add_members(first, [Member("x", "chunk-1", 1)])
        assert await ledger.members_of(second, ["x"]) == {}
        assert (await ledger.last_chunk(first), await ledger.last_chunk(second)) == (1, 0)
        await ledger.end_job(first, JobState.DONE, {}, counts_as_finish=True)
        other = await ledger.find_job("two")
        assert other is not None
        assert other.state is JobState.RUNNING

    with_ledger(tmp_path / "a.db", check)


# Chunks


def test_membership_is_written_once_and_for_good(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        members = [Member(f"k{number:04}", f"chunk-{number // 100}", number // 100 + 1) for number in range(2500)]
        await ledger.add_members(job_id, members[:1200])
        await ledger.add_members(job_id, iter(members[1200:]))
        assert await ledger.last_chunk(job_id) == 25
        assert await ledger.members_of(job_id, ["k0000", "k2499", "nobody"]) == {
            "k0000": members[0],
            "k2499": members[-1],
        }
        with pytest.raises(LedgerError):
            await ledger.add_members(job_id, [Member("fresh", "chunk-99", 99), Member("k0000", "chunk-99", 99)])
        assert await ledger.last_chunk(job_id) == 25
        assert await ledger.members_of(job_id, ["fresh", "k0000"]) == {"k0000": members[0]}

        # What is settled is not open; pending, in flight elsewhere or new is told apart.
        for chunk, state in (("chunk-0", State.ACCEPTED), ("chunk-1", State.PENDING), ("chunk-2", State.UNKNOWN)):
            await ledger.record(job_id, intent(chunk))
            await ledger.record(job_id, change(State.SENDING, state, chunk))
        pages = [page async for page in ledger.open_members(job_id, State.PENDING)]
        assert [len(page) for page in pages] == [1000, 1000, 300]
        assert [one for page in pages for one in page] == members[100:200] + members[300:]
        unknown = [one async for page in ledger.open_members(job_id, State.UNKNOWN) for one in page]
        assert unknown == members[200:300]

    with_ledger(tmp_path / "a.db", check)


# Limits


def test_leases_follow_one_another_over_restarts(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "a.db"

    async def first(ledger: SqliteLedger) -> None:
        lease = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        assert (lease.start, lease.end, lease.tokens) == (NOW, NOW + 0.5, 50)
        after = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        assert (after.start, after.end) == (NOW + 0.5, NOW + 1)
        other = await ledger.lease("insider|blue", "insider.launch", tokens=50, rate_per_s=100, delay_s=0)
        assert other.start == NOW
        other = await ledger.lease(IDENTITY[0], "insider.create", tokens=1, rate_per_s=0.5, delay_s=0)
        assert (other.start, other.end) == (NOW, NOW + 2)

    async def second(ledger: SqliteLedger) -> None:
        clock.now += 0.2
        lease = await ledger.lease(*IDENTITY, tokens=10, rate_per_s=100, delay_s=0)
        assert lease.start == NOW + 1
        clock.now += 60
        lease = await ledger.lease(*IDENTITY, tokens=10, rate_per_s=100, delay_s=0)
        assert lease.start == clock.now, "time that nobody used is not caught up with"

    with_ledger(path, first, clock)
    with_ledger(path, second, clock)


def test_a_lease_may_be_asked_for_ahead(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        lease = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0.25)
        assert (lease.start, lease.end) == (NOW + 0.25, NOW + 0.75)
        after = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0.25)
        assert after.start == lease.end

    with_ledger(tmp_path / "a.db", check)


def test_what_is_given_back_is_leased_again_unless_somebody_came_behind(tmp_path: Path) -> None:
    async def check(ledger: SqliteLedger) -> None:
        lease = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        await ledger.give_back(*IDENTITY, lease=lease, unused=20)
        second = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        assert second.start == pytest.approx(NOW + 0.3)
        third = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        await ledger.give_back(*IDENTITY, lease=second, unused=50)
        fourth = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        assert fourth.start == third.end

    with_ledger(tmp_path / "a.db", check)


def test_a_pause_holds_every_lease_and_the_later_of_two_counts(tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        await ledger.pause(*IDENTITY, 30)
        await ledger.pause(*IDENTITY, 7)
        assert (await ledger.lease(*IDENTITY, tokens=1, rate_per_s=100, delay_s=0)).start == NOW + 30
        assert (await ledger.lease("insider|blue", IDENTITY[1], tokens=1, rate_per_s=100, delay_s=0)).start == NOW
        clock.now += 31
        assert (await ledger.lease(*IDENTITY, tokens=1, rate_per_s=100, delay_s=0)).start == clock.now
        await ledger.pause(*IDENTITY, 86_400)
        assert (await ledger.lease(*IDENTITY, tokens=1, rate_per_s=100, delay_s=0)).start == clock.now + 86_400

    with_ledger(tmp_path / "a.db", check, clock)


@pytest.mark.parametrize("back_s", [60, 3600, 400 * 86_400])
def test_a_clock_that_was_set_back_holds_nobody_for_long(back_s: float, tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        clock.now -= back_s
        lease = await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0)
        assert clock.now <= lease.start <= clock.now + 10
        await ledger.lease("slow", "slow", tokens=1, rate_per_s=0.5, delay_s=0)
        clock.now -= back_s
        lease = await ledger.lease("slow", "slow", tokens=1, rate_per_s=0.5, delay_s=0)
        assert clock.now <= lease.start <= clock.now + 40

    with_ledger(tmp_path / "a.db", check, clock)


def test_what_was_leased_is_as_far_ahead_as_before_when_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        ahead = [await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0) for _ in range(60)]
        assert ahead[-1].end == pytest.approx(clock.now + 30)
        clock.now -= 3600
        after = [await ledger.lease(*IDENTITY, tokens=50, rate_per_s=100, delay_s=0) for _ in range(3)]
        assert [one.start for one in after] == pytest.approx([clock.now + ahead_s for ahead_s in (30.0, 30.5, 31.0)])

    with_ledger(tmp_path / "a.db", check, clock)


def test_a_pause_keeps_its_length_when_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        await ledger.pause(*IDENTITY, 30)
        clock.now -= 3600
        lease = await ledger.lease(*IDENTITY, tokens=1, rate_per_s=100, delay_s=0)
        assert lease.start == pytest.approx(clock.now + 30)

    with_ledger(tmp_path / "a.db", check, clock)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.sampled_from(["lease", "pause", "wait", "give back"]), st.floats(0, 20), st.integers(1, 50)),
        max_size=30,
    )
)
def test_leases_never_overlap(tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, float, int]]) -> None:
    clock = Clock()

    async def check(ledger: SqliteLedger) -> None:
        taken: list[tuple[float, float]] = []
        last = None
        held_until = 0.0
        for kind, seconds, tokens in script:
            if kind == "wait":
                clock.now += seconds
            elif kind == "pause":
                await ledger.pause(*IDENTITY, seconds)
                held_until = max(held_until, clock.now + seconds)
            elif kind == "give back" and last is not None:
                unused = min(tokens, last.tokens)
                await ledger.give_back(*IDENTITY, lease=last, unused=unused)
                taken[-1] = (last.start, last.end - (last.end - last.start) * unused / last.tokens)
                last = None
            elif kind == "lease":
                last = await ledger.lease(*IDENTITY, tokens=tokens, rate_per_s=20, delay_s=0)
                assert last.start >= max(clock.now, held_until)
                assert last.end - last.start == pytest.approx(tokens / 20, abs=1e-5)
                assert not taken or last.start >= taken[-1][1] or last.start >= clock.now + 10
                taken.append((last.start, last.end))

    with_ledger(tmp_path_factory.mktemp("ledger") / "a.db", check, clock)


# The file


def file_modes(folder: Path) -> dict[str, int]:
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()}


def test_the_ledger_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    before = os.umask(0)
    try:

        async def check(ledger: SqliteLedger) -> None:
            job_id = await started(ledger)
            await ledger.record(job_id, intent())
            modes = file_modes(tmp_path)
            assert "a.db" in modes
            assert "a.db-wal" in modes
            assert set(modes.values()) == {0o600}, modes

        with_ledger(path, check)
    finally:
        os.umask(before)


@pytest.mark.parametrize("empty", [False, True], ids=["no file", "empty file"])
def test_no_ledger_is_made_for_a_reader(empty: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    if empty:
        path.touch()

    async def main() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor())
        assert not await ledger.open(create=False)
        await ledger.close()

    asyncio.run(main())
    assert [(one.name, one.stat().st_size) for one in tmp_path.iterdir()] == ([("a.db", 0)] if empty else [])


def test_a_ledger_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(LedgerError, match="is not open"):
            await SqliteLedger(tmp_path / "a.db", executor=InlineExecutor()).find_job("job")

    asyncio.run(main())


def refused(path: Path, *, kind: type[LedgerError] = LedgerError) -> str:
    """Open, expect a refusal, return its text; the file is as it was."""
    before = path.read_bytes() if path.is_file() else None

    async def main() -> str:
        ledger = SqliteLedger(path, executor=InlineExecutor())
        with pytest.raises(kind) as caught:
            await ledger.open(create=True)
        await ledger.close()
        assert type(caught.value) is kind
        return str(caught.value)

    said = asyncio.run(main())
    assert str(path) in said
    assert (path.read_bytes() if path.is_file() else None) == before
    return said


def test_a_newer_ledger_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def nothing(_ledger: SqliteLedger) -> None:
        pass

    with_ledger(path, nothing)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "version 99, from a newer bulksend" in refused(path, kind=LedgerVersionError)


def test_another_programs_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE job (x)")
    db.commit()
    db.close()
    assert "a database of another program" in refused(path)


def test_what_is_no_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_text("store_id,city\n" * 500)
    assert "is not a SQLite database" in refused(path)


def test_a_directory_and_a_missing_directory(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path)
    assert "there is no directory" in refused(tmp_path / "nowhere" / "a.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "there is no directory" in refused(tmp_path / "file" / "a.db")


def test_a_damaged_ledger_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def fill(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        await asyncio.gather(*(ledger.record(job_id, intent(f"k{number:05}")) for number in range(2000)))

    with_ledger(path, fill)
    content = bytearray(path.read_bytes())
    content[8192:] = b"\x55" * (len(content) - 8192)
    path.write_bytes(content)

    async def main() -> None:
        ledger = SqliteLedger(path, executor=InlineExecutor())
        with pytest.raises(LedgerError, match="is damaged"):  # noqa: PT012
            await ledger.open(create=True)
            job_id = await started(ledger)
            [page async for page in ledger.by_state(job_id, State.UNKNOWN)]
        await ledger.close()

    asyncio.run(main())


READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from bulksend.errors import LedgerError
from bulksend.ledger.database import _named
from bulksend.ledger.sqlite import SqliteLedger

async def start(path):
    ledger = SqliteLedger(Path(path))
    try:
        await ledger.open(create=True)
        await ledger.start_job("job", "the test")
    except LedgerError as wrong:
        print(wrong)
    await ledger.close()

asyncio.run(start(sys.argv[1] + ".other"))  # reads what it needs of the package, which nobody else may be able to
if os.getuid() == 0:
    os.setuid(65534)
asyncio.run(start(sys.argv[1]))
"""


@pytest.mark.parametrize("mode", [0o444, 0o000], ids=["read-only", "not readable"])
def test_a_ledger_that_this_user_may_not_write_is_said_plainly(mode: int) -> None:
    async def nothing(_ledger: SqliteLedger) -> None:
        pass

    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "a.db"
        with_ledger(path, nothing)
        path.chmod(mode)
        said = run_script(READ_ONLY, path)
        assert str(path) in said
        assert "it is read-only for this user" in said or "cannot be opened: check its" in said
        assert len(said.splitlines()) == 1


def run_script(script: str, path: Path) -> str:
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_a_full_disk_fails_the_transition_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        pages = connection(ledger).execute("PRAGMA page_count").fetchone()[0]
        connection(ledger).execute(f"PRAGMA max_page_count = {pages + 5}")
        acknowledged = []
        with pytest.raises(LedgerError, match="the disk is full"):  # noqa: PT012
            for number in range(10_000):
                await ledger.record(job_id, intent(f"k{number:05}" + "x" * 200))
                acknowledged.append(f"k{number:05}" + "x" * 200)
        assert [key for (key,) in rows(path, "SELECT key FROM send ORDER BY key")] == acknowledged
        assert rows(path, "SELECT sending FROM job") == [(len(acknowledged),)]
        with pytest.raises(LedgerError, match="the disk is full"):
            await ledger.record(job_id, intent("later"))

    with_ledger(path, check)


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from bulksend.errors import LedgerError
from bulksend.ledger.base import Intent, Scope
from bulksend.ledger.database import _named
from bulksend.ledger.sqlite import SqliteLedger

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.open(create=True)
    job, _ = await ledger.start_job("job", "the test")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    number = 0
    try:
        while True:
            await ledger.record(job.id, Intent(Scope.SEND, f"k{number}", "default", 1, 0, 11))
            number += 1
    except LedgerError as wrong:
        print(number, wrong)

asyncio.run(main())
"""


def test_a_file_system_that_takes_no_more_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    number, _, said = run_script(FULL, path).partition(" ")
    assert "cannot be written: the disk" in said
    assert rows(path, "SELECT count(*) FROM send") == [(int(number),)]


@pytest.mark.parametrize("statement", ["intend", "change", "invalid"])
def test_a_transition_goes_to_its_send_by_key_and_not_through_all_sends_of_the_job(
    statement: str, tmp_path: Path
) -> None:
    async def check(ledger: SqliteLedger) -> None:
        job_id = await started(ledger)
        for number in range(3):  # an order that is right for a few rows only would show with some there
            await ledger.record(job_id, intent(f"k{number}"))
        text = _named("queries.sql")[statement]
        given = {"job_id": job_id, "rows": "[]", "now": NOW}
        plan = [str(row[3]) for row in connection(ledger).execute(f"EXPLAIN QUERY PLAN {text}", given)]
        assert not [line for line in plan if "send" in line and "(job_id=? AND scope=? AND key=?)" not in line]
        assert plan

    with_ledger(tmp_path / "ledger.db", check)
