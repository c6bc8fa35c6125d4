"""How much of a limit is used, and how often the vendor says 429: bulksend and what people write instead.

python -m benchmarks share_of_limit [--full]; the judge is `benchmarks/strict.py`.

This module run by itself is one of the peers: python -m benchmarks.share_of_limit PEER URL LIMIT CALLS.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import msgspec

from benchmarks.frame import Aim, Result, Row, Value, serving
from benchmarks.strict import Stats
from bulksend.model import Limit

__all__ = ["Bout", "bulksend_job", "measure", "record"]

PATH = "/v2/single/7"
TOKEN = "benchmark-token"
LATENCY = "50±25"
SLOW_PER_S = 100
"""Up to this rate those compared run at the same time: together they take less than the two cores have."""
FEW = 500
"""So many calls at once are over before the others notice."""
STARTS_WITHIN_S = 60.0

JOB = """
job = "share {number}"
[account]
provider = "insider"
partner_id = "100000001"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
sql = "select printf('{number}-%07d', i) as id from range({rows}) numbers(i)"
key = "id"
[launch]
campaign_id = 7
title = "Sale in store ${{id}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}
[limits]
"insider.launch" = "{limit}"
"""


class Bout(msgspec.Struct, frozen=True):
    """A limit, for how many of its longest windows, and the share to reach."""

    limit: str
    windows: int
    least: float
    ahead: bool = False
    """Whether every peer is to be behind. Where calls are seconds apart, whoever sleeps between them is as good."""

    @property
    def parsed(self) -> Limit:
        """Return the limit itself."""
        return Limit.parse(self.limit)

    @property
    def seconds(self) -> float:
        """Return for how long is judged."""
        return self.windows * max(window.period_s for window in self.parsed.windows)

    @property
    def per_s(self) -> float:
        """Return the rate that the limit allows in the long run."""
        return min(window.calls / window.period_s for window in self.parsed.windows)

    @property
    def calls(self) -> int:
        """Return more calls than anybody makes in the time, a first burst included."""
        return round(self.per_s * self.seconds * 1.2) + sum(window.calls for window in self.parsed.windows)


FULL = (
    Bout("6000/min", 3, 0.995, ahead=True),
    Bout("30/min", 3, 0.97),
    Bout("300/min, 10/s", 3, 0.97),
    Bout("60000/min", 2, 0.97),
)
SHORT = (Bout("600/6s", 4, 0.97), Bout("6000/6s", 2, 0.97))

Fighter = Callable[[Bout, str, Path], Sequence[subprocess.Popen[bytes]]]
"""Starts the processes that make the calls, against a server; the folder is theirs."""


def measure(*, full: bool) -> list[Result]:
    """Measure each limit by itself."""
    return [_measure(bout, full=full) for bout in (FULL if full else SHORT)]


def _measure(bout: Bout, *, full: bool) -> Result:
    steady, bursting, missing = _fighters(bout)
    if full:
        bursting["bulksend, 4 processes"] = _bulksend(4)
    records: dict[str, Stats] = {}
    for wave in (waves := _waves(bout, steady, bursting)):
        with ThreadPoolExecutor(len(wave)) as pool:
            records.update(zip(wave, pool.map(lambda fighter: _fought(bout, fighter), wave.values()), strict=True))
    about = (
        f"Limit {bout.limit}, counted as strict sliding windows, {LATENCY} ms of latency, {bout.seconds:g} s; each "
        f"with a server of its own, {'at the same time' if len(waves) < len(records) else 'one after the other'}. "
        "Share: calls accepted within that time from the first arrival on, of those that the limit allows in it: a "
        "whole number of windows, so that nobody, however it bursts, can have over 100 %. In a window: the most calls "
        "that arrived in any, refused ones too."
    )
    rows = [Row(who, _figures(bout, stats)) for who, stats in records.items()]
    return Result(f"Share of {bout.limit}", about, rows, list(_aims(bout, records)), missing)


def _waves(bout: Bout, steady: dict[str, Fighter], bursting: dict[str, Fighter]) -> list[dict[str, Fighter]]:
    """Return those that run at the same time: as many as do not take the cores from each other.

    Who sends a window's calls at once takes a core for seconds where they are thousands.
    """
    if bout.per_s > SLOW_PER_S:
        return [{who: one} for who, one in {**steady, **bursting}.items()]
    if max(window.calls for window in bout.parsed.windows) > FEW:
        return [steady, bursting]
    return [{**steady, **bursting}]


def _fighters(bout: Bout) -> tuple[dict[str, Fighter], dict[str, Fighter], list[str]]:
    windows = bout.parsed.windows
    steady: dict[str, Fighter] = {
        "bulksend": _bulksend(1),
        f"AsyncLimiter(1, {1 / bout.per_s:g})": _peer("one_by_one"),
        "even sleep": _peer("sleep"),
    }
    bursting = {" + ".join(f"AsyncLimiter({one.calls}, {one.period_s:g})" for one in windows): _peer("aiolimiter")}
    missing = []
    if importlib.util.find_spec("pyrate_limiter"):
        bursting["PyrateLimiter"] = _peer("pyrate")
    else:
        missing.append("pyrate-limiter")
    if shutil.which("hey"):
        steady["hey -q"] = _hey
    else:
        missing.append("hey")
    return steady, bursting, missing


def share(bout: Bout, accepted: int) -> float:
    """Return what part of the calls that the limit allows in the time were accepted."""
    return accepted / (bout.per_s * bout.seconds)


def _figures(bout: Bout, stats: Stats) -> dict[str, Value]:
    return {
        "share": f"{100 * share(bout, stats.accepted):.2f} %",
        "accepted": stats.accepted,
        "429s": stats.refused,
        "in a window": ", ".join(map(str, stats.most_arrived)),
        "allowed": ", ".join(str(window.calls) for window in bout.parsed.windows),
    }


def _aims(bout: Bout, records: dict[str, Stats]) -> Iterator[Aim]:
    ours = [(who, one) for who, one in records.items() if who.startswith("bulksend")]
    for who, stats in ours:
        used = share(bout, stats.accepted)
        yield Aim(
            f"{who}: at least {100 * bout.least:g} % used, no 429",
            used >= bout.least and stats.refused == 0,
            f"{100 * used:.2f} %, {stats.refused}",
        )
    if not bout.ahead:
        return
    best = records["bulksend"]
    as_good = [
        who
        for who, stats in records.items()
        if not who.startswith("bulksend") and stats.accepted >= best.accepted and stats.refused <= best.refused
    ]
    yield Aim("every peer uses less or is told 429 more often", not as_good, f"as good: {', '.join(as_good) or 'none'}")


def _fought(bout: Bout, fighter: Fighter) -> Stats:
    server = serving("strict", ["--limit", bout.limit, "--latency", LATENCY])
    with tempfile.TemporaryDirectory() as scratch, server as at, ended(fighter(bout, at["url"], Path(scratch))) as all_:
        return record(at["url"], bout.seconds, all_, Path(scratch))


def record(url: str, seconds: float, clients: Sequence[subprocess.Popen[bytes]], scratch: Path) -> Stats:
    """Return the server's record of so long from the first arrival on, once that time is over.

    The clients have more to send than they can in it: one that ends before has failed, and is no measurement.
    """
    began = time.monotonic()
    while True:
        stats = _stats(url, seconds)
        if stats.first_s is not None and stats.now_s >= stats.first_s + seconds:
            return stats
        failed = next((client for client in clients if client.poll() is not None), None)
        late = stats.first_s is None and time.monotonic() > began + STARTS_WITHIN_S
        if failed is not None or late:
            said = "\n".join(log.read_text("utf-8")[-2000:] for log in sorted(scratch.glob("*.log")))
            what = (
                f"no call after {STARTS_WITHIN_S:g} s" if failed is None else f"{failed.args!r} ended before its time"
            )
            raise SystemExit(f"{what}\n{said}")
        # Asked as rarely as may be: an answer takes the server a moment in which it does not count.
        time.sleep(0.2 if stats.first_s is None else max(0.05, stats.first_s + seconds - stats.now_s))


def _stats(url: str, seconds: float) -> Stats:
    with urlopen(f"{url}/stats?first_s={seconds}") as reply:
        return msgspec.json.decode(reply.read(), type=Stats)


@contextmanager
def ended(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """Give processes, and end them."""
    try:
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def bulksend_job(job: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a job as a person would: the shell's own command, with its log in a file."""
    with job.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bulksend", "run", str(job), "--json", "--ledger", f"sqlite:///{job.parent}/l.db"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **environment},
        )


def _bulksend(processes: int) -> Fighter:
    """Return jobs, one a process, on one ledger and one account."""

    def start(bout: Bout, url: str, scratch: Path) -> list[subprocess.Popen[bytes]]:
        started = []
        for number in range(processes):
            job = scratch / f"job{number}.toml"
            job.write_text(JOB.format(number=number, url=url, rows=bout.calls, limit=bout.limit), "utf-8")
            started.append(bulksend_job(job, BENCHMARK_TOKEN=TOKEN))
        return started

    return start


def _peer(name: str) -> Fighter:
    def start(bout: Bout, url: str, _: Path) -> list[subprocess.Popen[bytes]]:
        arguments = [name, url, bout.limit, str(bout.calls)]
        return [subprocess.Popen([sys.executable, "-m", "benchmarks.share_of_limit", *arguments])]

    return start


def _hey(bout: Bout, url: str, _: Path) -> list[subprocess.Popen[bytes]]:
    """Run `hey` with as few workers as make the rate, as its -q is a rate for each of them."""
    workers = max(1, round(bout.per_s / 10))
    rate = ["-c", str(workers), "-q", f"{bout.per_s / workers:g}", "-z", f"{bout.seconds + 10:g}s"]
    what = ["-m", "POST", "-T", "application/json", "-H", f"Authorization: Bearer {TOKEN}", "-d", json.dumps(_body(0))]
    return [subprocess.Popen(["hey", *rate, *what, url + PATH], stdout=subprocess.DEVNULL)]


def _body(number: int) -> dict[str, object]:
    return {
        "title": f"Sale in store {number}",
        "description": "Up to 50% off",
        "image": "https://example.com/icon.png",
        "link": f"https://example.com/?store={number}",
        "ttl": "86400",
        "target": {"attribute": "c_store_id", "values": [str(number)]},
    }


async def _run_peer(name: str, url: str, limit: Limit, calls: int) -> None:
    """Make the calls as the peer's own page shows it: a task for each, which waits for the limiter."""
    import aiohttp

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

        async def post(number: int) -> None:
            async with session.post(url + PATH, json=_body(number)) as reply:
                await reply.read()

        await _PEERS[name](limit, calls, post)


Post = Callable[[int], Coroutine[None, None, None]]


async def _aiolimiter(limit: Limit, calls: int, post: Post) -> None:
    from aiolimiter import AsyncLimiter

    limiters = [AsyncLimiter(window.calls, window.period_s) for window in limit.windows]

    async def one(number: int) -> None:
        for limiter in limiters:
            await limiter.acquire()
        await post(number)

    await asyncio.gather(*(one(number) for number in range(calls)))


async def _one_by_one(limit: Limit, calls: int, post: Post) -> None:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(1, _interval_s(limit))

    async def one(number: int) -> None:
        async with limiter:
            await post(number)

    await asyncio.gather(*(one(number) for number in range(calls)))


async def _pyrate(limit: Limit, calls: int, post: Post) -> None:
    from pyrate_limiter import BucketAsyncWrapper, Duration, InMemoryBucket, Limiter, Rate

    windows = sorted(limit.windows, key=lambda window: window.period_s)
    rates = [Rate(window.calls, round(window.period_s * Duration.SECOND)) for window in windows]
    limiter = Limiter(BucketAsyncWrapper(InMemoryBucket(rates)))

    async def one(number: int) -> None:
        await limiter.try_acquire_async("launch")
        await post(number)

    await asyncio.gather(*(one(number) for number in range(calls)))


async def _sleep(limit: Limit, calls: int, post: Post) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(calls):
            tasks.create_task(post(number))
            await asyncio.sleep(_interval_s(limit))


_PEERS = {"aiolimiter": _aiolimiter, "one_by_one": _one_by_one, "pyrate": _pyrate, "sleep": _sleep}


def _interval_s(limit: Limit) -> float:
    return max(window.period_s / window.calls for window in limit.windows)


def main() -> None:
    """Be a peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=_PEERS)
    parser.add_argument("url")
    parser.add_argument("limit", type=Limit.parse)
    parser.add_argument("calls", type=int)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(_run_peer(given.peer, given.url, given.limit, given.calls))


if __name__ == "__main__":
    main()
