"""Rows sorted by way of files: put apart by ranges, each range small enough to be sorted in memory."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import Any

__all__ = ["sorted_by_chunk"]

_BUCKET_ROWS = 50_000
_BUCKETS_MAX = 256

Row = tuple[Any, ...]


def sorted_by_chunk(
    batches: Iterator[list[Row]], *, count: int, low: int, high: int, scratch_dir: Path, batch: int
) -> Iterator[list[Row]]:
    """Yield `count` rows sorted by their first two values: a number from `low` to `high`, and what tells equals apart.

    Holds one bucket at a time: 50,000 rows where the numbers are evenly used, up to 12.8 million rows.
    """
    buckets = max(1, min(-(-count // _BUCKET_ROWS), _BUCKETS_MAX, high - low + 1))
    width = -(-(high - low + 1) // buckets)
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=scratch_dir)) for _ in range(buckets)]
        for rows in batches:
            parts: dict[int, list[Row]] = {}
            for row in rows:
                parts.setdefault((row[0] - low) // width, []).append(row)
            for bucket, part in parts.items():
                pickle.dump(part, files[bucket], pickle.HIGHEST_PROTOCOL)
        for file in files:
            end = file.tell()
            file.seek(0)
            kept: list[Row] = []
            while file.tell() < end:
                kept += pickle.load(file)  # noqa: S301 - written above, into a file without a name
            file.close()
            kept.sort(key=itemgetter(0, 1))
            for start in range(0, len(kept), batch):
                yield kept[start : start + batch]
