"""How much of a limit a job uses, and how often it is told 429, by the record of a strict sliding-window server.

python -m benchmarks.share_of_limit [--launches 2000] [LIMIT …]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import aiohttp

import bulksend
from bulksend.api.emulation import emulator
from bulksend.api.run import run_async
from bulksend.model import Limit
from bulksend.providers import PROVIDERS

JOB = """
job = "share"
[account]
provider = "insider"
partner_id = "{partner_id}"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
sql = "select printf('%06d', i) as id from range({launches}) numbers(i)"
key = "id"
[create]
title = "share"
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


async def measure(limit: str, launches: int, latency: str) -> dict[str, object]:
    """Run one job against an emulator process and judge by the emulator's own times."""
    parsed = Limit.parse(limit)
    insider = PROVIDERS["insider"]
    flags = ("--latency", latency)
    with tempfile.TemporaryDirectory() as scratch:
        async with emulator(insider, accounts=1, limits={"insider.launch": parsed}, flags=flags) as accounts:
            account = accounts[0]
            os.environ["BENCHMARK_TOKEN"] = account.secrets["token"].reveal()
            job = Path(scratch) / "job.toml"
            text = JOB.format(**account.ids, url=account.base_url, limit=limit, launches=launches)
            job.write_text(text, "utf-8")
            report = await run_async(job, ledger=f"sqlite://{scratch}/ledger.db")
            effects, stats = await asyncio.to_thread(_record, account.base_url)
    window = parsed.windows[0]
    times = [effect["at_s"] for effect in effects if effect["endpoint"] == "insider.launch"]
    after_first_second = [at for at in times if at >= times[0] + 1]
    rate_per_s = (len(after_first_second) - 1) / (after_first_second[-1] - after_first_second[0])
    keys = [effect["body"]["target"]["values"][0] for effect in effects if effect["endpoint"] == "insider.launch"]
    return {
        "limit": limit,
        "latency": latency,
        "launches": launches,
        "accepted": report.accepted,
        "once": len(keys) == len(set(keys)) == launches,
        "share_after_first_second": round(rate_per_s / (window.calls / window.period_s), 4),
        "status_429": stats["throttled"],
        "max_in_window": stats["max_in_window"][0],
    }


def _record(url: str) -> tuple[list[dict], dict]:  # type: ignore[type-arg]
    with urlopen(f"{url}/_emulator/effects") as reply:
        effects = json.load(reply)["effects"]
    with urlopen(f"{url}/_emulator/stats") as reply:
        return effects, json.load(reply)["endpoints"]["insider.launch"]


def main() -> None:
    """Measure each limit, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("limits", nargs="*", default=["6000/min", "600/6s"])
    parser.add_argument("--launches", type=int, default=2000)
    parser.add_argument("--latency", default="20ms±10ms")
    given = parser.parse_args()
    versions = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, bulksend {bulksend.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}", file=sys.stderr)
    for limit in given.limits:
        print(json.dumps(asyncio.run(measure(limit, given.launches, given.latency))))


if __name__ == "__main__":
    main()
