"""A run's history as it is kept and shown: what a chronicle is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["EndpointHistory", "Happening", "History", "Outage", "Recent", "SlowCall"]


class SlowCall(msgspec.Struct, frozen=True, order=True):
    """One of the slowest answers of a run."""

    duration_s: float
    key: str
    row: int
    endpoint: str


class Happening(msgspec.Struct, frozen=True):
    """An event as a line."""

    at: float
    """Seconds since the epoch."""
    name: str
    text: str


class Outage(msgspec.Struct, frozen=True):
    """An endpoint that is down for an account; times are seconds since the epoch."""

    endpoint: str
    account: str
    since: float
    next_at: float
    """When it is tried again, with one call."""
    reason: str


class EndpointHistory(msgspec.Struct, frozen=True):
    """One endpoint over time, a number for each slot; None where nothing was answered."""

    calls: list[int]
    throttled: list[int]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    accounts: int = 0
    """How many accounts were called."""
    busiest: int = 0
    """Calls of the account that was called most."""
    first_s: float = 0.0
    """When the first call left, in seconds from the run's beginning; the next is when the last one ended."""
    last_s: float = 0.0


class History(msgspec.Struct, frozen=True):
    """A run as it is kept: what a report draws and a live view shows."""

    began_at: float
    """Seconds since the epoch."""
    slot_s: float
    """How much time a slot is."""
    accepted: list[int]
    rejected: list[int]
    unknown: list[int]
    endpoints: dict[str, EndpointHistory]
    reasons: dict[str, int]
    """How often each was given for what was not accepted, and `other` for the rest."""
    statuses: dict[str, int]
    """Answers by HTTP status, and calls without one by why."""
    slowest: list[SlowCall]
    rates_per_s: dict[str, float]
    """Calls a second of late, by endpoint, as the next by account."""
    account_rates_per_s: dict[str, float]
    latest: list[Happening]
    paused_until: float = 0.0
    segment_pages: int = 0
    segment_ids: int = 0
    reasons_over_time: dict[str, list[int]] = {}
    """The most frequent of `reasons`, a number for each slot; the rest of them as `other`."""
    sends: int | None = None
    """What the run had before it, `settled` of it by earlier runs; None where that is not known."""
    settled: int | None = None
    reused: int = 0
    """Accounts whose campaign an earlier run had made."""
    until: float = 0.0
    """When this was kept, in seconds since the epoch."""
    state: str = ""
    """How the run ended; empty as long as it goes on, and for one that died."""
    why: str | None = None
    summary: dict[str, Any] = {}
    """The run's numbers, as `--json` prints them."""
    outages: list[Outage] = []
    """What was down when this was kept."""


@dataclass(frozen=True, slots=True)
class Recent:
    """How a run goes of late; rates are calls a second, latencies of the last few slots, the rest of the whole run."""

    rates_per_s: Mapping[str, float]
    account_rates_per_s: Mapping[str, float]
    settled_per_s: float
    p50_ms: Mapping[str, float | None]
    p99_ms: Mapping[str, float | None]
    throttled: Mapping[str, int]
    reasons: Mapping[str, int]
    latest: Sequence[Happening]
    paused_until: float
    outages: Sequence[Outage]
