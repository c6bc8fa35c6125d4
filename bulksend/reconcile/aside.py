"""Work beside the event loop, and work side by side, each ended before anybody goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["aside", "together"]

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
    """Do all of them at once; the first that fails ends the others, and is raised once they have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
