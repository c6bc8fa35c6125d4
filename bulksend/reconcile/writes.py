"""The changes of a difference made at the vendor: whole batches, several in flight, each noted once it was answered.

A batch whose note is missing is made again, which changes nothing: targets are a set.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from bulksend.errors import RunError
from bulksend.event import EventName
from bulksend.job.rows import batches_in
from bulksend.model import Rejected
from bulksend.providers.targets import Batch, Targets
from bulksend.reconcile.aside import ended, together
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.comparison import Tell
from bulksend.reconcile.difference import Line, of_kind
from bulksend.reconcile.journal import translated

__all__ = ["Writes", "batches"]

IN_FLIGHT = 8
"""Batches of each kind that are under way at once; a batch of additions is ten thousand ids."""


def batches(pieces: Iterable[Sequence[str]], size: int) -> Iterator[list[str]]:
    """Cut pieces into batches of one size, the last perhaps smaller; the same pieces give the same batches."""
    waiting: list[str] = []
    for piece in pieces:
        waiting.extend(piece)
        start = 0
        while len(waiting) - start >= size:
            yield waiting[start : start + size]
            start += size
        del waiting[:start]
    if waiting:
        yield waiting


class Writes:
    """Makes what is left of a difference; `path` holds the notes of an earlier run, and of this one."""

    def __init__(
        self,
        path: Path,
        *,
        calls: Calls,
        targets: Targets,
        segment_id: str,
        lines: Callable[[], Iterator[Line]],
        executor: Executor,
        tell: Tell,
    ) -> None:
        self._path = path
        self._calls = calls
        self._targets = targets
        self._segment_id = segment_id
        self._lines = lines
        self._executor = executor
        self._tell = tell
        self._done: dict[str, set[int]] = {"add": set(), "remove": set()}
        self._descriptor = -1

    async def run(self, *, added: int, removed: int) -> None:
        """Add and remove until all is done; raises StoppedError when the run ends before, RunError for a refusal."""
        with translated(self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._read_notes()
            ways = {"add": (self._targets.add, added), "remove": (self._targets.remove, removed)}
            left = Counter({name: number - self._noted(name, batch, number) for name, (batch, number) in ways.items()})
            self._tell(EventName.SEGMENT_CHANGING, added=left["add"], removed=left["remove"])
            await together(
                *(self._side(name, batch) for name, (batch, number) in ways.items() if batch is not None and number)
            )
        finally:
            os.close(self._descriptor)

    def _read_notes(self) -> None:
        with translated(self._path):
            noted = self._path.read_bytes()
        whole, _, cut_off = noted.rpartition(b"\n")
        for line in whole.split(b"\n"):
            name, _, number = line.decode("ascii", "replace").partition(" ")
            if name in self._done and number.isdigit():
                self._done[name].add(int(number))
        if cut_off:
            with translated(self._path):
                os.ftruncate(self._descriptor, len(noted) - len(cut_off))

    def _noted(self, name: str, batch: Batch | None, number: int) -> int:
        """Return how many ids of a side earlier runs have made."""
        size = 1 if batch is None else batch.ids_most
        return sum(max(0, min(size, number - one * size)) for one in self._done[name])

    async def _side(self, name: str, batch: Batch) -> None:
        room = asyncio.Semaphore(IN_FLIGHT)
        under_way: set[asyncio.Task[None]] = set()
        numbered = enumerate(batches(of_kind(self._lines(), add=name == "add"), batch.ids_most))

        async def make(number: int, ids: list[str]) -> None:
            try:
                await self._make(name, batch, number, ids)
            finally:
                room.release()

        try:
            async with aclosing(batches_in(self._executor, numbered)) as drawn:
                async for number, ids in drawn:
                    if number in self._done[name]:
                        continue
                    await room.acquire()
                    over = {task for task in under_way if task.done()}
                    if any(task.exception() is not None for task in over):
                        break
                    under_way -= over
                    under_way.add(asyncio.create_task(make(number, ids)))
        except BaseException:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            raise
        await ended(under_way)

    async def _make(self, name: str, batch: Batch, number: int, ids: list[str]) -> None:
        outcome = await self._calls.make(self._targets.write(batch, self._segment_id, ids))
        if isinstance(outcome, Rejected):
            text = f"{batch.endpoint.name} of {len(ids):,} ids was rejected: {outcome.reason}"
            raise RunError(f"{text}; what was changed stays so, and the next run goes on with the rest")
        with translated(self._path):
            os.write(self._descriptor, f"{name} {number}\n".encode())
        self._tell(EventName.SEGMENT_CHANGED, **{"added" if name == "add" else "removed": len(ids)})
