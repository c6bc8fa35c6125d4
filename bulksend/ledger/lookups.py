"""Look-ups that are asked for while one is under way are answered together, by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bulksend.ledger.base import Scope, SendRecord

__all__ = ["LookUps"]

KEYS_MOST = 2000
"""How many keys are looked up at a time, beyond those of the first who asks: a commit waits for no more."""

Found = dict[str, SendRecord]


class LookUps:
    """Gathers look-ups; with a thousand accounts, each asks for a few keys at a time.

    `look_up` is awaited for the keys of one job and scope at a time. What it raises reaches all who asked with them.
    """

    def __init__(self, look_up: Callable[[int, Scope, Sequence[str]], Awaitable[Found]]) -> None:
        self._look_up = look_up
        self._waiting: dict[tuple[int, Scope], list[tuple[Sequence[str], asyncio.Future[Found]]]] = {}
        self._task: asyncio.Task[None] | None = None

    def ask(self, job_id: int, scope: Scope, keys: Sequence[str]) -> asyncio.Future[Found]:
        """Return the records of those keys that have one, as of this moment or later."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((job_id, scope), []).append((keys, found))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())
        return found

    async def _drain(self) -> None:
        while self._waiting:
            (job_id, scope), waiting = next(iter(self._waiting.items()))
            some = _first_of(waiting)
            del waiting[: len(some)]
            if not waiting:
                del self._waiting[job_id, scope]
            try:
                every = await self._look_up(job_id, scope, [key for keys, _ in some for key in keys])
            except BaseException as wrong:
                for _, found in some:
                    if not found.done():
                        found.set_exception(wrong)
                if not isinstance(wrong, Exception):
                    raise
                continue
            for keys, found in some:
                if not found.done():
                    found.set_result({key: every[key] for key in keys if key in every})


def _first_of(
    waiting: Sequence[tuple[Sequence[str], asyncio.Future[Found]]],
) -> Sequence[tuple[Sequence[str], asyncio.Future[Found]]]:
    total = 0
    for number, (keys, _) in enumerate(waiting):
        total += len(keys)
        if total > KEYS_MOST and number:
            return waiting[:number]
    return waiting[:]
