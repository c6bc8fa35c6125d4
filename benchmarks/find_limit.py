"""How fast the load test's generator is on this machine, how punctual, and how near the limits are that it finds.

python -m benchmarks.find_limit [--seconds 5] [--search LIMIT …]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bulksend
from bulksend.model import Limit

JOB = """
job = "generator"
[account]
provider = "insider"
partner_id = "100000001"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
sql = "select printf('%06d', i) as id from range(1000) numbers(i)"
key = "id"
[create]
title = "generator"
language = "en_GB"
[launch]
title = "Sale in store ${{id}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}
[limits]
"insider.launch" = "{limit}"
"""
BODY = b'{"success":true,"campaign_id":"1"}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
RATES = ("6000/min", "30000/min", "60000/min", "90000/min", "120000/min")


class Trivial(asyncio.Protocol):
    """Says yes to every request, and looks at nothing in it but its length."""

    def __init__(self) -> None:
        self.seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while (end := self.seen.find(b"\r\n\r\n")) >= 0:
            _, found, after = self.seen[:end].lower().partition(b"content-length:")
            whole = end + 4 + (int(after.split(b"\r\n")[0]) if found else 0)
            if len(self.seen) < whole:
                return
            self.seen = self.seen[whole:]
            self.transport.write(REPLY)


async def serve() -> None:
    """Run the trivial server until this process is ended; its port is the first line on stdout."""
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def trivial_server() -> Iterator[str]:
    """Run it as a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.find_limit", "--serve"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}"
    finally:
        child.terminate()
        child.wait()


def run(
    folder: Path, *, url: str | None, limit: str, rate: str, duration: str, find: bool = False
) -> dict[str, object]:
    """Run one load test in this process, against a server at `url` or an emulator of its own."""
    job = folder / "job.toml"
    job.write_text(JOB.format(url=url or "http://127.0.0.1:9", limit=limit), "utf-8")
    report = bulksend.load_test(
        job, rate=rate, duration=duration, emulate=url is None, find_limit=find, max_in_flight=1000
    )
    return report.to_dict()


def main() -> None:
    """Print a line for each rate and server, and one for each limit that is searched for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rates", nargs="*", default=RATES)
    parser.add_argument("--search", nargs="*", default=[])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    os.environ["BENCHMARK_TOKEN"] = "benchmark"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, bulksend {bulksend.__version__}",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory() as scratch, trivial_server() as url:
        folder = Path(scratch)
        for name, where in (("trivial", url), ("emulator", None)):
            for rate in given.rates:
                began_s = time.process_time()
                told = run(folder, url=where, limit="1000000/s", rate=rate, duration=f"{given.seconds}s")
                kept = {key: told[key] for key in ("calls", "elapsed_s", "latency_ms", "wire_ms")}
                cpu_s = time.process_time() - began_s
                calls = told["calls"]["sent"]  # type: ignore[index]
                one = {
                    "server": name,
                    "rate": rate,
                    **kept,
                    "cpu_s": round(cpu_s, 2),
                    "per_cpu_s": round(calls / cpu_s),
                }
                print(json.dumps(one), flush=True)
        for limit in given.search:
            fastest = min(one.calls / one.period_s for one in Limit.parse(limit).windows)
            told = run(folder, url=None, limit=limit, rate=f"{max(10, round(4 * fastest))}/s", duration="5s", find=True)
            print(json.dumps({"limit": limit, "found": told["limits"], **told["search"]}), flush=True)  # type: ignore[dict-item]


if __name__ == "__main__":
    main()
