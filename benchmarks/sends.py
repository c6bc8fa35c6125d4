"""Sends per second of one process without a limit, against what people would write in its place."""

from __future__ import annotations

from benchmarks.disk import scratch
from benchmarks.frame import Result, serving
from benchmarks.launches import prepare
from benchmarks.side_by_side import compared

__all__ = ["measure"]


def measure(*, full: bool) -> Result:
    """Let bulksend and its peers send to one sink, in turn."""
    count = 200_000 if full else 40_000
    with scratch() as folder, serving("sink") as sink:
        work = prepare(folder, sink["url"], count)
        return compared("sends", work, wrk_s=10 if full else 3)
