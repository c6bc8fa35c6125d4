"""The code is broken on purpose, a place at a time: the simulation finds each within a few dozen worlds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from bulksend.engine import caller
from bulksend.engine.limiter import Gate
from bulksend.engine.retry import Again
from bulksend.ledger import database
from bulksend.ledger.base import Change, Intent, Lease
from bulksend.ledger.group import GroupCommit
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Absent, Lost, NotSent, Rejected, State, Unknown, Untold
from bulksend.providers import PROVIDERS
from tests.simulation.promises import BrokenPromiseError, tell

WORLDS = 300
Patch = pytest.MonkeyPatch


def a_token_is_taken_before_the_commit(patch: Patch) -> None:
    real = Gate.turn
    taken: dict[Gate, list[asyncio.Task[None]]] = {}

    async def turn(self: Gate, owner: str = "") -> None:
        kept = taken.setdefault(self, [])
        first = kept.pop() if kept else asyncio.ensure_future(real(self, owner))
        await first
        if self._closed is None:
            kept.append(asyncio.ensure_future(real(self, owner)))
            kept[-1].add_done_callback(lambda task: task.cancelled() or task.exception())

    patch.setattr(Gate, "turn", turn)


def a_result_is_lost(patch: Patch) -> None:
    real = SqliteLedger.record

    async def record(self: SqliteLedger, job_id: int, transition: Any) -> None:
        if not (isinstance(transition, Change) and transition.to is State.ACCEPTED):
            await real(self, job_id, transition)

    patch.setattr(SqliteLedger, "record", record)


def an_unknown_is_tried_again(patch: Patch) -> None:
    real = caller.decide

    def decide(outcome: Any, *given: Any, **more: Any) -> Any:
        decision = real(outcome, *given, **more)
        return Again("once more", repeats=1) if isinstance(outcome, Unknown) and more["attempt"] < 3 else decision

    patch.setattr(caller, "decide", decide)


def a_lost_call_counts_as_not_sent(patch: Patch) -> None:
    real = caller.Caller._read

    def read(self: Any, lane: Any, step: Any, result: Any, *more: Any) -> Any:
        if isinstance(result, Lost):
            return NotSent(result.reason)
        return real(self, lane, step, result, *more)

    patch.setattr(caller.Caller, "_read", read)


def an_intent_is_not_waited_for(patch: Patch) -> None:
    real = GroupCommit.add

    async def add(self: GroupCommit[Any, Any], job_id: int, transition: Any) -> None:
        async def late() -> None:
            await asyncio.sleep(0.005)  # past the commit that gives the call its token, which would hold it, too
            await real(self, job_id, transition)

        if isinstance(transition, Intent):
            task = asyncio.ensure_future(late())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.sleep(0)
        else:
            await real(self, job_id, transition)

    patch.setattr(GroupCommit, "add", add)


def a_result_is_told_before_it_is_durable(patch: Patch) -> None:
    real = SqliteLedger.record

    async def record(self: SqliteLedger, job_id: int, transition: Any) -> None:
        if isinstance(transition, Change) and transition.to is State.ACCEPTED:
            task = asyncio.ensure_future(real(self, job_id, transition))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            await real(self, job_id, transition)

    patch.setattr(SqliteLedger, "record", record)


def a_crash_leaves_what_was_under_way_pending(patch: Patch) -> None:
    queries = database._named("queries.sql")
    patch.setitem(queries, "recover", queries["recover"].replace("state = 'unknown'", "state = 'pending'", 1))


def counts_are_not_kept(patch: Patch) -> None:
    patch.setitem(
        database._named("queries.sql"),
        "count",
        "UPDATE job SET accepted = accepted + ?2 + 0 * ?3 * ?4 * ?5 WHERE id = ?1",
    )


def the_window_is_forgotten_by_a_restart(patch: Patch) -> None:
    async def lease(self: SqliteLedger, *_: str, tokens: int, rate_per_s: float, delay_s: float) -> Lease:
        await asyncio.sleep(0)
        start = self._wall() + delay_s
        return Lease(start, start + tokens / rate_per_s, tokens)

    patch.setattr(SqliteLedger, "lease", lease)


def the_limiter_is_written_as_most_people_do(patch: Patch) -> None:
    limiters: dict[Gate, AsyncLimiter] = {}

    async def token(self: Gate) -> None:
        window = self.limit.windows[0]
        await limiters.setdefault(self, AsyncLimiter(window.calls, window.period_s)).acquire()

    patch.setattr(Gate, "_token", token)


def the_second_window_of_a_limit_is_overlooked(patch: Patch) -> None:
    real = Gate.__init__

    def init(self: Gate, identity: str, endpoint: str, limit: Any, *given: Any, **more: Any) -> None:
        real(self, identity, endpoint, replace(limit, windows=limit.windows[:1]), *given, **more)

    patch.setattr(Gate, "__init__", init)


def a_429_is_not_waited_for(patch: Patch) -> None:
    async def pause(self: Gate, seconds: float) -> None:
        await asyncio.sleep(0)

    patch.setattr(Gate, "pause", pause)


def a_server_error_counts_as_a_rejection(patch: Patch) -> None:
    real = caller.Caller._read

    def read(self: Any, *given: Any) -> Any:
        outcome = real(self, *given)
        return Rejected(outcome.reason, outcome.status) if isinstance(outcome, Unknown) and outcome.status else outcome

    patch.setattr(caller.Caller, "_read", read)


def absence_from_a_list_is_taken_as_proof(patch: Patch) -> None:
    provider = type(PROVIDERS["usercom"])
    real = provider.read_probe

    def read_probe(self: Any, probe: Any, reply: Any) -> Any:
        verdict = real(self, probe, reply)
        return Absent() if isinstance(verdict, Untold) else verdict

    patch.setattr(provider, "read_probe", read_probe)


REACHED_TWICE = r"reached people [23] times"
OVER = r"are allowed|over the vendor's limit|in a window of"
SABOTAGES: dict[Callable[[Patch], None], tuple[str, str]] = {
    a_token_is_taken_before_the_commit: ("insider", OVER),
    a_result_is_lost: ("insider", "is left sending|still counted"),
    an_unknown_is_tried_again: ("insider", REACHED_TWICE),
    a_lost_call_counts_as_not_sent: ("usercom", REACHED_TWICE),
    an_intent_is_not_waited_for: ("batch, direct", REACHED_TWICE),
    a_result_is_told_before_it_is_durable: ("insider", "was told as accepted"),
    a_crash_leaves_what_was_under_way_pending: ("batch, direct", REACHED_TWICE),
    counts_are_not_kept: ("usercom", "are counted as"),
    the_window_is_forgotten_by_a_restart: ("insider", OVER),
    the_limiter_is_written_as_most_people_do: ("stream", OVER),
    the_second_window_of_a_limit_is_overlooked: ("usercom", OVER),
    a_429_is_not_waited_for: ("batch", "was to wait until"),
    a_server_error_counts_as_a_rejection: ("insider", "is rejected, and it reached people"),
    absence_from_a_list_is_taken_as_proof: ("usercom", REACHED_TWICE),
}


def first_line(seed: int, way: str) -> str:
    """Return what was found in a world, nothing where all was well."""
    try:
        tell(seed, way)
    except BrokenPromiseError as wrong:
        said = str(wrong)
    else:
        return ""
    assert f'python -m tests.simulation --seed {seed} --way "{way}"' in said
    return said.splitlines()[0]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda one: one.__name__)
def test_the_simulation_finds_what_was_broken(sabotage: Callable[[Patch], None], monkeypatch: Patch) -> None:
    way, text = SABOTAGES[sabotage]
    sabotage(monkeypatch)
    said: set[str] = set()
    for seed in range(WORLDS):
        said.add(first_line(seed, way))
        if any(re.search(text, one) for one in said):
            return
    pytest.fail(f"not found in {WORLDS} worlds; found in their place: {sorted(said)[:3]}")
