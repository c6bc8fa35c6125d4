"""A comparison that needs no order: both sides put apart by their hash into a file, and compared a bucket at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bulksend.engine.limiter import StoppedError
from bulksend.job.buckets import Buckets, bucket_count
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.merge import Blocks

__all__ = ["compare"]


def compare(
    pages: Iterable[Sequence[str]], desired: Blocks, *, targets: int, scratch_dir: Path, stopping: Callable[[], bool]
) -> Iterator[Line]:
    """Yield what has to change, and at the end a mark with the number of different targets.

    `targets` is about how many there are. Raises StoppedError when `stopping` says so.
    """
    parts = bucket_count(max(targets, desired.count))
    with Buckets(parts, scratch_dir) as remote, Buckets(parts, scratch_dir) as wanted:
        for ids in pages:
            if stopping():
                raise StoppedError
            remote.put((hash(one) % parts, one) for one in ids)
        for number in range(desired.blocks):
            if stopping():
                raise StoppedError
            wanted.put((hash(one) % parts, one) for one in desired.block(number))
        count = 0
        for part in range(parts):
            if stopping():
                raise StoppedError
            there = set(remote.rows(part))
            listed = set(wanted.rows(part))
            count += len(there)
            yield Line(add=sorted(listed - there), remove=sorted(there - listed))
        yield Line(mark=Mark(pages=0, count=count))
