"""Asking the vendor what became of unknown sends, and nothing else: no call that could send is made."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import msgspec

from bulksend.api.opening import Opened
from bulksend.api.source import chunk_source, row_source
from bulksend.engine.circuit import TRIP_AFTER
from bulksend.engine.direct import open_transport
from bulksend.engine.limiter import StoppedError
from bulksend.engine.sender import Sender as Engine
from bulksend.errors import InterruptedRunError
from bulksend.event import Event, EventName
from bulksend.launch import Launch, Source
from bulksend.ledger.base import Change, Ledger, SendRecord, Settler, Transition
from bulksend.model import Absent, Account, Found, Probe, Reply, Send, State, Step, Untold
from bulksend.prepare import Prepared

__all__ = ["Lookup"]

UNTOLD_MOST = 10_000
"""Of so many sends it is kept why the vendor does not tell."""


class Lookup:
    """The launch's own lookups for one job whose lock is held; what they settle is recorded as done by `settler`."""

    def __init__(self, opened: Opened, ledger: Ledger, job_id: int, settler: Settler) -> None:
        job = opened.job
        self._opened = opened
        self._job_id = job_id
        self._ledger = cast("Ledger", _Signed(ledger, settler))
        self._transport = open_transport()
        self._engine = _Asker(
            job=job.name,
            job_id=job_id,
            provider=job.provider,
            ledger=ledger,
            transport=self._transport,
            limit_of=job.limit,
            wall=time.time,
            random=random.random,
            contract=job.limits,
        )
        self._launch = _Looking(
            sender=self._engine,
            ledger=self._ledger,
            job_id=job_id,
            renderer=opened.renderer,
            # A policy of the job's runs is no answer of the vendor.
            policy=replace(job.policy, resend_unknown=False),
            can_look_up=True,
            observe=lambda _event: None,
        )

    @property
    def accepted(self) -> int:
        """Return how many sends the vendor was found to have."""
        return self._launch.seen[State.ACCEPTED]

    @property
    def pending(self) -> int:
        """Return how many sends the next run may make again, since that cannot send twice."""
        return self._launch.reopened

    @property
    def untold(self) -> dict[str, str]:
        """Return by key why the vendor does not tell, of the first ten thousand."""
        return self._engine.untold

    @property
    def failure(self) -> BaseException | None:
        """Return why not all were asked for: an endpoint of the vendor's is down."""
        return self._engine.failure

    def stop(self) -> None:
        """Ask nothing more; what was found stays."""
        self._engine.stop()

    async def run(self, executor: Executor) -> None:
        """Ask for each unknown send whose row is in the audience; those of other rows stay unknown."""
        await self._launch.look_up(self._source(executor))

    def _source(self, executor: Executor) -> Source:
        audience = self._opened.job.audience
        if audience is None or audience.chunk is None:
            return row_source(self._opened, executor, (), limit=None)
        # With a limit, however large, a chunk whose rows are gone is left out, and is no error.
        limit = sys.maxsize
        chunks = (self._opened, self._ledger, self._job_id, executor, ())
        return chunk_source(*chunks, limit=limit, stopping=lambda: self._engine.stopping)

    async def close(self) -> None:
        """Give up what is under way, and give back what was leased of the limits."""
        self._engine.stop()
        await self._launch.close()
        await self._transport.close()
        await self._engine.close()


class _Signed:
    """A ledger that notes with each change who has it made, and forms no new chunks."""

    def __init__(self, ledger: Ledger, settler: Settler) -> None:
        self._ledger = ledger
        self._settler = settler

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def record(self, job_id: int, transition: Transition) -> None:
        assert isinstance(transition, Change)
        await self._ledger.record(job_id, msgspec.structs.replace(transition, settler=self._settler))

    async def add_members(self, _job_id: int, _members: object) -> None:
        """Rows that came later are the next run's business."""


class _Asker(Engine):
    """The engine, remembering what the vendor did not tell; of an account whose endpoint is down no more is asked.

    A person waits for it, and asks again later: nobody is left for an hour with nothing to see.
    """

    def __init__(self, **surroundings: Any) -> None:
        super().__init__(**surroundings, observe=self._note)
        self.untold: dict[str, str] = {}
        self._asked: dict[str, Account] = {}
        self._failed_looks: Counter[str] = Counter()

    def _note(self, event: Event) -> None:
        if event.name is EventName.ENDPOINT_DOWN:
            why = InterruptedRunError(f"{event.endpoint} is down ({event.reason})")
            self.fail(self._asked[event.account or ""], why)

    async def _look_up(self, send: Send, probe: Probe) -> Reply | Untold:
        reply = await super()._look_up(send, probe)
        name = send.account.name
        self._failed_looks[name] = self._failed_looks[name] + 1 if isinstance(reply, Untold) else 0
        if isinstance(reply, Untold) and self._failed_looks[name] == TRIP_AFTER and not self.is_over(send.account):
            self.fail(send.account, InterruptedRunError(f"{probe.step.endpoint.name}: {reply.reason}"))
        return reply

    async def ask(self, send: Send, step: Step) -> Found | Absent | Untold | None:
        self._asked[send.account.name] = send.account
        verdict = await super().ask(send, step)
        if self.is_over(send.account) and not isinstance(verdict, Found | Absent):
            raise StoppedError  # it was cut off, which tells nothing
        if isinstance(verdict, Untold) and len(self.untold) < UNTOLD_MOST:
            self.untold[send.key] = verdict.reason
        return verdict


class _Nothing(Prepared):
    """Makes nothing: what an account's sends depend on was made by the run that made them."""

    async def ref_of(self, send: Send) -> str | None:  # noqa: ARG002 - there is nothing to look at
        return None


class _Looking(Launch):
    """A launch that goes as far as its lookups."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._prepared = _Nothing(
            parts["sender"], parts["ledger"], parts["job_id"], parts["renderer"], parts["observe"]
        )
        self.reopened = 0

    async def look_up(self, source: Source) -> None:
        async with aclosing(self._unknown(source.whole(State.UNKNOWN))) as pages:
            async for known in pages:
                self.reopened += len(known)
                self._under_way.clear()  # none of them is sent

    async def _reopen(self, send: Send, record: SendRecord) -> tuple[Send, SendRecord | None] | None:
        try:
            return await super()._reopen(send, record)
        except StoppedError:
            return None
