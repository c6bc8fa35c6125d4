"""The launch of a job: what is not yet settled in the ledger is sent, guarded by [policy]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

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

CHANGED_MOST = 100
"""Of so many sends that changed each is told; the rest is counted."""

SendSource = Callable[[State], AsyncIterator[list[Send]]]
"""Gives the sends of the job, in order, from the beginning each time it is called: those that may be in the state."""


Known = tuple[Send, SendRecord | None]
"""A send, and what the ledger knows of it."""


class Launch:
    """One run of a launch job. `seen` counts, by state, every send that it came across, settled before or now."""

    def __init__(
        self,
        *,
        sender: Sender,
        ledger: Ledger,
        job_id: int,
        renderer: Renderer,
        policy: Policy,
        redraw: bool,
        observe: Callable[[Event], None],
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._job_id = job_id
        self._renderer = renderer
        self._policy = policy
        self._redraw = redraw
        self._lost: list[Send] = []
        """Of a source that cannot be drawn from again, the sends that may be made once more."""
        self._observe = observe
        self._prepared: dict[str, asyncio.Task[str | None]] = {}
        self._rejects = RejectGuard(policy.stop_after) if policy.stop_after is not None else None
        self.seen: dict[State, int] = dict.fromkeys(State, 0)
        self.settled_now = 0
        self.changed = 0
        self._under_way: dict[str, int] = {}
        """Row by key of what is rendered and not yet settled."""
        self._left_over: list[Known] = []
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

    async def _canary(self, pending: AsyncIterator[list[Known]], number: int) -> None:
        taken = 0
        failed: list[tuple[Send, Settle]] = []

        def settled(send: Send, settle: Settle) -> None:
            self._settled(send, settle)
            if settle.state is not State.ACCEPTED:
                failed.append((send, settle))

        async def first() -> AsyncIterator[Known]:
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

    async def _each(self, batches: AsyncIterator[list[Known]]) -> AsyncIterator[Known]:
        left_over, self._left_over = self._left_over, []
        for item in left_over:
            yield item
        async for batch in batches:
            for item in batch:
                yield item

    @property
    def under_way(self) -> int:
        """Return how many sends are rendered and not settled."""
        return len(self._under_way)

    async def close(self) -> None:
        """Give up what is made once per account and was not finished."""
        for task in self._prepared.values():
            task.cancel()
        await asyncio.gather(*self._prepared.values(), return_exceptions=True)

    def guard(self, text: str) -> None:
        """Stop the run for a guard's reason."""
        if not self._sender.stopping:
            self._observe(Event(EventName.GUARD_STOPPED, self._sender.job, reason=text))
        self._sender.stop(GuardError(text))

    def _settled(self, send: Send, settle: Settle) -> None:
        self._under_way.pop(send.key, None)
        self.seen[settle.state] += 1
        self.settled_now += 1
        if settle.state is State.UNKNOWN and self._policy.resend_unknown and not self._redraw:
            self._lost.append(send)
        if self._rejects is not None and self._rejects.add(settle.state) and not self._sender.stopping:
            share = f"{self._policy.stop_after:.1%}".replace(".0%", "%")
            number = self._rejects.rejected
            self.guard(f"stop_after: {number} of the last 200 sends were rejected, the limit is {share}")

    async def _looked_up(self, source: AsyncIterator[list[Send]]) -> AsyncIterator[list[Known]]:
        """Yield the sends with what the ledger knows of them, page by page; ends early when the run stops."""
        async for sends in source:
            for start in range(0, len(sends), LOOK_UP):
                if self._sender.stopping:
                    return
                some = sends[start : start + LOOK_UP]
                records = await self._ledger.look_up(self._job_id, Scope.SEND, [send.key for send in some])
                yield [(send, records.get(send.key)) for send in some]

    async def _pending(self, source: SendSource) -> AsyncIterator[list[Known]]:
        """Yield what the ledger does not have as settled; tells of a settled key whose payload is another now."""
        async for page in self._looked_up(source(State.PENDING)):
            batch: list[Known] = []
            for send, record in page:
                if send.key in self._under_way:
                    row = self._under_way[send.key]
                    raise JobError(Problem(f"row {row} has the same key", row=send.row, key=send.key))
                if record is None or record.state is State.PENDING:
                    self._under_way[send.key] = send.row
                    batch.append((send, record))
                    continue
                self.seen[record.state] += 1
                if record.fingerprint != send.fingerprint:
                    self._tell_changed(send, record)
            yield batch

    def _tell_changed(self, send: Send, record: SendRecord) -> None:
        self.changed += 1
        if self.changed > CHANGED_MOST:
            return
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

    async def _once_more(self, source: SendSource) -> AsyncIterator[list[Send]]:
        if self._redraw:
            async for sends in source(State.UNKNOWN):
                yield sends
        else:
            lost, self._lost = self._lost, []
            yield lost

    async def _unknown(self, source: SendSource) -> AsyncIterator[list[Known]]:
        """Yield, once more, each send whose fate is not known and that was not resent before."""
        async for page in self._looked_up(self._once_more(source)):
            batch: list[Known] = []
            for send, record in page:
                if record is not None and record.state is State.UNKNOWN and record.repeats <= RESENDS_MOST:
                    batch.append((send, record))
                    self.seen[State.UNKNOWN] -= 1
                    self._under_way[send.key] = send.row
            await asyncio.gather(*(self._resend(record) for _, record in batch if record is not None))
            yield batch

    async def _resend(self, record: SendRecord) -> None:
        change = Change(Scope.SEND, record.key, State.UNKNOWN, State.PENDING, record.step, reason="resend")
        await self._ledger.record(self._job_id, change)

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
                changed = record.fingerprint != send.fingerprint
                reason = "accepted earlier with another body; the first campaign is used" if changed else None
                self._tell_prepared(EventName.PREPARE_REUSED, account, endpoint.name, ref, reason)
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

    def _tell_prepared(
        self, name: EventName, account: Account, endpoint: str, ref: str | None, reason: str | None = None
    ) -> None:
        self._observe(Event(name, self._sender.job, endpoint, account.name, ref=ref, reason=reason))
