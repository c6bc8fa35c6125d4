"""The vendor of the benchmarks of limits: counts as strictly as a vendor can, and its record is the judge.

python -m benchmarks.strict --limit "6000/min" [--latency 50±25] [--by HEADER] prints its address as a line of JSON, and
ends with its input.

No window of the limit ever holds more accepted calls than it allows, wherever it begins; a refused call counts for
nothing. A call is counted when it arrives: after half of the latency, and its reply takes the other half. The halves
are drawn each by itself, so that calls arrive less evenly than they left. With `--by` every value of that header is an
account with windows of its own. `GET /stats?first_s=60` is the record of the first 60 seconds after the first arrival,
`GET /stats` that of all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import chain
from time import monotonic
from typing import cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import uvloop

from benchmarks.sink import REPLY_BODY
from bulksend.model import Limit

__all__ = ["Stats"]

_REPLY = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nServer: strict\r\n\r\n%b"
_OK = _REPLY % (b"200 OK", len(REPLY_BODY), REPLY_BODY)
_REFUSAL = b'{"success":false,"message":"Too Many Requests"}'
_REFUSED = _REPLY % (b"429 Too Many Requests", len(_REFUSAL), _REFUSAL)
_LENGTH = b"\r\ncontent-length:"


class Stats(msgspec.Struct, frozen=True):
    """What the server saw; times are seconds of its own clock."""

    accepted: int
    refused: int
    most_arrived: list[int]
    """The most calls that arrived in any window, refused ones too, by the limit's windows; over all accounts: the most
    that one of them had. What was accepted is never above the limit."""
    accounts: dict[str, int]
    """Accepted, by account."""
    first_s: float | None
    last_s: float | None
    now_s: float


class Record:
    """One account's windows, and when its calls came."""

    __slots__ = ("accepted_s", "refused_s", "windows")

    def __init__(self, limit: Limit) -> None:
        self.windows: list[tuple[int, float, deque[float]]] = [
            (window.calls, window.period_s, deque()) for window in limit.windows
        ]
        self.accepted_s = array("d")
        self.refused_s = array("d")

    def admit(self, now_s: float) -> bool:
        """Count a call in if every window has room for it; one that is exactly a period old is out of the window."""
        room = True
        for calls, period_s, times in self.windows:
            gone_s = now_s - period_s
            while times and times[0] <= gone_s:
                times.popleft()
            room = room and len(times) < calls
        if room:
            for _, _, times in self.windows:
                times.append(now_s)
        (self.accepted_s if room else self.refused_s).append(now_s)
        return room

    def most_arrived(self, until_s: float) -> Iterator[int]:
        """Yield the most arrivals in any window that ended by then, by window."""
        times = sorted(time for time in chain(self.accepted_s, self.refused_s) if time < until_s)
        for _, period_s, _ in self.windows:
            most = oldest = 0
            for index, time in enumerate(times):
                while times[oldest] <= time - period_s:
                    oldest += 1
                most = max(most, index - oldest + 1)
            yield most


class Vendor:
    """All accounts, and the way to them."""

    def __init__(self, limit: Limit, by: bytes | None, latency_s: float, spread_s: float, seed: int) -> None:
        self._limit = limit
        self._by = b"\r\n" + by.lower() + b":" if by else None
        self._half_s = (max(0.0, latency_s - spread_s) / 2, (latency_s + spread_s) / 2)
        self._random = random.Random(seed)
        self._records: dict[bytes, Record] = {}

    def way_s(self) -> float:
        """Return how long one way takes, this time."""
        return self._random.uniform(*self._half_s) if self._half_s[1] else 0.0

    def answer(self, head: bytes) -> bytes:
        """Count a call that arrives now."""
        account = b"" if self._by is None else _header(head, self._by)
        record = self._records.get(account)
        if record is None:
            record = self._records[account] = Record(self._limit)
        return _OK if record.admit(monotonic()) else _REFUSED

    def stats(self, first_s: float | None) -> Stats:
        """Return the record, of the first seconds alone or of all."""
        records = self._records
        came = [times[0] for one in records.values() for times in (one.accepted_s, one.refused_s) if times]
        left = [times[-1] for one in records.values() for times in (one.accepted_s, one.refused_s) if times]
        began = min(came, default=None)
        until_s = float("inf") if first_s is None or began is None else began + first_s
        accounts = {name.decode("latin-1"): bisect_left(one.accepted_s, until_s) for name, one in records.items()}
        most = [tuple(one.most_arrived(until_s)) for one in records.values()]
        return Stats(
            accepted=sum(accounts.values()),
            refused=sum(bisect_left(one.refused_s, until_s) for one in records.values()),
            most_arrived=[max(of_window) for of_window in zip(*most, strict=True)] or [0] * len(self._limit.windows),
            accounts=accounts if self._by else {},
            first_s=began,
            last_s=max(left, default=None),
            now_s=monotonic(),
        )


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(name)
    if at < 0:
        return b""
    at += len(name)
    stop = head.find(b"\r\n", at)
    return (head[at:] if stop < 0 else head[at:stop]).strip()


class _Connection(asyncio.Protocol):
    """One request at a time is on its way; what comes behind it waits, as replies must keep its order."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._held = b""
        self._is_busy = False
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind

    def data_received(self, data: bytes) -> None:
        self._held += data
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        while self._held and not self._is_busy:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._held[:end]
            whole = end + 4 + int(_header(head, _LENGTH) or 0)
            if len(self._held) < whole:
                return
            self._held = self._held[whole:]
            if head.startswith(b"GET /stats"):
                self._tell(head)
                continue
            way_s = self._vendor.way_s()
            if way_s:
                self._is_busy = True
                self._loop.call_later(way_s, self._arrived, head)
            else:
                self._transport.write(self._vendor.answer(head))

    def _tell(self, head: bytes) -> None:
        asked = parse_qs(urlsplit(head.split(b" ", 2)[1].decode("latin-1")).query)
        body = msgspec.json.encode(self._vendor.stats(float(asked["first_s"][0]) if "first_s" in asked else None))
        self._transport.write(_REPLY % (b"200 OK", len(body), body))

    def _arrived(self, head: bytes) -> None:
        self._loop.call_later(self._vendor.way_s(), self._answered, self._vendor.answer(head))

    def _answered(self, reply: bytes) -> None:
        self._is_busy = False
        if not self._transport.is_closing():
            self._transport.write(reply)
            self._next()


async def _serve(vendor: Vendor) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(vendor), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=Limit.parse, required=True)
    parser.add_argument("--latency", default="50±25", help="milliseconds there and back, ± their spread")
    parser.add_argument("--by", help="the header that tells accounts apart")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    latency, _, spread = given.latency.partition("±")
    by = given.by.encode() if given.by else None
    uvloop.run(_serve(Vendor(given.limit, by, float(latency) / 1000, float(spread or 0) / 1000, given.seed)))


if __name__ == "__main__":
    main()
