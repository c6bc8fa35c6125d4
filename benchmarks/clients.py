"""Bare loops that post bodies, as people write them in place of a tool; each by itself in a process of its own.

python -m benchmarks.clients {aiohttp|httpx|raw} URL BODIES COUNT CONCURRENCY prints a line of JSON.

Nothing is limited, recorded or told here, and bodies are in memory, rendered, before the clock starts: a peer does less
than bulksend does. Replies are parsed and checked by the fastest parser there is. `raw` is no HTTP client: it writes
heads made beforehand and counts what comes back, to learn what the server and the machine can do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import orjson

from benchmarks.launches import PATH, TOKEN
from benchmarks.sink import REPLY_BODY

__all__ = ["HEADERS", "Clock", "Post", "main"]

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


class Clock:
    """Times a stretch of work by the wall, and by this process's CPU."""

    def start(self) -> None:
        """Begin."""
        self.began_s, self._began_cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End."""
        self.took_s, self.cpu_s = time.perf_counter() - self.began_s, time.process_time() - self._began_cpu_s


async def _workers(clock: Clock, concurrency: int, worker: Callable[[], Awaitable[None]]) -> None:
    clock.start()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    clock.stop()


async def _aiohttp(url: str, bodies: Iterator[bytes], concurrency: int, clock: Clock) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def worker() -> None:
            for body in bodies:
                async with session.post(url, data=body) as reply:
                    assert reply.status == 200
                    assert orjson.loads(await reply.read())["success"]

        await _workers(clock, concurrency, worker)


async def _httpx(url: str, bodies: Iterator[bytes], concurrency: int, clock: Clock) -> None:
    import httpx

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, headers=HEADERS) as client:

        async def worker() -> None:
            for body in bodies:
                reply = await client.post(url, content=body)
                assert reply.status_code == 200
                assert orjson.loads(reply.content)["success"]

        await _workers(clock, concurrency, worker)


class _Raw(asyncio.Protocol):
    """One connection that writes the next request as soon as a reply has come whole."""

    def __init__(self, head: bytes, bodies: Iterator[bytes]) -> None:
        self._head = head
        self._bodies = bodies
        self._seen = b""
        self.done = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server has closed the connection"))

    def begin(self) -> None:
        """Write the next request, if one is left."""
        body = next(self._bodies, None)
        if body is None:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self._head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.endswith(REPLY_BODY):
            self._seen = b""
            self.begin()


async def _raw(url: str, bodies: Iterator[bytes], concurrency: int, clock: Clock) -> None:
    to = urlsplit(url)
    fields = {"Host": to.netloc, **HEADERS, "Content-Length": "%d"}
    head = "".join((f"POST {to.path} HTTP/1.1\r\n", *(f"{name}: {fields[name]}\r\n" for name in fields), "\r\n"))
    tls = ssl.create_default_context() if to.scheme == "https" else None
    loop = asyncio.get_running_loop()
    assert to.hostname
    assert to.port
    opened = [
        (await loop.create_connection(lambda: _Raw(head.encode(), bodies), to.hostname, to.port, ssl=tls))[1]
        for _ in range(concurrency)
    ]
    clock.start()
    for connection in opened:
        connection.begin()
    await asyncio.gather(*(connection.done for connection in opened))
    clock.stop()


Post = Callable[[str, Iterator[bytes], int, Clock], None]
"""Posts all bodies to a URL, so many at a time, and keeps the time."""


def _by_uvloop(loop: Callable[[str, Iterator[bytes], int, Clock], Coroutine[None, None, None]]) -> Post:
    def post(url: str, bodies: Iterator[bytes], concurrency: int, clock: Clock) -> None:
        import uvloop

        uvloop.run(loop(url, bodies, concurrency, clock))

    return post


def main(clients: Mapping[str, Post]) -> None:
    """Post the bodies by one of the clients, print how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=clients)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("concurrency", type=int)
    given = parser.parse_args()
    with given.bodies.open("rb") as file:
        bodies = [line.rstrip() for line in islice(file, given.count)]
    clock = Clock()
    clients[given.client](f"{given.url}{PATH}", iter(bodies), given.concurrency, clock)
    print(json.dumps({"sends": len(bodies), "took_s": clock.took_s, "cpu_s": clock.cpu_s}))


if __name__ == "__main__":
    main({"aiohttp": _by_uvloop(_aiohttp), "httpx": _by_uvloop(_httpx), "raw": _by_uvloop(_raw)})
