"""Work beside the event loop, and work side by side, each ended before anybody goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Executor
from typing import TypeVar

from bulksend.engine.limiter import StoppedError

__all__ = ["aside", "ended", "together"]

T = TypeVar("T")


async def aside(executor: Executor, work: Callable[[], T]) -> T:
    """Do blocking work in the executor. It has ended when this returns or raises, also where that is a cancellation."""
    running = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not running.done():
            await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


async def together(*works: Coroutine[object, object, None]) -> None:
    """Do all of them at once; what `ended` says holds for them."""
    await ended({asyncio.create_task(work) for work in works})


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait until all have ended, and raise what the first that failed has raised.

    A failure cancels the others. A run that stops does not: its calls under way are answered, and recorded.
    """
    left = set(tasks)
    failure: BaseException | None = None
    try:
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_EXCEPTION)
            for wrong in (task.exception() for task in done if not task.cancelled()):
                if wrong is not None and (failure is None or isinstance(failure, StoppedError)):
                    failure = wrong
            if failure is not None and not isinstance(failure, StoppedError):
                break
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        raise failure
