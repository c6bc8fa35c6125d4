"""The life of a send: intent, gate, call, outcome; and the loop that keeps as many under way as the limit can use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from bulksend.engine.lane import Lane, Permits
from bulksend.engine.limiter import Gate, StoppedError
from bulksend.engine.retry import BUDGET_LEAST, BUDGET_SHARE, Abort, Again, Decision, Settle, decide
from bulksend.engine.stats import EndpointStats
from bulksend.engine.telling import Teller
from bulksend.engine.transport import Transport
from bulksend.errors import InterruptedRunError
from bulksend.ledger.base import Change, Intent, Invalid, Ledger, Scope, SendRecord
from bulksend.model import (
    Account,
    Endpoint,
    Event,
    Limit,
    Lost,
    NotSent,
    Outcome,
    Reply,
    Send,
    State,
    Step,
    Throttled,
    Unknown,
)
from bulksend.providers import Provider

__all__ = ["Sender"]

HELD_MOST = 2048
"""Sends that are rendered and wait, over all accounts: what memory holds of an audience."""


class Sender:
    """Delivers sends of one job through one ledger.

    Clock, sleeping and randomness come from outside: time is the event loop's, `wall` is seconds since the epoch,
    `random` is uniform in [0, 1). `observe` is called for every fact, on the event loop, and must not block.
    """

    def __init__(
        self,
        *,
        job: str,
        job_id: int,
        provider: Provider,
        ledger: Ledger,
        transport: Transport,
        limit_of: Callable[[str], Limit],
        wall: Callable[[], float],
        random: Callable[[], float],
        observe: Callable[[Event], None],
    ) -> None:
        self.job = job
        self.job_id = job_id
        self.stats: dict[str, EndpointStats] = {}
        self.calls = 0
        self.retried = 0
        self.throttled = 0
        self.failure: BaseException | None = None
        """Why the run cannot go on; the first reason wins."""
        self._provider = provider
        self._ledger = ledger
        self._transport = transport
        self._limit_of = limit_of
        self._wall = wall
        self._random = random
        self._tell = Teller(job, observe)
        self._gates: dict[tuple[str, str], Gate] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._stop = asyncio.Event()
        self._spent = 0

    @property
    def stopping(self) -> bool:
        """Say whether no new call is made any more."""
        return self._stop.is_set()

    def stop(self, failure: BaseException | None = None) -> None:
        """Make no new call; those under way finish and are recorded."""
        if failure is not None and self.failure is None:
            self.failure = failure
        if not self._stop.is_set():
            self._stop.set()
            for gate in self._gates.values():
                gate.close(StoppedError())

    async def close(self) -> None:
        """Give back what was leased of the limits and not used."""
        for gate in self._gates.values():
            gate.close(StoppedError())
            await gate.give_back()

    async def run(
        self,
        sends: AsyncIterator[tuple[Send, SendRecord | None]],
        settled: Callable[[Send, Settle], None],
        ref_of: Callable[[Send], Awaitable[str | None]],
    ) -> None:
        """Deliver sends as they come, about in their order, until all are settled or the run stops.

        Returns normally when it was stopped; `failure` then says whether there was a reason. `settled` is called once
        the outcome is durable; `ref_of` gives what the account's own calls gave, once they are made.
        """
        held = Permits(HELD_MOST)
        tasks: set[asyncio.Task[None]] = set()

        async def one(send: Send, record: SendRecord | None) -> None:
            try:
                ref = None if send.invalid is not None else await ref_of(send)
                settle = await self.deliver(Scope.SEND, send, record, ref=ref)
                if settle is not None:
                    settled(send, settle)
            except StoppedError:
                pass
            except Exception as wrong:
                self.stop(wrong)
            finally:
                held.release()

        try:
            async for send, record in sends:
                await held.acquire()
                if self.stopping:
                    held.release()
                    break
                task = asyncio.create_task(one(send, record))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
        except BaseException as wrong:
            if isinstance(wrong, Exception):
                self.stop(wrong)
                while tasks:
                    await asyncio.wait(tasks)
            else:
                self.stop(InterruptedRunError("the run was cancelled; run again to go on"))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise

    async def deliver(
        self, scope: Scope, send: Send, record: SendRecord | None, *, ref: str | None = None
    ) -> Settle | None:
        """Take one send through its steps; None when it was left pending because the run stops.

        `ref` is what the account's own step (a campaign create) gave.
        """
        if send.invalid is not None:
            invalid = Invalid(send.key, send.account.name, send.row, send.fingerprint, send.invalid)
            await self._ledger.record(self.job_id, invalid)
            settle = Settle(State.REJECTED, reason=send.invalid)
            self._tell.settled(send, None, settle, 0)
            return settle
        refs = list(record.refs) if record is not None else []
        number = record.step if record is not None else 0
        repeats = record.repeats if record is not None else 0
        while True:
            step = send.steps[number]
            before = refs[-1] if refs else ref
            settled = await self._deliver_step(scope, send, number, step, before, repeats)
            if settled is None:
                return None
            last = number == len(send.steps) - 1
            if settled.state is State.ACCEPTED and not last:
                change = Change(scope, send.key, State.SENDING, State.PENDING, number + 1, ref=settled.ref)
                await self._ledger.record(self.job_id, change)
                refs += [settled.ref] if settled.ref is not None else []
                number, repeats = number + 1, 0
                continue
            return settled

    async def _deliver_step(
        self, scope: Scope, send: Send, number: int, step: Step, ref: str | None, repeats: int
    ) -> Settle | None:
        lane = self._lane(send.account, step.endpoint)
        attempt = charged = 0
        last = number == len(send.steps) - 1
        while True:
            attempt += 1
            charged += 1
            outcome = await self._attempt(lane, scope, send, number, step, ref, repeats, attempt)
            if outcome is None:
                return None
            if isinstance(outcome, Throttled):
                self.throttled += 1
                self._stats(step.endpoint).throttled += 1
            self._count_episode(lane, outcome)
            decision = self._decide(lane, outcome, charged)
            if isinstance(decision, Settle):
                if decision.state is not State.ACCEPTED or last:
                    await self._settle(scope, send, number, step, decision, attempt)
                return decision
            returned = Change(
                scope,
                send.key,
                State.SENDING,
                State.PENDING,
                number,
                reason=decision.reason,
                status=decision.status,
                repeats=decision.repeats if isinstance(decision, Again) else 0,
            )
            if isinstance(decision, Abort):
                self.stop(decision.error)
                await self._ledger.record(self.job_id, returned)
                return None
            if decision.pause_s is not None:
                charged -= 1
                await self._pause(lane, decision, outcome)
            await self._ledger.record(self.job_id, returned)
            if self.stopping:
                self._tell.returned(send, step.endpoint, attempt, decision)
                return None
            repeats += decision.repeats
            if decision.pause_s is None:
                self._spent += 1
            self.retried += 1
            self._stats(step.endpoint).retried += 1
            self._tell.retried(send, step.endpoint, attempt, decision)
            await self._wait(decision.after_s)

    async def _attempt(
        self, lane: Lane, scope: Scope, send: Send, number: int, step: Step, ref: str | None, repeats: int, attempt: int
    ) -> Outcome | None:
        """Make one call; None when the run stopped before its intent was recorded."""
        loop = asyncio.get_running_loop()
        await lane.in_flight.acquire()
        try:
            while not self.stopping and lane.gate.paused_for_s > 0:
                await self._wait(lane.gate.paused_for_s)
            await lane.ahead.acquire()
            ahead = True
            try:
                if self.stopping:
                    return None
                began = loop.time()
                intent = Intent(scope, send.key, send.account.name, send.row, number, send.fingerprint)
                await self._ledger.record(self.job_id, intent)
                lane.committed(loop.time() - began)
                call = self._provider.call(step, send.account, lane.headers, ref=ref, repeats=repeats)
                waited = loop.time()

                async def leave() -> None:
                    nonlocal ahead
                    await lane.gate.turn()
                    if ahead:
                        ahead = False
                        lane.ahead.release()
                        self._left(lane, loop.time())

                result = await self._transport.send(call, leave)
            finally:
                if ahead:
                    lane.ahead.release()
            wait_s = loop.time() - waited
            outcome = self._read(lane, result, repeats)
            self._tell.called(lane, send, attempt, result, wait_s)
            return outcome
        finally:
            lane.in_flight.release()

    def _count_episode(self, lane: Lane, outcome: Outcome) -> None:
        """A pause counts once, however many calls were under way when it began."""
        if not isinstance(outcome, NotSent):
            lane.down_since_s = None
        elif lane.down_since_s is None:
            lane.down_since_s = asyncio.get_running_loop().time()
        if not isinstance(outcome, Throttled | NotSent):
            lane.episode = 0
        elif lane.gate.paused_for_s <= 0:
            lane.episode += 1

    def _decide(self, lane: Lane, outcome: Outcome, attempt: int) -> Decision:
        if isinstance(outcome, NotSent) and self.stopping:
            return Again(outcome.reason)
        return decide(
            outcome,
            lane.endpoint,
            attempt=attempt,
            episode=max(1, lane.episode),
            down_s=0.0 if lane.down_since_s is None else asyncio.get_running_loop().time() - lane.down_since_s,
            budget_left=max(BUDGET_LEAST, int(self.calls * BUDGET_SHARE)) - self._spent,
            period_s=lane.gate.period_s,
            now=self._wall(),
            random=self._random,
        )

    def _read(self, lane: Lane, result: Reply | Lost | NotSent, repeats: int) -> Outcome:
        if isinstance(result, NotSent):
            return result
        if isinstance(result, Lost):
            return Unknown(result.reason)
        lane.heard(result.duration_s)
        self._stats(lane.endpoint).answered(result.duration_s, asyncio.get_running_loop().time())
        return self._provider.read(lane.endpoint, result, repeats=repeats)

    async def _pause(self, lane: Lane, again: Again, outcome: Outcome) -> None:
        pause_s = again.pause_s or 0.0
        if lane.gate.paused_for_s < pause_s:
            fresh = lane.gate.paused_for_s <= 0
            if fresh and isinstance(outcome, Throttled) and outcome.retry_after is None:
                lane.gate.told_to_wait()
            await lane.gate.pause(pause_s)
            if fresh:
                self._tell.paused(lane, again)

    async def _settle(self, scope: Scope, send: Send, number: int, step: Step, settle: Settle, attempt: int) -> None:
        change = Change(
            scope,
            send.key,
            State.SENDING,
            settle.state,
            number,
            ref=settle.ref,
            reason=settle.reason,
            status=settle.status,
            repeats=settle.state is State.UNKNOWN,
        )
        await self._ledger.record(self.job_id, change)
        if scope is Scope.SEND:
            self._tell.settled(send, step.endpoint, settle, attempt)

    def _left(self, lane: Lane, at_s: float) -> None:
        self.calls += 1
        self._stats(lane.endpoint).left(lane.gate.identity, at_s)

    def _stats(self, endpoint: Endpoint) -> EndpointStats:
        stats = self.stats.get(endpoint.name)
        if stats is None:
            stats = self.stats[endpoint.name] = EndpointStats(self._limit_of(endpoint.name))
        return stats

    def _lane(self, account: Account, endpoint: Endpoint) -> Lane:
        lane = self._lanes.get((account.name, endpoint.name))
        if lane is None:
            gate = self._gates.get((account.identity, endpoint.name))
            if gate is None:
                limit = self._limit_of(endpoint.name)
                told = partial(self._tell.limit_changed, endpoint, account)
                gate = Gate(account.identity, endpoint.name, limit, self._ledger, wall=self._wall, on_change=told)
                self._gates[account.identity, endpoint.name] = gate
                if self.stopping:
                    gate.close(StoppedError())
            lane = Lane(account, endpoint, self._provider.headers(account), gate)
            self._lanes[account.name, endpoint.name] = lane
        return lane

    async def _wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the run stops."""
        if seconds > 0 and not self.stopping:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                pass
