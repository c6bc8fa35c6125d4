"""A vendor that answers late and notes when: for benchmarks of a process's start and end.

python -m benchmarks.clock LATENCY_S prints its address as a line of JSON, and ends with its input. Every POST is
accepted after so many seconds; `GET /times` shows the calls so far and, by the machine's monotonic clock, when the
first and the last of them came and when the last was answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import msgspec
from aiohttp import web

from benchmarks.sink import REPLY_BODY

__all__ = ["Times"]


class Times(msgspec.Struct):
    """What has been seen, in seconds of the machine's monotonic clock, which all its processes share."""

    calls: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    """When the latest request came."""
    answered_s: float = 0.0
    """When the latest reply went."""


async def _serve(latency_s: float) -> None:
    times = Times()

    async def accept(request: web.Request) -> web.Response:
        times.last_s = time.monotonic()
        times.first_s = times.first_s or times.last_s
        times.calls += 1
        await request.read()
        await asyncio.sleep(latency_s)
        times.answered_s = time.monotonic()
        return web.Response(body=REPLY_BODY, content_type="application/json")

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(times))

    app = web.Application()
    app.add_routes([web.get("/times", show), web.post("/{path:.*}", accept)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
