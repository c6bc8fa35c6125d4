"""What is told of a run: one frozen value per fact, for logs, metrics and progress."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Event", "EventName"]


class EventName(StrEnum):
    """The closed list of what can be logged and counted."""

    RUN_STARTED = "run.started"
    RUN_STOPPING = "run.stopping"
    RUN_FINISHED = "run.finished"
    RUN_STOPPED = "run.stopped"
    RUN_FAILED = "run.failed"
    AUDIENCE_CHECKED = "audience.checked"
    LEDGER_RECOVERED = "ledger.recovered"
    PREPARE_ACCEPTED = "prepare.accepted"
    PREPARE_REUSED = "prepare.reused"
    CANARY_PASSED = "canary.passed"
    GUARD_STOPPED = "guard.stopped"
    CALL_MADE = "call.made"
    SEND_ACCEPTED = "send.accepted"
    SEND_REJECTED = "send.rejected"
    SEND_UNKNOWN = "send.unknown"
    SEND_RETRIED = "send.retried"
    SEND_RETURNED = "send.returned"
    SEND_CHANGED = "send.changed"
    SEND_WATCHED = "send.watched"
    SEGMENT_KEPT = "segment.kept"
    SEGMENT_READING = "segment.reading"
    SEGMENT_PAGE = "segment.page"
    SEGMENT_UNORDERED = "segment.unordered"
    SEGMENT_COMPARED = "segment.compared"
    SEGMENT_CHANGING = "segment.changing"
    SEGMENT_CHANGED = "segment.changed"
    SEGMENT_VERIFIED = "segment.verified"
    RUN_PROGRESS = "run.progress"
    RUN_SAMPLED = "run.sampled"
    ENDPOINT_SAMPLED = "endpoint.sampled"
    ENDPOINT_DOWN = "endpoint.down"
    ENDPOINT_UP = "endpoint.up"
    LIMIT_PAUSED = "limit.paused"
    LIMIT_CHANGED = "limit.changed"


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One fact, as logs, metrics and progress receive it. Never holds a payload, a header or a secret.

    It refers to nothing that could refer to it, so that the garbage collector need not know of it.
    """

    name: EventName
    job: str
    endpoint: str | None = None
    account: str | None = None
    key: str | None = None
    row: int | None = None
    attempt: int | None = None
    status: int | None = None
    reason: str | None = None
    ref: str | None = None
    duration_s: float | None = None
    wait_s: float | None = None
    count: int | None = None
    settled: int | None = None
    """Of `count`, what an earlier run had settled."""
    rejected: int | None = None
    """Of `settled`, what was rejected; the next likewise, of unknown fate."""
    unknown: int | None = None
    added: int | None = None
    """Targets that a segment lacks, or that were added to it; the next likewise."""
    removed: int | None = None
    drift: int | None = None
    """Targets of a segment that others have changed meanwhile."""
    hash: str | None = None
    """Of the difference between a segment and its desired list."""
    in_flight: int | None = None
    """Calls that are under way."""
    waiting: int | None = None
    """Sends that are rendered and neither settled nor under way."""
    utilization: float | None = None
    """The share of the endpoint's limit that was used since the sample before, for the busiest account."""
    limit_per_s: float | None = None
    """Calls a second that the endpoint's limit lets all accounts in use make together."""
    progress: float | None = None
    """The share of a campaign that the vendor says is done, 0 to 1."""
    exit_code: int | None = None
    """What the shell says of a run that has ended."""
