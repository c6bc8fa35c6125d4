"""One stream parted into several, each drawn at its own pace: what is not asked for yet waits in a file."""

from __future__ import annotations

import asyncio
import pickle
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Generic, TypeVar

from bulksend.errors import RunError

__all__ = ["parted"]

IN_MEMORY = 8192
"""Items that wait in memory, over all parts."""
IN_MEMORY_LEAST = 16
MANY = 100
"""From so many parts on, a batch has only few items for each."""
GATHER_S = 0.05
"""How long a part then waits for more of them: whoever draws has as much to do for one as for a dozen."""

T = TypeVar("T")


class _Queue(Generic[T]):
    """First in, first out; beyond `most` items, the oldest wait in the file, which all queues share."""

    def __init__(self, file: FileIO, most: int) -> None:
        self._file = file
        self._most = most
        self._pieces: deque[int] = deque()
        self._newest: list[T] = []

    @property
    def waits(self) -> bool:
        return bool(self._pieces or self._newest)

    @property
    def are_few(self) -> bool:
        return not self._pieces and len(self._newest) < IN_MEMORY_LEAST // 2

    def put(self, item: T) -> None:
        self._newest.append(item)
        if len(self._newest) < self._most:
            return
        rest = memoryview(pickle.dumps(self._newest, pickle.HIGHEST_PROTOCOL))
        try:
            self._pieces.append(self._file.seek(0, 2))
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise RunError(f"a temporary file cannot be written: {error.strerror}") from None
        self._newest = []

    def take(self) -> list[T]:
        """Return the oldest items."""
        if not self._pieces:
            items, self._newest = self._newest, []
            return items
        self._file.seek(self._pieces.popleft())
        oldest: list[T] = pickle.load(self._file)  # noqa: S301 - written above, into a file without a name
        return oldest


class _Parting(Generic[T]):
    def __init__(
        self,
        items: AsyncGenerator[list[T], None],
        name_of: Callable[[T], str],
        names: Iterable[str],
        file: FileIO,
        stopping: Callable[[], bool],
    ) -> None:
        self._items = items
        self._name_of = name_of
        self._stopping = stopping
        known = tuple(dict.fromkeys(names))
        most = max(IN_MEMORY_LEAST, IN_MEMORY // (len(known) + 1))
        self._others = _Queue[T](file, most)
        self._queues = {name: _Queue[T](file, most) for name in known}
        self._are_many = len(known) >= MANY
        self._ended = False
        self._arrival: asyncio.Event | None = None
        """Comes when the batch that is being read is there."""

    def parts(self) -> list[AsyncGenerator[list[T], None]]:
        return [self._part(queue) for queue in (*self._queues.values(), self._others)]

    async def _part(self, queue: _Queue[T]) -> AsyncGenerator[list[T], None]:
        while True:
            if queue.waits:
                if self._are_many and queue.are_few and not self._ended:
                    await asyncio.sleep(GATHER_S)
                yield queue.take()
            elif self._ended or self._stopping():
                return
            else:
                await self._read_on()

    async def _read_on(self) -> None:
        """Read a batch, or wait for the one that another reads: whoever it brings something for wakes at once."""
        if self._arrival is not None:
            await self._arrival.wait()
            return
        self._arrival = arrival = asyncio.Event()
        try:
            await self._read_batch()
        finally:
            self._arrival = None
            arrival.set()

    async def _read_batch(self) -> None:
        batch = await anext(self._items, None)
        if batch is None:
            self._ended = True
            return
        for item in batch:
            self._queues.get(self._name_of(item), self._others).put(item)


@asynccontextmanager
async def parted(
    items: AsyncGenerator[list[T], None],
    name_of: Callable[[T], str],
    names: Iterable[str],
    *,
    scratch_dir: Path,
    stopping: Callable[[], bool] = lambda: False,
) -> AsyncIterator[list[AsyncGenerator[list[T], None]]]:
    """Part a stream by name: one stream for each of `names`, in their order, and a last one for all others.

    Each keeps the order of the items. The stream is read only as far as somebody waits for, and what that brings for
    others goes to a file in `scratch_dir`, which holds the whole stream at most. Once `stopping`, nothing more is read:
    the part of all others often has nothing in it, and would go through the whole stream to find that out. Raises
    RunError when its disk is full.
    """
    try:
        file = tempfile.TemporaryFile(dir=scratch_dir, buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise RunError(f"no temporary file in {scratch_dir}: {error.strerror}") from None
    with file:
        async with aclosing(items):
            yield _Parting(items, name_of, names, file, stopping).parts()
