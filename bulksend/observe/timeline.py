"""A load test over time, as it is kept and drawn."""

from __future__ import annotations

import msgspec

__all__ = ["Timeline"]


class Timeline(msgspec.Struct, frozen=True):
    """A load test over time, a number for each slot, by when the calls were due; None where nothing came back.

    Only `left`, `replied` and `told` are by when that happened, so that a test that falls behind is seen to.
    """

    slot_s: float
    planned: list[int]
    sent: list[int]
    late: list[int]
    dropped: list[int]
    unsent: list[int]
    accepted: list[int]
    rejected: list[int]
    unknown: list[int]
    throttled: list[int]
    left: list[int]
    """Calls that left then."""
    replied: list[int]
    """Calls that ended then, however they did."""
    told: list[int]
    """Those of them that were told 429."""
    in_flight: list[int]
    """The most calls under way at once."""
    p50_ms: list[float | None]
    """Of the time from when a call was due to the end of its reply; the next ones likewise."""
    p90_ms: list[float | None]
    p99_ms: list[float | None]
    max_ms: list[float | None]
    due_until_s: float
    """When the last call was due, in seconds after the start; the next is when the last one ended."""
    until_s: float
