"""The life of a send: intent, gate, call, outcome; and the loop that keeps as many under way as the limit can use."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Unpack

import msgspec

from bulksend.engine.breaker import outage_of
from bulksend.engine.caller import Caller
from bulksend.engine.lane import Lane, Permit, Permits
from bulksend.engine.limiter import StoppedError
from bulksend.engine.retry import Abort, Again, Settle, backoff_s
from bulksend.engine.wire import Surroundings
from bulksend.errors import InterruptedRunError, PrepareError
from bulksend.ledger.base import Change, Intent, Invalid, Scope, SendRecord
from bulksend.model import (
    Absent,
    Found,
    NotSent,
    Outcome,
    Probe,
    Repeat,
    Reply,
    Send,
    State,
    Step,
    Unknown,
    Untold,
)
from bulksend.providers import SendName

__all__ = ["HELD_MOST", "Sender"]

HELD_MOST = 2048
"""Sends that are rendered and wait, in one stream of them: what memory holds of an audience."""
TOO_LATE = "not sent: its time has passed"
MAYBE_TOO_LATE = "an earlier call may have arrived, and the time to make it again has passed"
FOLLOWED_DOWN_S = 600.0
"""For how long an endpoint may be down before what is followed by it is followed no more."""
LOOKS_MOST = 4
"""How often a lookup is tried whose answer does not come."""


class _TooLateError(Exception):
    """The time of a call has passed while it waited for its turn."""


class Sender(Caller):
    """Delivers sends of one job through one ledger; the sends of an account that ends stay pending."""

    def __init__(self, *, job_id: int, **surroundings: Unpack[Surroundings]) -> None:
        super().__init__(**surroundings)
        self.job_id = job_id
        self.tally: Counter[str] = Counter()
        """What the vendor said that followed campaigns came to."""
        self.overdue = 0
        """Sends that stand as unknown in the ledger, and whose reply is still waited for."""

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
            permit = Permit(held)
            try:
                begun = send.steps[0 if record is None else record.step :]
                useless = send.invalid is not None or any(self.is_past(step) for step in begun)
                ref = None if useless else await ref_of(send)
                settle = await self.deliver(Scope.SEND, send, record, ref=ref, watching=permit.release)
                if settle is not None:
                    settled(send, settle)
            except StoppedError:
                pass
            except PrepareError as wrong:
                self.fail(send.account, wrong)
            except Exception as wrong:
                self.stop(wrong)
            finally:
                permit.release()

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
        self,
        scope: Scope,
        send: Send,
        record: SendRecord | None,
        *,
        ref: str | None = None,
        watching: Callable[[], None] = lambda: None,
    ) -> Settle | None:
        """Take one send through its steps; None when it was left pending because the run stops.

        `ref` is what the account's own step (a campaign create) gave. `watching` is called once nothing is left but to
        follow the send to its end, which may take hours and keeps no other from being made.
        """
        if send.invalid is not None:
            return await self._refuse(send, send.invalid)
        refs = list(record.refs) if record is not None else []
        number = record.step if record is not None else 0
        repeats = record.repeats if record is not None else 0
        if number >= len(send.steps):
            # All that is left of it was to be followed, which the job does not ask for any more.
            settle = Settle(State.ACCEPTED)
            await self._ledger.record(self.job_id, Change(scope, send.key, State.PENDING, settle.state, number))
            self._tell.settled(send, None, settle, 0)
            return settle
        while True:
            step = send.steps[number]
            # A step is of no use once a later one's time has passed.
            times = [one.not_after for one in send.steps[number:] if one.not_after is not None]
            found = step.ref if step.ref is not None else refs[-1] if refs else ref
            if times or found is not step.ref:
                step = msgspec.structs.replace(step, ref=found, not_after=min(times, default=None))
            if step.endpoint.reads:
                watching()
            settled = await self._deliver_step(scope, send, number, step, repeats, watching)
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

    async def _too_late(self, send: Send, number: int, step: Step, repeats: int) -> Settle:
        """Settle a send whose time has passed: rejected, unless an earlier call may have had its effect."""
        if not repeats or step.endpoint.repeat is Repeat.SAFE:
            return await self._refuse(send, TOO_LATE)
        settle = Settle(State.UNKNOWN, reason=MAYBE_TOO_LATE)
        change = Change(Scope.SEND, send.key, State.PENDING, settle.state, number, reason=settle.reason)
        await self._ledger.record(self.job_id, change)
        self._tell.settled(send, step.endpoint, settle, 0)
        return settle

    async def _refuse(self, send: Send, reason: str) -> Settle:
        """Record a send as rejected without a call; it must not be on its way."""
        invalid = Invalid(send.key, send.account.name, send.row, send.fingerprint, reason)
        await self._ledger.record(self.job_id, invalid)
        settle = Settle(State.REJECTED, reason=reason)
        self._tell.settled(send, None, settle, 0)
        return settle

    async def _deliver_step(
        self, scope: Scope, send: Send, number: int, step: Step, repeats: int, watching: Callable[[], None]
    ) -> Settle | None:
        lane = self._lane(send.account, step.endpoint)
        attempt = charged = 0
        last = number == len(send.steps) - 1
        while True:
            attempt += 1
            charged += 1
            if scope is Scope.SEND and self.is_past(step):
                return await self._too_late(send, number, step, repeats)
            if step.every_s:
                await lane.polls.acquire()
                outage = self._end_of_following(lane)
                if outage is not None:
                    lane.polls.release()
                    settle = Settle(State.ACCEPTED, reason=f"started; its end is not known: {outage}")
                    await self._settle(scope, send, number, step, settle, attempt, State.PENDING)
                    return settle
            try:
                outcome, noted = await self._attempt(lane, scope, send, number, step, repeats, attempt, watching)
            except _TooLateError:
                return await self._too_late(send, number, step, repeats)
            finally:
                if step.every_s:
                    lane.polls.release()
            if outcome is None:
                return None
            verdict = await self.ask(send, step) if isinstance(outcome, Unknown) else None
            self._count(lane, step, outcome)
            # What is only followed is not worth to wait for the end of an outage.
            is_down = isinstance(outcome, Unknown) and lane.gate.circuit.is_open and not step.every_s
            charged -= is_down
            decision = self._decide(lane, step, outcome, charged, verdict)
            if noted is State.UNKNOWN and not isinstance(decision, Settle):
                # What came late and settles nothing leaves it as it stands.
                if isinstance(decision, Abort):
                    self.fail(send.account, decision.error)
                decision = Settle(State.UNKNOWN, reason=decision.reason, status=decision.status)
            if isinstance(decision, Settle):
                if step.every_s and decision.state is not State.ACCEPTED:
                    # It was started, whatever became of the wish to follow it.
                    decision = Settle(State.ACCEPTED, reason=f"started; its end is not known: {decision.reason}")
                self.tally.update(decision.tally)
                if decision.state is not State.ACCEPTED or last:
                    await self._settle(scope, send, number, step, decision, attempt, noted)
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
            if scope is Scope.SEND and self.is_past(step) and isinstance(outcome, NotSent):
                continue  # its time passed at the gate: nothing of it was the vendor's or the network's doing
            if decision.progress is not None:
                charged = 0
                self._tell.watched(send, step.endpoint, decision.progress)
                await self._wait(decision.after_s, send.account)
                continue
            repeats += decision.repeats
            if decision.pause_s is None and not is_down:
                self._spent += 1
            self.retried += 1
            self._stats(step.endpoint).retried += 1
            self._tell.retried(send, step.endpoint, attempt, decision)
            await self._wait(decision.after_s, send.account)

    def _end_of_following(self, lane: Lane) -> str | None:
        """Say why nothing is followed any more: where it is asked for, nobody has answered for too long."""
        down_since_s = lane.gate.circuit.down_since_s
        if down_since_s is None or asyncio.get_running_loop().time() - down_since_s < FOLLOWED_DOWN_S:
            return None
        return outage_of(lane.gate)

    async def ask(self, send: Send, step: Step) -> Found | Absent | Untold | None:
        """Ask the vendor whether a step of unknown effect had it; None where nothing can tell."""
        name = SendName(self.job, send.key)
        probe = self._provider.probe(step.endpoint, send.account, name=name, ref=step.ref)
        while probe is not None:
            reply = await self._look_up(send, probe)
            verdict = reply if isinstance(reply, Untold) else self._provider.read_probe(probe, reply)
            if not isinstance(verdict, Probe):
                return verdict
            probe = verdict
        return None

    async def _look_up(self, send: Send, probe: Probe) -> Reply | Untold:
        """Make one lookup, a few times if need be; what changes nothing needs no intent."""
        await self._wait(backoff_s(1, self._random), send.account)
        reply, outcome = await self.request(send, probe.step, tries=LOOKS_MOST)
        if reply is not None and not isinstance(outcome, Unknown):
            return reply
        reason = outcome.reason if isinstance(outcome, Unknown | NotSent) else "the run ended before"
        return Untold(f"the lookup failed: {reason}")

    async def _attempt(
        self,
        lane: Lane,
        scope: Scope,
        send: Send,
        number: int,
        step: Step,
        repeats: int,
        attempt: int,
        watching: Callable[[], None],
    ) -> tuple[Outcome | None, State]:
        """Make one call; no outcome when the run stopped before its intent was recorded.

        With the outcome, as what the ledger has the send by now: `unknown` where the reply did not come in time.
        """
        account, gate = send.account, lane.gate
        await lane.in_flight.acquire()
        flight = Permit(lane.in_flight)
        late = None
        # Only where nothing else can be done about a lost reply is it worth to wait longer for it.
        if scope is Scope.SEND and number == len(send.steps) - 1 and step.endpoint.repeat is Repeat.NEVER:
            late = _Late(partial(self._note_overdue, send, number), flight, watching)
        try:
            while not self.is_over(account) and gate.paused_for_s > 0 and not self.is_past(step):
                left_s = math.inf if step.not_after is None else step.not_after - self._wall() + 0.001
                await self._wait(min(gate.paused_for_s, left_s), account)
            await lane.ahead.acquire()
            ahead = Permit(lane.ahead)
            try:
                if self.is_over(account):
                    return None, State.PENDING
                if scope is Scope.SEND and self.is_past(step):
                    raise _TooLateError
                if not step.endpoint.reads:
                    loop = asyncio.get_running_loop()
                    began = loop.time()
                    intent = Intent(scope, send.key, account.name, send.row, number, send.fingerprint)
                    await self._ledger.record(self.job_id, intent)
                    lane.committed(loop.time() - began)
                result = await self._exchange(lane, send, step, repeats, attempt, ahead, late)
            finally:
                ahead.release()
            if late is None or late.noting is None:
                return self._read(lane, step, result, repeats), State.SENDING
            await late.noting
            return self._read(lane, step, result, repeats), State.UNKNOWN
        finally:
            flight.release()

    async def _note_overdue(self, send: Send, number: int) -> None:
        """Record that nobody knows what became of a send, as long as nobody does."""
        reason = "no whole reply in time; it is still waited for"
        change = Change(Scope.SEND, send.key, State.SENDING, State.UNKNOWN, number, reason=reason, repeats=1)
        await self._ledger.record(self.job_id, change)
        self.overdue += 1

    async def _settle(
        self, scope: Scope, send: Send, number: int, step: Step, settle: Settle, attempt: int, noted: State
    ) -> None:
        """Record an outcome, and tell it; `noted` is what the ledger has the send as."""
        change = Change(
            scope,
            send.key,
            State.PENDING if step.endpoint.reads else noted,
            settle.state,
            number,
            ref=settle.ref,
            reason=settle.reason,
            status=settle.status,
            repeats=settle.state is State.UNKNOWN and noted is not State.UNKNOWN,
        )
        await self._ledger.record(self.job_id, change)
        self.overdue -= noted is State.UNKNOWN
        if scope is Scope.SEND:
            self._tell.settled(send, step.endpoint, settle, attempt)


class _Late:
    """Called when the reply of a send is overdue: has that noted, and lets others take the send's place."""

    __slots__ = ("_flight", "_note", "_watching", "noting")

    def __init__(
        self, note: Callable[[], Coroutine[None, None, None]], flight: Permit, watching: Callable[[], None]
    ) -> None:
        self._note = note
        self._flight = flight
        self._watching = watching
        self.noting: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Note it in the ledger."""
        self.noting = asyncio.get_running_loop().create_task(self._note())
        # Where the ledger fails, the call's own way may end for that before it comes to ask.
        self.noting.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._flight.release()
        self._watching()
