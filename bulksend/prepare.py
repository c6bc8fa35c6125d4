"""What is made once per account before its sends: a campaign, a segment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bulksend.engine.limiter import StoppedError
from bulksend.engine.sender import Sender
from bulksend.errors import PrepareError
from bulksend.event import Event, EventName
from bulksend.job.render import Renderer
from bulksend.ledger.base import Change, Ledger, Scope
from bulksend.model import Account, Repeat, Send, State

__all__ = ["Prepared"]


class Prepared:
    """Makes it with the account's first send; accounts of one identity at the vendor share it.

    What an earlier run made is used again.
    """

    def __init__(
        self, sender: Sender, ledger: Ledger, job_id: int, renderer: Renderer, observe: Callable[[Event], None]
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._job_id = job_id
        self._renderer = renderer
        self._observe = observe
        self._prepared: dict[str, asyncio.Task[str | None]] = {}

    async def close(self) -> None:
        """Give up what is made once per account and was not finished."""
        for task in self._prepared.values():
            task.cancel()
        await asyncio.gather(*self._prepared.values(), return_exceptions=True)

    async def ref_of(self, send: Send) -> str | None:
        """Return what the account's own calls gave, making them once where they were not made yet."""
        return await self.of(send.account)

    async def of(self, account: Account, *, again: bool = False) -> str | None:
        """Do the same for an account, before any of its sends; `again` where what was made is not there any more."""
        identity = account.identity
        while True:
            task = self._prepared.get(identity)
            if task is None:
                task = self._prepared[identity] = asyncio.create_task(self._prepare(account, again=again))
            try:
                return await asyncio.shield(task)
            except StoppedError:
                # It ended with another account of the same identity, such as one whose token is wrong: ours goes on.
                if self._sender.is_over(account):
                    raise
                if self._prepared.get(identity) is task:
                    del self._prepared[identity]

    async def _prepare(self, account: Account, *, again: bool) -> str | None:
        ref: str | None = None
        for send in self._renderer.prepare(account):
            endpoint = send.steps[0].endpoint
            record = (await self._ledger.look_up(self._job_id, Scope.ACCOUNT, [send.key])).get(send.key)
            if record is not None and record.state is State.ACCEPTED and not again:
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
                hint = f"; {self._renderer.flow.hint}" if self._renderer.flow.hint else ""
                raise PrepareError(f"{text}{hint}; nothing was launched for this account")
            ref = settle.ref
            self._tell_prepared(EventName.PREPARE_ACCEPTED, account, endpoint.name, ref)
        return ref

    def _tell_prepared(
        self, name: EventName, account: Account, endpoint: str, ref: str | None, reason: str | None = None
    ) -> None:
        self._observe(Event(name, self._sender.job, endpoint, account.name, ref=ref, reason=reason))
