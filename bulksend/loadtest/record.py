"""A load test as it is kept in a file: what a report of it draws."""

from __future__ import annotations

from typing import Any

import msgspec

from bulksend.observe.history import History
from bulksend.observe.timeline import Timeline

__all__ = ["LoadRecord"]


class LoadRecord(msgspec.Struct, frozen=True):
    """The summary, the test second by second, and the calls' history in the form that runs have."""

    summary: dict[str, Any]
    began_at: float
    """When the first call was due, in seconds since the epoch."""
    timeline: Timeline
    history: History
    """Latencies in it count from when the calls were due."""
    since_due_ms: list[tuple[float, float]]
    """The calls' latencies by percentile, so many points that they can be drawn; the next from when they left."""
    since_left_ms: list[tuple[float, float]]
    latency_hdr: str
    """Of all calls, from when they were due: HdrHistogram's own form (V2, compressed, base 64); its unit is 10 µs."""
