"""The launch of a job: what is not yet settled in the ledger is sent, guarded by [policy]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

import msgspec

from bulksend.engine.guards import RejectGuard
from bulksend.engine.retry import Settle
from bulksend.engine.sender import HELD_MOST, Sender
from bulksend.errors import GuardError, JobError, Problem
from bulksend.event import Event, EventName
from bulksend.job.render import Renderer
from bulksend.job.spec import Policy
from bulksend.ledger.base import Change, Ledger, Scope, SendRecord
from bulksend.model import Absent, Account, Found, Repeat, Send, State, Untold
from bulksend.prepare import Prepared

__all__ = ["Launch", "Source", "is_too_late"]

LOOK_UP = 500
RESENDS_MOST = 1
"""How often `on_unknown = "resend"` makes a call again whose effect is not known."""

_CHANGED_BEGUN = "begun earlier with another payload; what the vendor has of it by now is not made again"
CHANGED_MOST = 100
"""Of so many sends that changed each is told; the rest is counted."""

HELD_OVER_ALL = 4096
"""Sends that are rendered and wait, over all accounts."""
HELD_LEAST = 16

SendSource = Callable[[State], AsyncGenerator[list[Send], None]]
"""Gives the sends of the job, in order, from the beginning each time it is called: those that may be in the state."""


Parts = Callable[[State], AbstractAsyncContextManager[Sequence[AsyncGenerator[list[Send], None]]]]
"""Gives the sends of each account by themselves; the last part is of accounts that nobody knew of."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the sends come from: all in order, and the same parted by account, so that none waits for another's."""

    whole: SendSource
    parts: Parts | None = None
    """None where all sends are of one account, or where nobody knows which accounts there are."""
    one_account: bool = False
    redraw: bool = True
    """False where the sends can be drawn once only, and what may be needed again is kept."""


Known = tuple[Send, SendRecord | None]
"""A send, and what the ledger knows of it."""


def is_too_late(send: Send, record: SendRecord | None, now: float) -> bool:
    """Say whether something is left to be made of a send whose time has passed."""
    if record is not None and record.state is not State.PENDING:
        return False
    return any(step.is_past(now) for step in send.steps[0 if record is None else record.step :])


async def _at_once(sends: list[Send]) -> AsyncGenerator[list[Send], None]:
    yield sends


async def _those(known: Sequence[Known]) -> AsyncIterator[Known]:
    for one in known:
        yield one


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
        can_look_up: bool,
        observe: Callable[[Event], None],
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._job_id = job_id
        self._renderer = renderer
        self._policy = policy
        self._settles_unknown = policy.resend_unknown or can_look_up
        self._lost: list[Send] = []
        """Of a source that cannot be drawn from again, the sends that are unknown."""
        self._keep_lost = False
        self._of_canary: set[str] = set()
        self._begun_changed: set[str] = set()
        self.held_back: set[str] = set()
        """Keys of sends that stay between two steps, since their row has become another."""
        self._observe = observe
        self._prepared = Prepared(sender, ledger, job_id, renderer, observe)
        self._rejects = RejectGuard(policy.stop_after) if policy.stop_after is not None else None
        self.seen: dict[State, int] = dict.fromkeys(State, 0)
        self.settled_now = 0
        self.changed = 0
        self._under_way: dict[str, int] = {}
        """Row by key of what is rendered and not yet settled."""
        self._left_over: list[Known] = []
        """What the canary drew and did not need."""

    async def run(self, source: Source, *, accepted_before: int, unknown_before: int = 0) -> None:
        """Send what is pending; returns when all is settled or the sender stopped.

        With `canary`, the first N sends of the job must be accepted before any other goes: those that an earlier run
        had accepted count. At the end, each send of unknown fate is looked up, and with `on_unknown = "resend"` made
        once more; `unknown_before` is how many of them earlier runs left, whose rows may not come by in this one.
        """
        canary = max(0, (self._policy.canary or 0) - accepted_before)
        self._keep_lost = self._settles_unknown and not source.redraw
        if source.parts is None:
            async with aclosing(self._pending(source.whole(State.PENDING))) as pending:
                await self._canary(pending, canary)
                await self._send(self._each(pending), one_account=source.one_account)
        else:
            if canary:
                await self._canary_first(source, canary)
            await self._send_parts(source.parts, State.PENDING, ends=source.redraw)
        left = self.seen[State.UNKNOWN] or self._lost or unknown_before
        if self._settles_unknown and left and not self._sender.stopping:
            if not source.redraw:
                await self._send_lost()
            elif source.parts is None:
                await self._send(self._each(self._unknown(source.whole(State.UNKNOWN))))
            else:
                await self._send_parts(source.parts, State.UNKNOWN)

    async def _send_lost(self) -> None:
        """Go on, account by account, with the unknown sends of a source that cannot be drawn from again."""
        lost: dict[str, list[Send]] = {}
        for send in self._lost:
            lost.setdefault(send.account.name, []).append(send)
        self._lost, self._keep_lost = [], False
        await asyncio.gather(*(self._send(self._each(self._unknown(_at_once(sends)))) for sends in lost.values()))

    async def _send_parts(self, parts_in: Parts, state: State, *, ends: bool = True) -> None:
        """Send each account's part at its own pace; what an account has to wait for keeps no other waiting.

        With `ends`, nothing more is drawn of an account that is over.
        """
        if self._sender.stopping:
            return
        left_over, self._left_over = self._left_over, []
        find = self._pending if state is State.PENDING else self._unknown
        async with parts_in(state) as parts:
            held_most = min(max(HELD_OVER_ALL // len(parts), HELD_LEAST), HELD_MOST)
            each = [self._each(find(part)) for part in parts]
            await asyncio.gather(
                self._send(_those(left_over)),
                *(self._send(one, one_account=ends and one is not each[-1], held_most=held_most) for one in each),
            )

    async def _canary_first(self, source: Source, number: int) -> None:
        """Send the canary of a job whose accounts are parted afterwards, in the order of its rows."""
        async with aclosing(self._pending(source.whole(State.PENDING), counting=not source.redraw)) as pending:
            drawn = await self._canary(pending, number)
        if source.redraw:  # what it did not need is drawn again, and what it sent comes by again
            self._of_canary.update(drawn)
            for send, _ in self._left_over:
                self._under_way.pop(send.key, None)
            self._left_over = []

    async def _send(
        self, sends: AsyncIterator[Known], *, one_account: bool = False, held_most: int = HELD_MOST
    ) -> None:
        await self._sender.run(
            sends, self._settled, self._prepared.ref_of, one_account=one_account, held_most=held_most
        )

    async def _canary(self, pending: AsyncIterator[list[Known]], number: int) -> list[str]:
        """Send the first `number` sends and return their keys; all must be accepted, or the run stops."""
        if not number:
            return []
        taken = 0
        drawn: list[str] = []
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
                    drawn.append(item[0].key)
                    yield item

        await self._sender.run(first(), settled, self._prepared.ref_of)
        if self._sender.failure is not None:
            self._sender.stop(self._sender.failure)  # an account that ends in the canary ends the canary
        elif failed:
            send, settle = failed[0]
            text = (
                f"canary: of the first {number} sends, the one with key {send.key} (row {send.row}) was {settle.state}"
            )
            self.guard(f"{text}: {settle.reason}; the rest was not sent")
        elif taken and not self._sender.stopping:
            self._observe(Event(EventName.CANARY_PASSED, self._sender.job, count=taken))
        return drawn

    async def _each(self, batches: AsyncIterator[list[Known]]) -> AsyncIterator[Known]:
        left_over, self._left_over = self._left_over, []
        for item in left_over:
            yield item
        async for batch in batches:
            for item in batch:
                yield item

    @property
    def under_way(self) -> int:
        """Return how many sends are rendered and not settled; what is overdue stands as unknown already."""
        return len(self._under_way) - self._sender.overdue

    async def prepare(self, account: Account, *, again: bool) -> None:
        """Make what the account's sends depend on, before any of them. Raises PrepareError, and StoppedError."""
        await self._prepared.of(account, again=again)

    async def close(self) -> None:
        """Give up what is made once per account and was not finished."""
        await self._prepared.close()

    def guard(self, text: str) -> None:
        """Stop the run for a guard's reason."""
        if not self._sender.stopping:
            self._observe(Event(EventName.GUARD_STOPPED, self._sender.job, reason=text))
        self._sender.stop(GuardError(text))

    def _settled(self, send: Send, settle: Settle) -> None:
        self._under_way.pop(send.key, None)
        self.seen[settle.state] += 1
        self.settled_now += 1
        if settle.state is State.UNKNOWN and self._keep_lost:
            self._lost.append(send)
        if self._rejects is not None and self._rejects.add(settle.state) and not self._sender.stopping:
            share = f"{self._policy.stop_after:.1%}".replace(".0%", "%")
            number = self._rejects.rejected
            self.guard(f"stop_after: {number} of the last 200 sends were rejected, the limit is {share}")

    async def _looked_up(self, source: AsyncGenerator[list[Send], None]) -> AsyncGenerator[list[Known], None]:
        """Yield the sends with what the ledger knows of them, page by page; ends early when the run stops."""
        async with aclosing(source):
            async for sends in source:
                for start in range(0, len(sends), LOOK_UP):
                    if self._sender.stopping:
                        return
                    some = sends[start : start + LOOK_UP]
                    records = await self._ledger.look_up(self._job_id, Scope.SEND, [send.key for send in some])
                    yield [(send, records.get(send.key)) for send in some]

    async def _pending(
        self, source: AsyncGenerator[list[Send], None], *, counting: bool = True
    ) -> AsyncGenerator[list[Known], None]:
        """Yield what the ledger does not have as settled; tells of a key whose payload is another than was sent.

        Without `counting`, what is settled is passed over in silence: the same rows come by again.
        """
        async with aclosing(self._looked_up(source)) as pages:
            async for page in pages:
                yield self._unsettled(page, counting=counting)

    def _unsettled(self, page: list[Known], *, counting: bool) -> list[Known]:
        batch: list[Known] = []
        for send, record in page:
            if send.key in self._of_canary:
                continue  # seen, and settled or left, before the accounts were parted
            if send.key in self._under_way:
                row = self._under_way[send.key]
                raise JobError(Problem(f"row {row} has the same key", row=send.row, key=send.key))
            if record is None or record.state is State.PENDING:
                if record is not None and record.step > 0:
                    if record.fingerprint != send.fingerprint:
                        self._tell_changed(send, record)
                    other = self._is_others(send, record)
                    if send.invalid is not None or other:
                        # The vendor has a part of it that its row does not fit any more.
                        self._hold_back(send, "for another account" if other else "with a row that was fit")
                        continue
                self.held_back.discard(send.key)
                self._under_way[send.key] = send.row
                batch.append((send, record))
                continue
            if not counting:
                continue
            self.seen[record.state] += 1
            if record.state is State.UNKNOWN and self._keep_lost:
                self._lost.append(send)
            if record.fingerprint != send.fingerprint:
                self._tell_changed(send, record)
        return batch

    def _is_others(self, send: Send, record: SendRecord) -> bool:
        """Say whether what the vendor has of a send was made for another account than its row names now."""
        return self._renderer.accounts.is_other(record.account, send.account.name)

    def _hold_back(self, send: Send, begun: str) -> None:
        """Leave a send between two steps as it is, and say so once."""
        if send.key in self.held_back:
            return
        self.held_back.add(send.key)
        reason = f"begun {begun}; it is not gone on with"
        job, account = self._sender.job, send.account.name
        self._observe(Event(EventName.SEND_CHANGED, job, account=account, key=send.key, row=send.row, reason=reason))

    def _tell_changed(self, send: Send, record: SendRecord) -> None:
        if record.state is State.PENDING:
            if send.key in self._begun_changed:
                return  # its row came by twice: for the canary, and for its account
            self._begun_changed.add(send.key)
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
                reason=_CHANGED_BEGUN
                if record.state is State.PENDING
                else f"{record.state} earlier with another payload; not sent again",
            )
        )

    async def _unknown(self, source: AsyncGenerator[list[Send], None]) -> AsyncGenerator[list[Known], None]:
        """Yield each send of unknown fate that may be gone on with: by a lookup, by its nature, or by the policy."""
        async with aclosing(self._looked_up(source)) as pages:
            async for page in pages:
                unknown = [
                    (send, record) for send, record in page if record is not None and record.state is State.UNKNOWN
                ]
                found = await asyncio.gather(*(self._reopen(send, record) for send, record in unknown))
                yield [known for known in found if known is not None]

    async def _reopen(self, send: Send, record: SendRecord) -> Known | None:
        """Settle an unknown by a lookup, or make it pending where its call can, or may, be made again."""
        if record.step >= len(send.steps) or self._sender.is_over(send.account) or self._is_others(send, record):
            return None
        step = send.steps[record.step]
        if step.ref is None:
            step = msgspec.structs.replace(
                step, ref=record.refs[-1] if record.refs else await self._prepared.ref_of(send)
            )
        verdict = await self._sender.ask(send, step)
        number, refs = record.step, record.refs
        too_late = any(one.is_past(self._sender.now()) for one in send.steps[record.step :])
        match verdict:
            case Found(ref=found):
                refs = refs if found is None or found in refs else (*refs, found)
                number += 1
                reason = "found by a lookup"
            case _ if too_late:
                return None
            case Absent():
                reason = "a lookup shows that it had no effect"
            case None | Untold() if step.endpoint.repeat is Repeat.SAFE:
                reason = "a repeat does no harm"
            case _ if self._policy.resend_unknown and record.repeats <= RESENDS_MOST:
                reason = "resend"
            case _:
                return None
        done = number == len(send.steps)
        if any(one.is_past(self._sender.now()) for one in send.steps[number:]):
            return None
        to, number = (State.ACCEPTED, record.step) if done else (State.PENDING, number)
        added = refs[-1] if len(refs) > len(record.refs) else None
        change = Change(Scope.SEND, send.key, State.UNKNOWN, to, number, ref=added, reason=reason)
        await self._ledger.record(self._job_id, change)
        self.seen[State.UNKNOWN] -= 1
        if done:
            self.seen[to] += 1
            where = step.endpoint.name, send.account.name, send.key, send.row
            self._observe(Event(EventName.SEND_ACCEPTED, self._sender.job, *where, reason=reason, ref=added))
            return None
        self._under_way[send.key] = send.row
        repeats = record.repeats if number == record.step else 0
        return send, msgspec.structs.replace(record, state=to, step=number, refs=refs, repeats=repeats)
