"""The launch of a job: what is not yet settled in the ledger is sent, guarded by [policy]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import islice

from bulksend.engine.guards import RejectGuard
from bulksend.engine.limiter import StoppedError
from bulksend.engine.retry import Settle
from bulksend.engine.sender import Sender
from bulksend.errors import GuardError, JobError, PrepareError, Problem
from bulksend.job.render import Renderer
from bulksend.job.spec import Policy
from bulksend.ledger.base import Change, Ledger, Scope, SendRecord
from bulksend.model import Account, Event, EventName, Repeat, Send, State

__all__ = ["Launch", "SendSource"]

LOOK_UP = 500
RESENDS_MOST = 1
"""How often `on_unknown = "resend"` makes a call again whose effect is not known."""

SendSource = Callable[[], AsyncIterator[list[Send]]]
"""Gives the sends of the job, in order, from the beginning each time it is called."""


class Launch:
    """One run of a launch job. `accepted`, `rejected`, `unknown` count this run's view of every send it came across."""

    def __init__(
        self,
        *,
        sender: Sender,
        ledger: Ledger,
        job_id: int,
        renderer: Renderer,
        policy: Policy,
        started_at: float,
        observe: Callable[[Event], None],
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._job_id = job_id
        self._renderer = renderer
        self._policy = policy
        self._started_at = started_at
        self._observe = observe
        self._prepared: dict[str, asyncio.Task[str | None]] = {}
        self._rejects = RejectGuard(policy.stop_after) if policy.stop_after is not None else None
        self.seen: dict[State, int] = dict.fromkeys(State, 0)
        self.changed = 0
        self._under_way: dict[str, int] = {}
        """Row by key of what is rendered and not yet settled."""
        self._left_over: list[tuple[Send, SendRecord | None]] = []
        """What the canary drew and did not need."""

    async def run(self, source: SendSource, *, accepted_before: int) -> None:
        """Send what is pending; returns when all is settled or the sender stopped.

        With `canary`, the first N sends of the job must be accepted before any other goes: those that an earlier run
        had accepted count.
        """
        canary = self._policy.canary or 0
        pending = self._pending(source)
        if canary > accepted_before:
            await self._canary(pending, canary - accepted_before)
        await self._sender.run(self._each(pending), self._settled, self.ref_of)
        if self._policy.resend_unknown and not self._sender.stopping:
            await self._sender.run(self._each(self._unknown(source)), self._settled, self.ref_of)

    async def _canary(self, pending: AsyncIterator[list[tuple[Send, SendRecord | None]]], number: int) -> None:
        taken = 0
        failed: list[tuple[Send, Settle]] = []

        def settled(send: Send, settle: Settle) -> None:
            self._settled(send, settle)
            if settle.state is not State.ACCEPTED:
                failed.append((send, settle))

        async def first() -> AsyncIterator[tuple[Send, SendRecord | None]]:
            nonlocal taken
            while taken < number and not failed:
                batch = await anext(pending, None)
                if batch is None:
                    return
                for index, item in enumerate(batch):
                    if taken == number or failed:
                        self._left_over = batch[index:]
                        return
                    taken += 1
                    yield item

        await self._sender.run(first(), settled, self.ref_of)
        if failed:
            send, settle = failed[0]
            text = (
                f"canary: of the first {number} sends, the one with key {send.key} (row {send.row}) was {settle.state}"
            )
            self.guard(f"{text}: {settle.reason}; the rest was not sent")
        elif taken and not self._sender.stopping:
            self._observe(Event(EventName.CANARY_PASSED, self._sender.job, count=taken))

    async def _each(
        self, batches: AsyncIterator[list[tuple[Send, SendRecord | None]]]
    ) -> AsyncIterator[tuple[Send, SendRecord | None]]:
        left_over, self._left_over = self._left_over, []
        for item in left_over:
            yield item
        async for batch in batches:
            for item in batch:
                yield item

    def guard(self, text: str) -> None:
        """Stop the run for a guard's reason."""
        if not self._sender.stopping:
            self._observe(Event(EventName.GUARD_STOPPED, self._sender.job, reason=text))
        self._sender.stop(GuardError(text))

    def _settled(self, send: Send, settle: Settle) -> None:
        self._under_way.pop(send.key, None)
        self.seen[settle.state] += 1
        if self._rejects is not None and self._rejects.add(settle.state) and not self._sender.stopping:
            share = f"{self._policy.stop_after:.1%}".replace(".0%", "%")
            number = self._rejects.rejected
            self.guard(f"stop_after: {number} of the last 200 sends were rejected, the limit is {share}")

    async def _pending(self, source: SendSource) -> AsyncIterator[list[tuple[Send, SendRecord | None]]]:
        """Yield what the ledger does not have as settled; tells of a settled key whose payload is another now."""
        async for sends in source():
            for some in _pages(sends, LOOK_UP):
                records = await self._ledger.look_up(self._job_id, Scope.SEND, [send.key for send in some])
                batch: list[tuple[Send, SendRecord | None]] = []
                for send in some:
                    record = records.get(send.key)
                    self._refuse_duplicate(send, record)
                    if record is None or record.state is State.PENDING:
                        self._under_way[send.key] = send.row
                        batch.append((send, record))
                        continue
                    self.seen[record.state] += 1
                    if record.fingerprint != send.fingerprint:
                        self._tell_changed(send, record)
                if batch:
                    yield batch

    def _refuse_duplicate(self, send: Send, record: SendRecord | None) -> None:
        """A key that this very run has met before is no resumption: two rows claim it."""
        row = self._under_way.get(send.key)
        if row is None and record is not None and record.attempts and record.at > self._started_at:
            row = record.row if record.state is not State.PENDING else None
        if row is not None:
            raise JobError(Problem(f"row {row} has the same key", row=send.row, key=send.key))

    def _tell_changed(self, send: Send, record: SendRecord) -> None:
        self.changed += 1
        self._observe(
            Event(
                EventName.SEND_CHANGED,
                self._sender.job,
                account=send.account.name,
                key=send.key,
                row=send.row,
                status=record.status,
                reason=f"{record.state} earlier with another payload; not sent again",
            )
        )

    async def _unknown(self, source: SendSource) -> AsyncIterator[list[tuple[Send, SendRecord | None]]]:
        """Yield, once more, each send whose fate is not known and that was not resent before."""
        async for sends in source():
            for some in _pages(sends, LOOK_UP):
                records = await self._ledger.look_up(self._job_id, Scope.SEND, [send.key for send in some])
                batch: list[tuple[Send, SendRecord | None]] = []
                for send in some:
                    record = records.get(send.key)
                    if record is None or record.state is not State.UNKNOWN or record.repeats > RESENDS_MOST:
                        continue
                    change = Change(Scope.SEND, send.key, State.UNKNOWN, State.PENDING, record.step, reason="resend")
                    await self._ledger.record(self._job_id, change)
                    self.seen[State.UNKNOWN] -= 1
                    batch.append((send, record))
                if batch:
                    yield batch

    async def ref_of(self, send: Send) -> str | None:
        """Return what the account's own calls gave, making them once where they were not made yet."""
        name = send.account.name
        task = self._prepared.get(name)
        if task is None:
            task = self._prepared[name] = asyncio.create_task(self._prepare(send.account))
        return await asyncio.shield(task)

    async def _prepare(self, account: Account) -> str | None:
        ref: str | None = None
        for send in self._renderer.prepare(account):
            endpoint = send.steps[0].endpoint
            record = (await self._ledger.look_up(self._job_id, Scope.ACCOUNT, [send.key])).get(send.key)
            if record is not None and record.state is State.ACCEPTED:
                ref = record.refs[-1] if record.refs else None
                self._tell_prepared(EventName.PREPARE_REUSED, account, endpoint.name, ref)
                continue
            if record is not None and record.state is not State.PENDING:
                if record.state is State.UNKNOWN and endpoint.repeat is not Repeat.SAFE:
                    raise PrepareError(f"{endpoint.name} for account {account.name} is unknown: settle it with resolve")
                change = Change(Scope.ACCOUNT, send.key, record.state, State.PENDING, 0, reason="tried again")
                await self._ledger.record(self._job_id, change)
            settle = await self._sender.deliver(Scope.ACCOUNT, send, record, ref=ref)
            if settle is None:
                raise StoppedError
            if settle.state is not State.ACCEPTED:
                text = f"{endpoint.name} for account {account.name} was {settle.state}: {settle.reason}"
                hint = "its title may be taken: give it another, or name the campaign with campaign_id in [launch]"
                raise PrepareError(f"{text}; {hint}; nothing was launched for this account")
            ref = settle.ref
            self._tell_prepared(EventName.PREPARE_ACCEPTED, account, endpoint.name, ref)
        return ref

    def _tell_prepared(self, name: EventName, account: Account, endpoint: str, ref: str | None) -> None:
        self._observe(Event(name, self._sender.job, endpoint, account.name, ref=ref))


def _pages(sends: list[Send], size: int) -> list[list[Send]]:
    each = iter(sends)
    return list(iter(lambda: list(islice(each, size)), []))
