"""The life of a send: intent, gate, call, outcome; and the loop that keeps as many under way as the limit can use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial

from bulksend.engine.lane import Lane, Permits
from bulksend.engine.limiter import Gate, StoppedError
from bulksend.engine.retry import BUDGET_LEAST, BUDGET_SHARE, Abort, Again, Decision, Settle, backoff_s, decide
from bulksend.engine.stats import EndpointStats
from bulksend.engine.telling import Teller
from bulksend.engine.transport import Transport
from bulksend.errors import InterruptedRunError, PrepareError
from bulksend.ledger.base import Change, Intent, Invalid, Ledger, Scope, SendRecord
from bulksend.model import (
    Absent,
    Account,
    Endpoint,
    Event,
    Found,
    Limit,
    Lost,
    NotSent,
    Outcome,
    Probe,
    Reply,
    Send,
    State,
    Step,
    Throttled,
    Unknown,
    Untold,
)
from bulksend.providers import Provider, SendName

__all__ = ["Sender"]

HELD_MOST = 2048
"""Sends that are rendered and wait, in one stream of them: what memory holds of an audience."""
LOOKS_MOST = 4
"""How often a lookup is tried whose answer does not come."""


class Sender:
    """Delivers sends of one job through one ledger.

    Clock, sleeping and randomness come from outside: time is the event loop's, `wall` is seconds since the epoch,
    `random` is uniform in [0, 1). `observe` is called for every fact, on the event loop, and must not block. `contract`
    names the endpoints whose limit the user has set, so that what the vendor's replies say does not change it.

    An account that cannot go on (its credentials are refused, its vendor not reached) ends by itself: its sends stay
    pending, the others' go on.
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
        contract: Collection[str] = (),
    ) -> None:
        self.job = job
        self.job_id = job_id
        self.stats: dict[str, EndpointStats] = {}
        self.calls = 0
        self.retried = 0
        self.throttled = 0
        self.failure: BaseException | None = None
        """Why the run, or an account's part of it, cannot go on; the first reason wins."""
        self.tally: Counter[str] = Counter()
        """What the vendor said that followed campaigns came to."""
        self._provider = provider
        self._ledger = ledger
        self._transport = transport
        self._limit_of = limit_of
        self._wall = wall
        self._random = random
        self._tell = Teller(job, observe)
        self._gates: dict[tuple[str, str], Gate] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._contract = frozenset(contract)
        self._stopping = False
        self._failed: set[str] = set()
        self._ends: dict[str, asyncio.Event] = {}
        """By account, what its sleepers wait for beside time: that it is over."""
        self._spent = 0

    @property
    def stopping(self) -> bool:
        """Say whether no new call is made any more."""
        return self._stopping

    def is_over(self, account: Account) -> bool:
        """Say whether no new call is made for this account any more."""
        return self._stopping or account.name in self._failed

    def stop(self, failure: BaseException | None = None) -> None:
        """Make no new call; those under way finish and are recorded."""
        if failure is not None and self.failure is None:
            self.failure = failure
        if not self._stopping:
            self._stopping = True
            for gate in self._gates.values():
                gate.close(StoppedError())
            for end in self._ends.values():
                end.set()

    def fail(self, account: Account, failure: BaseException) -> None:
        """Make no new call for this account; the others go on."""
        if self.failure is None:
            self.failure = failure
        self._failed.add(account.name)
        self._end_of(account).set()
        in_use = {id(lane.gate) for lane in self._lanes.values() if lane.account.name not in self._failed}
        for lane in self._lanes.values():
            if lane.account.name == account.name and id(lane.gate) not in in_use:
                lane.gate.close(StoppedError())

    def _end_of(self, account: Account) -> asyncio.Event:
        end = self._ends.get(account.name)
        if end is None:
            end = self._ends[account.name] = asyncio.Event()
            if self._stopping:
                end.set()
        return end

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
        *,
        held_most: int = HELD_MOST,
        one_account: bool = False,
    ) -> None:
        """Deliver sends as they come, about in their order, until all are settled or the run stops.

        Returns normally when it was stopped; `failure` then says whether there was a reason. `settled` is called once
        the outcome is durable; `ref_of` gives what the account's own calls gave, once they are made. With
        `one_account`, all sends are of one account, and none is drawn any more once that is over.
        """
        held = Permits(held_most)
        tasks: set[asyncio.Task[None]] = set()

        async def one(send: Send, record: SendRecord | None) -> None:
            try:
                ref = None if send.invalid is not None else await ref_of(send)
                settle = await self.deliver(Scope.SEND, send, record, ref=ref)
                if settle is not None:
                    settled(send, settle)
            except StoppedError:
                pass
            except PrepareError as wrong:
                self.fail(send.account, wrong)
            except Exception as wrong:
                self.stop(wrong)
            finally:
                held.release()

        try:
            async for send, record in sends:
                await held.acquire()
                if self.is_over(send.account):
                    held.release()
                    if self.stopping or one_account:
                        break
                    continue
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
            verdict = await self.ask(send, step, ref) if isinstance(outcome, Unknown) else None
            if isinstance(outcome, Throttled):
                self.throttled += 1
                self._stats(step.endpoint).throttled += 1
            self._count_episode(lane, outcome)
            decision = self._decide(lane, step, outcome, charged, verdict)
            if isinstance(decision, Settle):
                if step.every_s and decision.state is not State.ACCEPTED:
                    # It was started, whatever became of the wish to follow it.
                    decision = Settle(State.ACCEPTED, reason=f"started; its end is not known: {decision.reason}")
                self.tally.update(decision.tally)
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
                self.fail(send.account, decision.error)
            elif decision.pause_s is not None:
                charged -= 1
                await self._pause(lane, decision, outcome)
            if not step.endpoint.reads:
                await self._ledger.record(self.job_id, returned)
            if isinstance(decision, Abort):
                return None
            if self.is_over(send.account):
                self._tell.returned(send, step.endpoint, attempt, decision)
                return None
            if decision.progress is not None:
                charged = 0
                self._tell.watched(send, step.endpoint, decision.progress)
                await self._wait(decision.after_s, send.account)
                continue
            repeats += decision.repeats
            if decision.pause_s is None:
                self._spent += 1
            self.retried += 1
            self._stats(step.endpoint).retried += 1
            self._tell.retried(send, step.endpoint, attempt, decision)
            await self._wait(decision.after_s, send.account)

    async def ask(self, send: Send, step: Step, ref: str | None) -> Found | Absent | Untold | None:
        """Ask the vendor whether a step of unknown effect had it; None where nothing can tell.

        `ref` is what the step before gave.
        """
        name = SendName(self.job, send.key)
        probe = self._provider.probe(step.endpoint, send.account, name=name, ref=step.ref or ref)
        while probe is not None:
            reply = await self._look_up(send, probe)
            verdict = reply if isinstance(reply, Untold) else self._provider.read_probe(probe, reply)
            if not isinstance(verdict, Probe):
                return verdict
            probe = verdict
        return None

    async def _look_up(self, send: Send, probe: Probe) -> Reply | Untold:
        """Make one lookup, a few times if need be; what changes nothing needs no intent."""
        lane = self._lane(send.account, probe.step.endpoint)
        attempt = 0
        reason = "the run ended before it could be looked up"
        while attempt < LOOKS_MOST:
            attempt += 1
            await self._wait(backoff_s(attempt, self._random), send.account)
            result = await self._read_only(lane, send, probe.step, attempt)
            if result is None:
                break
            outcome = self._read(lane, probe.step, result, 0)
            self._count_episode(lane, outcome)
            decision = self._decide(lane, probe.step, outcome, 1, None)
            if isinstance(decision, Again) and decision.pause_s is not None:
                attempt -= isinstance(outcome, Throttled)
                await self._pause(lane, decision, outcome)
            elif isinstance(result, Reply) and not isinstance(outcome, Unknown):
                return result
            elif isinstance(decision, Settle | Again):
                reason = f"the lookup failed: {decision.reason}"
        return Untold(reason)

    async def _read_only(self, lane: Lane, send: Send, step: Step, attempt: int) -> Reply | Lost | NotSent | None:
        await lane.in_flight.acquire()
        try:
            while not self.is_over(send.account) and lane.gate.paused_for_s > 0:
                await self._wait(lane.gate.paused_for_s, send.account)
            if self.is_over(send.account):
                return None
            return await self._exchange(lane, send, step, None, 0, attempt, lambda: None)
        finally:
            lane.in_flight.release()

    async def _attempt(
        self, lane: Lane, scope: Scope, send: Send, number: int, step: Step, ref: str | None, repeats: int, attempt: int
    ) -> Outcome | None:
        """Make one call; None when the run stopped before its intent was recorded."""
        loop = asyncio.get_running_loop()
        await lane.in_flight.acquire()
        try:
            while not self.is_over(send.account) and lane.gate.paused_for_s > 0:
                await self._wait(lane.gate.paused_for_s, send.account)
            await lane.ahead.acquire()
            ahead = True

            def left() -> None:
                nonlocal ahead
                if ahead:
                    ahead = False
                    lane.ahead.release()

            try:
                if self.is_over(send.account):
                    return None
                if not step.endpoint.reads:
                    began = loop.time()
                    intent = Intent(scope, send.key, send.account.name, send.row, number, send.fingerprint)
                    await self._ledger.record(self.job_id, intent)
                    lane.committed(loop.time() - began)
                result = await self._exchange(lane, send, step, ref, repeats, attempt, left)
            finally:
                left()
            return self._read(lane, step, result, repeats)
        finally:
            lane.in_flight.release()

    async def _exchange(
        self,
        lane: Lane,
        send: Send,
        step: Step,
        ref: str | None,
        repeats: int,
        attempt: int,
        left: Callable[[], None],
    ) -> Reply | Lost | NotSent:
        """Put one call through the gate and onto the wire; `left` is called as it leaves."""
        loop = asyncio.get_running_loop()
        call = self._provider.call(step, send.account, lane.headers, ref=ref, repeats=repeats)
        waited = loop.time()
        has_left = False

        async def leave() -> None:
            nonlocal has_left
            await lane.gate.turn()
            if self.is_over(send.account):
                raise StoppedError
            if not has_left:
                has_left = True
                left()
                self._left(lane, loop.time())

        result = await self._transport.send(call, leave)
        self._tell.called(lane, send, attempt, result, loop.time() - waited)
        if isinstance(result, Reply):
            await self._note_standing(lane, result)
        return result

    async def _note_standing(self, lane: Lane, reply: Reply) -> None:
        """Keep to what the vendor says of its own count: its limit, and that nothing is left of it."""
        standing = self._provider.standing(reply)
        if standing is None:
            return
        if standing.limit is not None and lane.endpoint.name not in self._contract:
            lane.gate.correct(standing.limit)
            self._stats(lane.endpoint).limit = standing.limit
        if standing.remaining == 0 and standing.reset_at is not None:
            await lane.gate.pause(min(max(standing.reset_at - self._wall(), 0.0), lane.gate.period_s))

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

    def _decide(
        self, lane: Lane, step: Step, outcome: Outcome, attempt: int, verdict: Found | Absent | Untold | None
    ) -> Decision:
        if isinstance(outcome, NotSent) and self.is_over(lane.account):
            return Again(outcome.reason)
        return decide(
            outcome,
            step.endpoint,
            verdict=verdict,
            attempt=attempt,
            episode=max(1, lane.episode),
            down_s=0.0 if lane.down_since_s is None else asyncio.get_running_loop().time() - lane.down_since_s,
            budget_left=max(BUDGET_LEAST, int(self.calls * BUDGET_SHARE)) - self._spent,
            period_s=lane.gate.period_s,
            now=self._wall(),
            random=self._random,
        )

    def _read(self, lane: Lane, step: Step, result: Reply | Lost | NotSent, repeats: int) -> Outcome:
        if isinstance(result, NotSent):
            return result
        if isinstance(result, Lost):
            return Unknown(result.reason)
        lane.heard(result.duration_s)
        self._stats(lane.endpoint).answered(result.duration_s, asyncio.get_running_loop().time())
        return self._provider.read(step, result, repeats=repeats)

    async def _pause(self, lane: Lane, again: Again, outcome: Outcome) -> None:
        pause_s = again.pause_s or 0.0
        if lane.gate.paused_for_s < pause_s:
            fresh = lane.gate.paused_for_s <= 0
            told = isinstance(outcome, Throttled) and (outcome.retry_after, outcome.reset_at) != (None, None)
            if fresh and isinstance(outcome, Throttled) and not told:
                lane.gate.told_to_wait()
            await lane.gate.pause(pause_s)
            if fresh:
                self._tell.paused(lane, again)

    async def _settle(self, scope: Scope, send: Send, number: int, step: Step, settle: Settle, attempt: int) -> None:
        change = Change(
            scope,
            send.key,
            State.PENDING if step.endpoint.reads else State.SENDING,
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

    async def _wait(self, seconds: float, account: Account) -> None:
        """Sleep, but no longer than until the run, or the account's part of it, stops."""
        if seconds > 0 and not self.is_over(account):
            try:
                async with asyncio.timeout(seconds):
                    await self._end_of(account).wait()
            except TimeoutError:
                pass
