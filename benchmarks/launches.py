"""The work of the speed benchmarks: a job of which no two launches are alike, and the same bodies for its peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson

__all__ = ["PATH", "ROOT", "TOKEN", "Work", "prepare"]

ROOT = Path(__file__).parents[1]
"""Where children are started, so that they find the packages of this checkout."""
_CAMPAIGN = 7
PATH = f"/v2/single/{_CAMPAIGN}"
"""Of a launch."""
TOKEN = "0123456789abcdef0123456789abcdef"
_CHECKED = 3
_JOB = """
job = "speed"
[account]
provider = "insider"
partner_id = "100000001"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
from = "stores.csv"
key = "id"
[launch]
campaign_id = {campaign}
title = "Sale in store ${{id}}"
description = "Up to 50% off in ${{city}}: open until 9 tonight"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
language = "en_GB"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}
[limits]
"insider.launch" = "1_000_000_000/min"
"""


class Work(msgspec.Struct, frozen=True):
    """Launches to be made, in a form for each who makes them."""

    count: int
    url: str
    job: Path
    bodies: Path
    """One a line."""
    environment: dict[str, str]


def prepare(folder: Path, url: str, count: int, *, ca: Path | None = None) -> Work:
    """Write a job of `count` launches to `url`, and its bodies, which are checked against what `bulksend plan` says."""
    folder.mkdir(parents=True, exist_ok=True)
    job, bodies = folder / "job.toml", folder / "bodies.jsonl"
    job.write_text(_JOB.format(url=url, campaign=_CAMPAIGN), "utf-8")
    with (folder / "stores.csv").open("w", encoding="utf-8") as file:
        file.write("id,city\n")
        file.writelines(f"{_key(number)},{_city(number)}\n" for number in range(count))
    with bodies.open("wb") as lines:
        lines.writelines(orjson.dumps(_body(number)) + b"\n" for number in range(count))
    environment = {name: value for name, value in os.environ.items() if name != "BULKSEND_LEDGER"}
    environment["BENCHMARK_TOKEN"] = TOKEN
    if ca is not None:
        environment["SSL_CERT_FILE"] = str(ca)
    work = Work(count, url, job, bodies, environment)
    _check(work)
    return work


def _key(number: int) -> str:
    return f"s{number:07d}"


def _city(number: int) -> str:
    return f"City {number % 977}"


def _body(number: int) -> dict[str, Any]:
    key = _key(number)
    return {
        "partner_id": "100000001",
        "title": f"Sale in store {key}",
        "description": f"Up to 50% off in {_city(number)}: open until 9 tonight",
        "image": "https://example.com/icon.png",
        "link": f"https://example.com/?store={key}",
        "ttl": "86400",
        "language": "en_GB",
        "target": {"attribute": "c_store_id", "values": [key]},
    }


def _check(work: Work) -> None:
    command = (sys.executable, "-m", "bulksend", "plan", str(work.job), "--json", "--limit", str(_CHECKED))
    planned = subprocess.run(command, cwd=ROOT, env=work.environment, capture_output=True, text=True, check=False)
    if planned.returncode:
        raise SystemExit(planned.stderr)
    samples = [sample["body"] for sample in json.loads(planned.stdout)["samples"]]
    if not samples or samples != [_body(number) for number in range(len(samples))]:
        raise SystemExit("the peers would not send what bulksend does: benchmarks/launches.py is behind the provider")
