"""The desired list of a segment: the distinct ids of a table in ascending order, from a file, a block at a time.

Not sorted by DuckDB, whose sort fails near its memory limit (at 40 MB: 10 million ids of 60 characters) where it should
spill: the ids are put apart into ranges that fit into memory, and each range is sorted alone.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from bulksend.errors import InterruptedRunError, JobError, Problem, RunError
from bulksend.job.audience import Audience, KeySizes
from bulksend.job.buckets import Buckets

__all__ = ["DesiredIds", "sort_desired"]

_BLOCK_IDS = 5000
_BATCH = 2000
_PROBLEMS_MOST = 100
_RANGE_BYTES = 8 << 20
"""Memory that the ids of one range take; as many bytes wait to be written."""
_RANGES_MAX = 512
_SAMPLE_PER_RANGE = 32
_ID_BYTES = 57
"""What an id takes in memory beside its text: the object and its place in a list."""


class DesiredIds:
    """Distinct ids in ascending order by code point, in a file of blocks; never changes, any thread may read.

    The file has no name and is gone once this is closed or no longer referred to.
    """

    count: int
    """Distinct ids."""
    rows: int
    """Rows of the source, duplicates counted."""
    fingerprint: str
    """32 hex digits: the same ids give the same, from whatever file, in whatever order, and however often."""
    blocks: int

    def __init__(self, writing: _Writing, *, rows: int) -> None:
        self.count = writing.count
        self.rows = rows
        self.fingerprint = writing.hash.hexdigest()
        self.blocks = len(writing.ends)
        self._offsets = writing.offsets
        self._ends = writing.ends
        self._file = writing.file
        self._close = weakref.finalize(self, writing.file.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the disk back; nothing can be read any more."""
        self._close()

    def block(self, number: int) -> list[str]:
        """Return the ids of a block, from 0; each holds 5,000, the last one what remains."""
        start, end = self._offsets[number], self._offsets[number + 1]
        try:
            data = os.pread(self._file.fileno(), end - start, start)
            return msgspec.json.decode(data, type=list[str])
        except (OSError, msgspec.DecodeError):
            raise RunError("the temporary file of the desired list cannot be read") from None

    def first(self, number: int) -> str:
        """Return the least id of a block."""
        return self._ends[number][0]

    def last(self, number: int) -> str:
        """Return the greatest id of a block."""
        return self._ends[number][1]


class _Writing:
    """The file while it is written: blocks one after the other, and where each begins."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.count = 0
        self.hash = blake2b(digest_size=16)
        self.offsets = [0]
        self.ends: list[tuple[str, str]] = []
        self._waiting: list[str] = []
        self._last: str | None = None

    def add(self, ids: list[str]) -> None:
        """Take ids that come after all before them, in order."""
        if not ids:
            return
        if self._last is not None and ids[0] <= self._last:
            raise RunError("the desired list is out of order")
        self._last = ids[-1]
        waiting = self._waiting
        waiting += ids
        whole = len(waiting) - len(waiting) % _BLOCK_IDS
        for start in range(0, whole, _BLOCK_IDS):
            self._write(waiting[start : start + _BLOCK_IDS])
        del waiting[:whole]

    def end(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._write(self._waiting)
        self.file.flush()

    def _write(self, ids: list[str]) -> None:
        data = msgspec.json.encode(ids)
        self.file.write(data)
        self.hash.update(data)
        self.count += len(ids)
        self.offsets.append(self.offsets[-1] + len(data))
        self.ends.append((ids[0], ids[-1]))


def sort_desired(
    *,
    base_dir: Path,
    source: str | None,
    sql: str | None,
    key: str,
    scratch_dir: Path,
    most_chars: int | None,
    stopping: Callable[[], bool] = lambda: False,
) -> DesiredIds:
    """Read the ids of a table; they are kept exactly as they are, duplicates are dropped.

    Raises JobError with every blank id and every id of more than `most_chars` characters (the first 100, the rest
    counted), and for what an audience refuses; InterruptedRunError once `stopping` says so.
    """
    audience = Audience(base_dir=base_dir, source=source, sql=sql, key=key, scratch_dir=scratch_dir, may_be_empty=True)
    with audience:
        _go_on(stopping)
        sizes = audience.measure_keys(_PROBLEMS_MOST, most_chars=most_chars)
        _refuse(sizes, most_chars, audience.label)
        _go_on(stopping)
        splitters = _splitters(audience, sizes)
        ranges = Buckets(len(splitters) + 1, scratch_dir)
        with ranges:
            _put_apart(audience, splitters, ranges, sizes.rows, stopping)
            audience.close()  # its memory is free for the sorting
            return _write_blocks(ranges, sizes.rows, scratch_dir, stopping)


def _go_on(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise InterruptedRunError("stopped before the desired list was read")


def _refuse(sizes: KeySizes, most_chars: int | None, label: str) -> None:
    """Name the rows whose ids are none."""
    faults = [(row, "the id is blank") for row in sizes.blank_rows]
    faults += [(row, f"the id is longer than {most_chars} characters") for row in sizes.long_rows]
    if faults:
        problems = [Problem(text, file=label, row=row) for row, text in sorted(faults)[:_PROBLEMS_MOST]]
        raise JobError(problems, more=sizes.blank_count + sizes.long_count - len(problems))


def _splitters(audience: Audience, sizes: KeySizes) -> list[str]:
    """Return ids between which about equally many rows lie; where many rows hold the same id, fewer."""
    taken = sizes.size + sizes.rows * _ID_BYTES
    count = min(-(-taken // _RANGE_BYTES), _RANGES_MAX)
    if count < 2:
        return []
    # Ids may be so wide that a sample of many would not fit into memory either.
    fitting = _RANGE_BYTES * sizes.rows // taken
    sample = sorted(audience.sample_keys(min(count * _SAMPLE_PER_RANGE, max(count, fitting))))
    chosen = (sample[part * len(sample) // count] for part in range(1, count))
    return list(dict.fromkeys(chosen))


def _put_apart(
    audience: Audience, splitters: list[str], ranges: Buckets, rows: int, stopping: Callable[[], bool]
) -> None:
    seen = waits = 0
    for ids in audience.keys(batch=_BATCH):
        _go_on(stopping)
        ranges.put((bisect_right(splitters, each), each) for each in ids)
        seen += len(ids)
        waits += sum(map(len, ids)) + len(ids) * _ID_BYTES
        if waits >= _RANGE_BYTES:
            ranges.write()
            waits = 0
    if seen != rows:
        raise JobError(Problem("changed while it was read", file=audience.label))


def _write_blocks(ranges: Buckets, rows: int, scratch_dir: Path, stopping: Callable[[], bool]) -> DesiredIds:
    try:
        file = tempfile.TemporaryFile(dir=scratch_dir)  # noqa: SIM115 - closed with what is returned
    except OSError as error:
        raise RunError(f"no temporary file in {scratch_dir}: {error.strerror}") from None
    try:
        writing = _Writing(file)
        for number in range(ranges.count):
            _go_on(stopping)
            # A set: however often an id stands in the source, it is in memory once.
            writing.add(sorted(set(ranges.rows(number))))
        writing.end()
        return DesiredIds(writing, rows=rows)
    except BaseException as error:
        with suppress(OSError):  # what could not be written is tried again
            file.close()
        if isinstance(error, OSError):
            raise RunError(f"a temporary file cannot be written: {error.strerror}") from None
        raise
