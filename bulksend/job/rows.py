"""Rows from wherever they come, in numbered batches: the audience's reader thread, the caller's code, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from bulksend.errors import JobError

__all__ = ["Rows", "batches_in", "code_batches"]

BATCH = 200
"""Rows per batch from code, and of chunks: rendering one keeps the event loop waiting for milliseconds at most."""
READ = 1000
"""Rows per batch of an audience, where they are rendered in a thread."""

T = TypeVar("T")
Rows = Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]]


async def batches_in(executor: Executor, batches: Iterator[T]) -> AsyncGenerator[T, None]:
    """Draw from a blocking iterator in the executor, one batch ahead of the consumer."""
    loop = asyncio.get_running_loop()

    def draw() -> tuple[bool, T | None]:
        for batch in batches:
            return True, batch
        return False, None

    ahead = loop.run_in_executor(executor, draw)
    try:
        while True:
            more, batch = await asyncio.shield(ahead)
            if not more:
                return
            ahead = loop.run_in_executor(executor, draw)
            assert batch is not None
            yield batch
    finally:
        # The thread must be done with the iterator before anybody closes what is behind it.
        if not ahead.done():
            await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()


async def code_batches(rows: Rows, columns: Sequence[str]) -> AsyncIterator[list[tuple[object, ...]]]:
    """Take rows from code, as they come; a column that a mapping lacks is None."""

    async def each() -> AsyncIterator[Mapping[str, object]]:
        if isinstance(rows, AsyncIterable):
            async for row in rows:
                yield row
        else:
            for row in rows:
                yield row

    batch: list[tuple[object, ...]] = []
    async for row in each():
        if not isinstance(row, Mapping):
            raise JobError(f"a row from code is a mapping of column names to values, not {type(row).__name__}")
        batch.append(tuple(row.get(column) for column in columns))
        # An async source may be slow: what is there is passed on at once, and only a list is gathered.
        if len(batch) >= BATCH or isinstance(rows, AsyncIterable):
            yield batch
            batch = []
    if batch:
        yield batch
