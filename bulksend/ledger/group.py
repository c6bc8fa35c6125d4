"""What is asked of a ledger while a commit is under way is made durable together, by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from bulksend.ledger.base import Transition

__all__ = ["GroupCommit"]

Asked = TypeVar("Asked")
Made = TypeVar("Made")


class GroupCommit(Generic[Asked, Made]):
    """Gathers transitions, and whatever else is `Asked`, while a commit is under way, and commits them together.

    `apply` is awaited with one batch at a time: the transitions, and what else was asked, both in the order of asking;
    it returns what was made of each of the latter. What it raises reaches every caller of that batch and all later
    ones, since a ledger that failed once is not trusted again in this run.
    """

    def __init__(
        self, apply: Callable[[Sequence[tuple[int, Transition]], Sequence[Asked]], Awaitable[Sequence[Made]]]
    ) -> None:
        self._apply = apply
        # In step with each other: tens of thousands a second go through here.
        self._transitions: list[tuple[int, Transition]] = []
        self._recorded: list[asyncio.Future[None]] = []
        self._asked: list[Asked] = []
        self._made: list[asyncio.Future[Made]] = []
        self._task: asyncio.Task[None] | None = None
        self.commits = 0
        """Those with transitions."""
        self.took_s = 0.0
        self._broken: BaseException | None = None

    def add(self, job_id: int, transition: Transition) -> asyncio.Future[None]:
        """Take a transition; the future is done once it is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._broken is not None:
            done.set_exception(self._broken)
            return done
        self._transitions.append((job_id, transition))
        self._recorded.append(done)
        if self._task is None or self._task.done():
            self._begin()
        return done

    def ask(self, asked: Asked) -> asyncio.Future[Made]:
        """Take anything else; the future has what was made of it once that is durable."""
        made: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        if self._broken is not None:
            made.set_exception(self._broken)
            return made
        self._asked.append(asked)
        self._made.append(made)
        if self._task is None or self._task.done():
            self._begin()
        return made

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._drain())

    async def idle(self) -> None:
        """Return once nothing is waiting."""
        # One that was cancelled before it began never came to say so.
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._recorded or self._made:
                transitions, self._transitions = self._transitions, []
                recorded, self._recorded = self._recorded, []
                asked, self._asked = self._asked, []
                made, self._made = self._made, []
                began_s = loop.time()
                try:
                    results = await self._apply(transitions, asked)
                except BaseException as wrong:
                    self._broken = wrong
                    waiting: list[asyncio.Future[Any]] = [*recorded, *made, *self._recorded, *self._made]
                    for one in waiting:
                        if not one.done():
                            one.set_exception(wrong)
                    self._transitions, self._recorded, self._asked, self._made = [], [], [], []
                    if not isinstance(wrong, Exception):
                        raise
                    return
                if transitions:
                    self.commits += 1
                    self.took_s += loop.time() - began_s
                for done in recorded:
                    if not done.done():
                        done.set_result(None)
                for future, result in zip(made, results, strict=True):
                    if not future.done():
                        future.set_result(result)
        finally:
            self._task = None
