"""How much of a limit a job uses, and how often it is told 429, by the record of a strict sliding-window server.

python -m benchmarks.share_of_limit [--launches 2000] [--processes 1] [LIMIT …]

With several processes each runs a job of its own, with so many launches, on one ledger and one account. The share is
that of all together, from one second after the last of them made its first call until the first of them was done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import aiohttp

import bulksend
from bulksend.api.emulation import emulator
from bulksend.model import Account, Limit
from bulksend.providers import PROVIDERS

CAMPAIGN = "7"
JOB = """
job = "share {number}"
[account]
provider = "insider"
partner_id = "{partner_id}"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
sql = "select printf('{number}-%06d', i) as id from range({launches}) numbers(i)"
key = "id"
[launch]
campaign_id = {campaign}
title = "Sale in store ${{id}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}
[limits]
"insider.launch" = "{limit}"
"""


async def measure(limit: str, launches: int, latency: str, processes: int) -> dict[str, object]:
    """Run the jobs against an emulator process and judge by the emulator's own times."""
    parsed = Limit.parse(limit)
    flags = ("--latency", latency)
    limits = {"insider.launch": parsed}
    with tempfile.TemporaryDirectory() as scratch:
        given = emulator(PROVIDERS["insider"], accounts=1, limits=limits, campaigns=[CAMPAIGN], flags=flags)
        async with given as accounts:
            account = accounts[0]
            jobs = [_write(Path(scratch), number, account, limit, launches) for number in range(processes)]
            ledger = f"sqlite://{scratch}/ledger.db"
            reports = await asyncio.gather(*(_run(job, ledger, account) for job in jobs))
            effects, stats = await asyncio.to_thread(_record, account.base_url)
    calls = [
        (effect["at_s"], effect["body"]["target"]["values"][0])
        for effect in effects
        if effect["endpoint"] == "insider.launch"
    ]
    window = parsed.windows[0]
    return {
        "limit": limit,
        "latency": latency,
        "processes": processes,
        "launches": launches,
        "accepted": sum(report["sends"]["accepted"] for report in reports),
        "once": len(calls) == len({key for _, key in calls}) == launches * processes,
        "share_after_first_second": round(_rate_per_s(calls) / (window.calls / window.period_s), 4),
        "status_429": stats["throttled"],
        "max_in_window": stats["max_in_window"][0],
        "max_in_window_told": [report["endpoints"]["insider.launch"]["max_in_window"] for report in reports],
    }


def _write(folder: Path, number: int, account: Account, limit: str, launches: int) -> Path:
    job = folder / f"job{number}.toml"
    numbers = {"number": number, "launches": launches, "campaign": CAMPAIGN}
    job.write_text(JOB.format(**account.ids, **numbers, url=account.base_url, limit=limit), "utf-8")
    return job


async def _run(job: Path, ledger: str, account: Account) -> dict:  # type: ignore[type-arg]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bulksend", "run", str(job), "--json", "--ledger", ledger),
        env={**os.environ, "BENCHMARK_TOKEN": account.secrets["token"].reveal()},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return json.loads(out)


def _rate_per_s(calls: Sequence[tuple[float, str]]) -> float:
    """Return the rate of all together while all were at work."""
    by_job: dict[str, list[float]] = {}
    for at, key in calls:
        by_job.setdefault(key.partition("-")[0], []).append(at)
    began = max(times[0] for times in by_job.values()) + 1
    ended = min(times[-1] for times in by_job.values())
    within = [at for at, _ in calls if began <= at <= ended]
    if len(within) < 2:
        raise SystemExit("the jobs were never at work at the same time for a second: give them more --launches")
    return (len(within) - 1) / (within[-1] - within[0])


def _record(url: str) -> tuple[list[dict], dict]:  # type: ignore[type-arg]
    with urlopen(f"{url}/_emulator/effects") as reply:
        effects = json.load(reply)["effects"]
    with urlopen(f"{url}/_emulator/stats") as reply:
        return effects, json.load(reply)["endpoints"]["insider.launch"]


def main() -> None:
    """Measure each limit, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("limits", nargs="*", default=["6000/min", "600/6s"])
    parser.add_argument("--launches", type=int, default=2000)
    parser.add_argument("--latency", default="20ms±10ms")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    versions = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, bulksend {bulksend.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}", file=sys.stderr)
    for limit in given.limits:
        print(json.dumps(asyncio.run(measure(limit, given.launches, given.latency, given.processes))))


if __name__ == "__main__":
    main()
