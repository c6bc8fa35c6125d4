"""Webhooks on their way: posted as they fall due, tried a few times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from bulksend.emulators import Hook

__all__ = ["post_hooks"]

_POLL_S: Final = 0.02
_TRIES: Final = 3
_TIMEOUT_S: Final = 5.0


async def post_hooks(url: str, due: Callable[[], Sequence[Hook]]) -> None:
    """Post to `url` what `due` gives, asked again and again until this is cancelled; each is tried three times."""
    async with ClientSession(timeout=ClientTimeout(total=_TIMEOUT_S)) as session, asyncio.TaskGroup() as posts:
        while True:
            for hook in due():
                posts.create_task(_post(session, url, hook))
            await asyncio.sleep(_POLL_S)


async def _post(session: ClientSession, url: str, hook: Hook) -> None:
    for attempt in range(1, _TRIES + 1):
        headers = {"Content-Type": "application/json", "X-Webhook-Attempt": str(attempt), **hook.headers}
        try:
            async with session.post(url, data=hook.body, headers=headers) as response:
                if response.ok:
                    return
        except (ClientError, OSError, TimeoutError):
            pass  # nobody listens yet, or no more
        await asyncio.sleep(attempt * 0.2)
