"""The vendor of the speed benchmarks: a process that takes any request and answers it at once, and counts.

python -m benchmarks.sink [--tls CERTIFICATE KEY] prints its address as a line of JSON, and ends with its input.

It is no emulator: nothing is checked and nothing limited, so that what is measured is the sender. It reads requests as
the senders here write them (a length, no chunks), and shows at `GET /count` how many others it has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from typing import cast

import uvloop

__all__ = ["REPLY_BODY"]

REPLY_BODY = b'{"success":true,"campaign_id":7}'
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nServer: sink\r\n"
    b"Date: Sat, 01 Aug 2026 06:00:00 GMT\r\n\r\n%b"
)
_OK = _REPLY % (len(REPLY_BODY), REPLY_BODY)
_LENGTH = b"\r\ncontent-length:"


class _Sink(asyncio.Protocol):
    """One connection; requests may come in pieces, or several at once."""

    answered = 0

    def __init__(self) -> None:
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head = data[:end].lower()
            at = head.find(_LENGTH)
            if at < 0:
                length = 0
            else:
                at += len(_LENGTH)
                stop = head.find(b"\r\n", at)
                length = int(head[at:] if stop < 0 else head[at:stop])
            whole = end + 4 + length
            if len(data) < whole:
                break
            if head.startswith(b"get /count "):
                count = b"%d" % _Sink.answered
                self._transport.write(_REPLY % (len(count), count))
            else:
                _Sink.answered += 1
                self._transport.write(_OK)
            data = data[whole:]
        self._held = data


async def _serve(tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Sink, "127.0.0.1", 0, ssl=tls, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http{'s' if tls else ''}://127.0.0.1:{port}"}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    given = parser.parse_args()
    tls = None
    if given.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*given.tls)
    uvloop.run(_serve(tls))


if __name__ == "__main__":
    main()
