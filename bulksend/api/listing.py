"""A job's sends one by one, and who settled which, drawn from the ledger page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from bulksend.api.run import JobSource
from bulksend.api.state import ledger_of
from bulksend.job.spec import Job
from bulksend.ledger.base import JobRecord, SendRecord
from bulksend.model import JobState, State

__all__ = ["CUT_OFF", "AuditEntry", "SendStatus", "audit_async", "drawn", "sends_async", "states_of"]

CUT_OFF = "the process ended while the call was under way"

AT_ONCE = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SendStatus:
    """What is known of one send."""

    key: str
    row: int
    account: str
    state: State
    step: str
    """The endpoint of the call that it stands at."""
    reason: str | None
    status: int | None
    """The HTTP status, where there was a reply."""
    attempts: int
    at: float
    """When it last changed, in seconds since the epoch."""
    refs: tuple[str, ...]
    """Ids that the vendor gave: of its account's campaign, then of its own steps."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        return {
            "key": self.key,
            "row": self.row,
            "account": self.account,
            "state": str(self.state),
            "step": self.step,
            "reason": self.reason,
            "status": self.status,
            "attempts": self.attempts,
            "at": _utc(self.at),
            "refs": list(self.refs),
        }


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One send that was settled outside of a run."""

    key: str
    row: int
    account: str
    frm: State
    to: State
    step: str
    """The endpoint of the call that it stood at afterwards."""
    reason: str | None
    by: str
    host: str
    at: float
    """In seconds since the epoch."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        return {
            "key": self.key,
            "row": self.row,
            "account": self.account,
            "from": str(self.frm),
            "to": str(self.to),
            "step": self.step,
            "reason": self.reason,
            "by": self.by,
            "host": self.host,
            "at": _utc(self.at),
        }


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _step_name(job: Job, number: int) -> str:
    """Return the endpoint of a send's step; a number behind the last stands for the last."""
    steps = job.provider.flow(job.tables).steps
    return steps[min(number, len(steps) - 1)][1].name if steps else ""


def states_of(record: JobRecord, state: State) -> tuple[State, ...]:
    """Return the states that a ledger has for what is told as `state`: a call cut off with its process is unknown."""
    cut_off = state is State.UNKNOWN and record.state is not JobState.RUNNING
    return (state, State.SENDING) if cut_off else (state,)


async def sends_async(
    job: JobSource,
    *,
    state: State,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> AsyncGenerator[SendStatus, None]:
    """Yield every send of a job in a state, by key; no more than a page of them is in memory.

    Pending are only those that the ledger has met: what was never begun stands nowhere but in the audience. Close it
    where it is not drawn to its end (`contextlib.aclosing`). Raises JobError for a job that was never run.
    """
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        made = {one.account: one.refs for one in await store.of_accounts(record.id) if one.state is State.ACCEPTED}
        for each in states_of(record, state):
            async for page in store.by_state(record.id, each):
                for one in page:
                    yield _status(loaded, one, state, made.get(one.account, ()))


def _status(job: Job, one: SendRecord, state: State, made: tuple[str, ...]) -> SendStatus:
    reason = CUT_OFF if one.state is State.SENDING else one.reason
    step, refs = _step_name(job, one.step), (*made, *one.refs)
    known = (one.key, one.row, one.account, state, step, reason, one.status, one.attempts, one.at, refs)
    return SendStatus(*known)


async def audit_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> AsyncGenerator[AuditEntry, None]:
    """Yield who settled which send of a job, the oldest first; `resolve` writes it, and nothing deletes it."""
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        async for page in store.audit(record.id):
            for one in page:
                step = _step_name(loaded, one.step)
                what = (one.frm, one.to, step, one.reason, one.by, one.host, one.at)
                yield AuditEntry(one.key, one.row, one.account, *what)


def drawn(source: AsyncGenerator[T, None], runner: asyncio.Runner) -> Iterator[T]:
    """Draw from an async generator without an event loop of one's own, some at a time, and close it."""
    try:
        while some := runner.run(_some(source)):
            yield from some
    finally:
        runner.run(source.aclose())


async def _some(source: AsyncGenerator[T, None]) -> list[T]:
    some: list[T] = []
    async for one in source:
        some.append(one)
        if len(some) == AT_ONCE:
            break
    return some
