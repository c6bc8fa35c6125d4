"""What every ledger promises, and the values that go in and out of it.

    (new) ──► pending ──► sending ──► accepted │ rejected │ unknown
                 ▲            │                               │
                 └────────────┴───────────────────────────────┘

A send stands in the ledger from its first intent on; one that does not is pending. A transition names the state that
it comes from, and the ledger raises when that is not so: a result that cannot be recorded is never dropped in silence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from bulksend.model import JobState, State

__all__ = [
    "AuditRecord",
    "Change",
    "Counts",
    "Intent",
    "Invalid",
    "JobRecord",
    "Lease",
    "Ledger",
    "Member",
    "Scope",
    "SegmentRecord",
    "SendRecord",
    "Settler",
    "Transition",
]


class Scope(StrEnum):
    """Whom a recorded call serves: one send, or all sends of an account (a campaign create)."""

    SEND = "send"
    ACCOUNT = "account"


class Intent(msgspec.Struct, frozen=True):
    """new or pending → sending: durable before the first byte leaves."""

    scope: Scope
    key: str
    account: str
    row: int
    step: int
    fingerprint: int


class Settler(msgspec.Struct, frozen=True):
    """Who has a send settled outside of a run."""

    by: str
    host: str


class Change(msgspec.Struct, frozen=True):
    """`frm` → `to`: the result of a call, or a person's word on an unknown."""

    scope: Scope
    key: str
    frm: State
    to: State
    step: int
    ref: str | None = None
    """Added to the record's refs when it is set."""
    reason: str | None = None
    status: int | None = None
    repeats: int = 0
    """Added to the record's count of calls whose effect is not known, which begins anew with each step."""
    settler: Settler | None = None
    """When it is set, an audit entry becomes durable with the change: both, or neither."""


class Invalid(msgspec.Struct, frozen=True):
    """new → rejected, without a call: a row that is not fit to be sent."""

    key: str
    account: str
    row: int
    fingerprint: int
    reason: str


Transition = Intent | Change | Invalid


class SendRecord(msgspec.Struct, frozen=True):
    """What the ledger knows of one send."""

    key: str
    account: str
    row: int
    step: int
    state: State
    attempts: int
    repeats: int
    fingerprint: int
    refs: tuple[str, ...]
    reason: str | None
    status: int | None
    at: float
    """When it last changed, in seconds since the epoch."""


class AuditRecord(msgspec.Struct, frozen=True):
    """One send settled outside of a run: what became of it, and who says so."""

    key: str
    row: int
    account: str
    step: int
    frm: State
    to: State
    reason: str | None
    by: str
    host: str
    at: float
    """In seconds since the epoch."""


class Member(msgspec.Struct, frozen=True):
    """One row's place in a chunk; it never changes."""

    key: str
    chunk: str
    number: int
    """The chunk's number in the job, from 1, in the order of making."""


class Counts(msgspec.Struct, frozen=True):
    """Sends by state; `pending` is what is neither recorded as settled nor in flight."""

    accepted: int = 0
    rejected: int = 0
    unknown: int = 0
    sending: int = 0

    @property
    def settled(self) -> int:
        """Return how many sends have an outcome."""
        return self.accepted + self.rejected + self.unknown


class JobRecord(msgspec.Struct, frozen=True):
    """What the ledger knows of one job."""

    id: int
    name: str
    state: JobState
    started_at: float | None
    finished_at: float | None
    holder: str | None
    rows: int
    sends: int
    vendor: str | None
    """Where its calls go: provider and addresses."""
    counts: Counts
    summary: Mapping[str, object]
    """The last run's summary, as `--json` prints it; empty before the first run has ended."""
    stop_requested: bool


class SegmentRecord(msgspec.Struct, frozen=True):
    """What the ledger knows of one segment at a vendor: how the last reconciliation that came to its end left it."""

    desired: int
    """How many ids the desired list held."""
    fingerprint: str
    """Of that list."""
    job: str
    """Name of the job that did it."""
    finished_at: float
    """In seconds since the epoch."""


class Lease(msgspec.Struct, frozen=True):
    """The sole right to `tokens` calls of a bucket, from `start` on, one every 1/rate seconds.

    Times are the ledger's clock, in seconds since the epoch.
    """

    start: float
    end: float
    tokens: int


class Ledger(Protocol):
    """A durable ledger; one object serves one process. Every method may raise LedgerError."""

    async def open(self, *, create: bool) -> bool:
        """Open the ledger, migrating an older one; False when it does not exist and `create` is not set."""

    async def close(self) -> None:
        """Finish what is being committed, give locks back."""

    async def id(self) -> str:
        """Return what tells this ledger from every other, one that was deleted and made again included."""

    async def start_job(
        self, name: str, holder: str, *, vendor: str | None = None, is_run: bool = True
    ) -> tuple[JobRecord, int]:
        """Take the job's lock, turn what a dead process left as sending into unknown, and mark the job as running.

        `vendor` says where its calls go; what is no run leaves the time of the last start. Returns the job as it was
        before, and how many sends were turned. Raises JobLockedError, which names the holder, and LedgerError when
        earlier sends of the job went to another vendor.
        """

    async def end_job(
        self, job_id: int, state: JobState, summary: Mapping[str, object], *, counts_as_finish: bool
    ) -> None:
        """Record how the run ended and give the lock back."""

    async def set_size(self, job_id: int, *, rows: int, sends: int) -> None:
        """Record how large the audience is."""

    async def save_summary(self, job_id: int, summary: Mapping[str, object]) -> None:
        """Record the numbers so far of a job that runs."""

    async def save_history(self, job_id: int, began_at: float, data: str) -> None:
        """Keep what happened over time in the run that began then, in place of what was kept of it before.

        Of a job, the last twenty runs are kept.
        """

    async def histories(self, job_id: int) -> list[str]:
        """Return what was kept of the job's runs, the oldest first."""

    def commit_time(self) -> tuple[int, float]:
        """Return how many commits of transitions this process made, and how many seconds they took together."""

    async def find_job(self, name: str) -> JobRecord | None:
        """Return a job without taking its lock. A job that died is `incomplete`, not `running`."""

    async def look_up(self, job_id: int, scope: Scope, keys: Sequence[str]) -> dict[str, SendRecord]:
        """Return the records of those keys that have one."""

    async def look_up_in(self, job_id: int, keys: Sequence[str], states: Collection[State]) -> dict[str, SendRecord]:
        """Return the records of those sends that are in one of the states."""

    async def of_accounts(self, job_id: int) -> list[SendRecord]:
        """Return what was made once per account."""

    def audit(self, job_id: int) -> AsyncIterator[list[AuditRecord]]:
        """Yield who settled which send, in the order in which it was done, page by page."""

    def record(self, job_id: int, transition: Transition) -> Awaitable[None]:
        """Make a transition; it is durable once this was awaited. Many at a time share one commit."""

    def by_state(self, job_id: int, state: State) -> AsyncIterator[list[SendRecord]]:
        """Yield the job's sends in a state, in order of key, page by page."""

    async def request_stop(self, name: str) -> bool:
        """Ask the process that runs the job to stop; False when there is no such job."""

    async def stop_requested(self, job_id: int) -> bool:
        """Say whether somebody asked this run to stop."""

    async def members_of(self, job_id: int, keys: Sequence[str]) -> dict[str, Member]:
        """Return the chunk membership of those keys that have one."""

    async def add_members(self, job_id: int, members: Iterable[Member]) -> None:
        """Record chunk memberships, durably and for good."""

    async def last_chunk(self, job_id: int) -> int:
        """Return the highest chunk number of the job, 0 when it has none."""

    def open_members(self, job_id: int, state: State) -> AsyncIterator[list[Member]]:
        """Yield the members of every chunk in a state (pending: recorded so, or not yet), by chunk number, in pages."""

    async def lease(self, identity: str, endpoint: str, *, tokens: int, rate_per_s: float, delay_s: float) -> Lease:
        """Take the next `tokens` of a bucket that every process on this ledger shares, from `delay_s` from now on."""

    async def give_back(self, identity: str, endpoint: str, *, lease: Lease, unused: int) -> None:
        """Return a lease's last tokens, where nobody has taken later ones."""

    async def pause(self, identity: str, endpoint: str, seconds: float) -> None:
        """Let no process of this ledger call the endpoint for so long."""

    async def find_segment(self, identity: str, segment: str) -> SegmentRecord | None:
        """Return what the last reconciliation of a segment left; None before the first has come to its end."""

    async def finish_segment(self, identity: str, segment: str, *, desired: int, fingerprint: str, job: str) -> None:
        """Record, durably, that the segment is now in line with a list of `desired` ids."""

    async def use_override(self, identity: str, segment: str, *, hash: str, by: str) -> bool:  # noqa: A002
        """Record that the guards of this difference were overridden; False when another did so before.

        `by` names a reconciliation: the same one may say so again. Atomic: of two processes, one gets True.
        """

    async def overrides(self, identity: str, segment: str) -> int:
        """Return how many differences of the segment were overridden so far."""

    async def lock_segment(self, identity: str, segment: str, holder: str) -> None:
        """Take the segment's lock, which dies with the process; nothing happens when this object has it.

        Raises JobLockedError, which names the holder.
        """

    async def unlock_segment(self, identity: str, segment: str) -> None:
        """Give the segment's lock back; nothing happens when this object does not have it."""

    def segment_folder(self, identity: str, segment: str) -> Path:
        """Return the directory for the working files of whoever holds the segment's lock; it is not made."""
