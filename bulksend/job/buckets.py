"""Rows put apart by way of a file, so that what is too much to sort or join at once is done a bucket at a time.

DuckDB does both, but near its memory limit it fails where it should spill, and the more rows, the more it needs.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bulksend.errors import RunError

__all__ = ["Buckets", "Span", "bucket_count", "chunk_of_rows", "sorted_by_chunk"]

_BUCKET_ROWS = 40_000
_BUCKETS_MAX = 512

Row = Any
"""What a bucket holds: mostly tuples."""


def bucket_count(rows: int) -> int:
    """Return into how many buckets so many rows are best put apart."""
    return max(1, min(-(-rows // _BUCKET_ROWS), _BUCKETS_MAX))


class Buckets:
    """Rows by bucket number, in one file without a name; each bucket gives its rows in the order they were put in.

    At most 40,000 rows wait in memory to be written; whoever puts in wide ones calls `write` before that.
    """

    def __init__(self, count: int, scratch_dir: Path) -> None:
        self.count = count
        try:
            self._file = tempfile.TemporaryFile(dir=scratch_dir)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise RunError(f"no temporary file in {scratch_dir}: {error.strerror}") from None
        self._waiting: list[list[Row]] = [[] for _ in range(count)]
        self._waits = 0
        self._pieces: list[list[int]] = [[] for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what could not be written is tried again
            self._file.close()

    def put(self, placed: Iterable[tuple[int, Row]]) -> None:
        """Add rows, each with the number of its bucket; all are put in before the first is read."""
        waiting = self._waiting
        for bucket, row in placed:
            waiting[bucket].append(row)
            self._waits += 1
            if self._waits >= _BUCKET_ROWS:
                self.write()

    def write(self) -> None:
        """Write what waits in memory."""
        for bucket, rows in enumerate(self._waiting):
            if rows:
                self._pieces[bucket].append(self._file.tell())
                try:
                    pickle.dump(rows, self._file, pickle.HIGHEST_PROTOCOL)
                except OSError as error:
                    raise RunError(f"a temporary file cannot be written: {error.strerror}") from None
                rows.clear()
        self._waits = 0

    def rows(self, bucket: int) -> Iterator[Row]:
        """Yield the rows of a bucket."""
        for start in self._pieces[bucket]:
            self._file.seek(start)
            yield from pickle.load(self._file)  # noqa: S301 - written above, into a file without a name
        yield from self._waiting[bucket]


def chunk_of_rows(members: Buckets, keys: Buckets, rows: int, scratch_dir: Path) -> Iterator[tuple[int, int]]:
    """Yield (row, chunk) in the order of rows, from buckets of (key, chunk) and of (key, row) that are parted alike."""
    count = bucket_count(rows)
    width = -(-rows // count)
    with Buckets(count, scratch_dir) as placed:
        for bucket in range(keys.count):
            chunks: dict[str, int] = dict(members.rows(bucket))
            found = ((row, chunks[key]) for key, row in keys.rows(bucket) if key in chunks)
            placed.put(((pair[0] - 1) // width, pair) for pair in found)
        for bucket in range(count):
            yield from sorted(placed.rows(bucket))


class Span:
    """What (row, chunk) pairs that passed by were like: how many, the least and the greatest chunk, any going back."""

    def __init__(self) -> None:
        self.count = 0
        self.low = 0
        self.high = 0
        self.mixed = False

    def watch(self, pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Pass the pairs on."""
        for pair in pairs:
            chunk = pair[1]
            if not self.count:
                self.low = self.high = chunk
            elif chunk < self.high:
                self.mixed = True
                self.low = min(self.low, chunk)
            else:
                self.high = chunk
            self.count += 1
            yield pair


def sorted_by_chunk(batches: Iterable[list[Row]], span: Span, scratch_dir: Path, batch: int) -> Iterator[list[Row]]:
    """Yield rows that begin with chunk number and row number, sorted by these."""
    numbers = span.high - span.low + 1
    parts = min(bucket_count(span.count), numbers)
    width = -(-numbers // parts)
    with Buckets(parts, scratch_dir) as buckets:
        for rows in batches:
            buckets.put(((row[0] - span.low) // width, row) for row in rows)
        for bucket in range(parts):
            kept = sorted(buckets.rows(bucket), key=itemgetter(0, 1))
            for start in range(0, len(kept), batch):
                yield kept[start : start + batch]
