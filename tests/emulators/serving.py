"""A running emulator in the test's own loop, and a session to call it with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bulksend.emulators.server import EmulatorConfig, serve


@asynccontextmanager
async def serving(provider: str, **flags: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, dict[str, Any]]]:
    """Run one provider on a free port; gives what it says of itself. `flags` are those of `from_texts`."""
    config = EmulatorConfig.from_texts([provider], **flags)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        group.create_task(serve(config, ready.set_result, stop))
        try:
            yield session, (await ready)[provider]
        finally:
            stop.set()
