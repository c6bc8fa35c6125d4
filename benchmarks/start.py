"""How soon a job makes its first call, and how soon it has ended after SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import msgspec

from benchmarks.clock import Times
from benchmarks.frame import Aim, Result, Row, serving

__all__ = ["measure"]

_ROWS = 1_000
_LATENCY_S = 0.3
_PER_S = 100
_RUNS_S = 1.5
"""So long after its first call it is asked to end: 30 calls are under way."""
_JOB = """
job = "start"
[account]
provider = "insider"
partner_id = "1"
token = "env:BENCHMARK_TOKEN"
base_url = "{url}"
[audience]
from = "stores.csv"
key = "store"
[launch]
campaign_id = 7
title = "Sale in ${{city}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{store}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{store}}"] }}
[limits]
"insider.launch" = "{limit}/s"
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, in seconds."""

    to_first_call_s: float
    to_exit_s: float
    beyond_reply_s: float
    """From the last reply, or the signal where that came later, to the exit."""
    late_call_s: float
    """From the signal to the last call that was begun after it; 0 without one."""


def measure(*, full: bool) -> Result:
    """Start a job so many times, each with a new ledger, and end it while it sends."""
    rounds = 20 if full else 6
    with serving("clock", [str(_LATENCY_S)]):
        pass  # compiles what is not yet
    runs = [_run() for _ in range(rounds)]
    starts, exits, beyond = (
        [getattr(run, name) for run in runs] for name in ("to_first_call_s", "to_exit_s", "beyond_reply_s")
    )
    rows = [
        _row("process start to first call", starts),
        _row("SIGTERM to exit", exits),
        _row("of that beyond the slowest reply", beyond),
        _row("SIGTERM to the last new call", [run.late_call_s for run in runs]),
    ]
    aims = [
        Aim("first call < 1 s after the process's start, at worst", max(starts) < 1, f"{max(starts):.2f} s"),
        Aim("exit < 1 s beyond the slowest in-flight reply, at worst", max(beyond) < 1, f"{max(beyond):.2f} s"),
    ]
    about = (
        f"`bulksend run` with {_ROWS:,} rows of CSV, a campaign_id, {_PER_S} calls/s, a new SQLite ledger; replies "
        f"take {_LATENCY_S * 1000:.0f} ms; SIGTERM {_RUNS_S} s after the first call; {rounds} runs."
    )
    return Result("start", about, rows, aims)


def _row(who: str, seconds: Sequence[float]) -> Row:
    return Row(who, {"median s": statistics.median(seconds), "least s": min(seconds), "worst s": max(seconds)})


def _run() -> _Run:
    with tempfile.TemporaryDirectory() as scratch, serving("clock", [str(_LATENCY_S)]) as vendor:
        folder = Path(scratch)
        stores = "".join(f"{number:05},Oslo\n" for number in range(_ROWS))
        (folder / "stores.csv").write_text(f"store,city\n{stores}", "ascii")
        (folder / "job.toml").write_text(_JOB.format(url=vendor["url"], limit=_PER_S), "utf-8")
        env = {**os.environ, "BENCHMARK_TOKEN": "benchmark"}
        command = [sys.executable, "-m", "bulksend", "run", str(folder / "job.toml"), "--json", "--yes"]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            started_s = time.monotonic()
            process = subprocess.Popen(command, env=env, stdout=out, stderr=err)
            try:
                first_s = _first_call_s(vendor["url"], process)
                time.sleep(max(0.0, first_s + _RUNS_S - time.monotonic()))
                told_s = time.monotonic()
                process.send_signal(signal.SIGTERM)
                process.wait()
                ended_s = time.monotonic()
            finally:
                process.kill()
                process.wait()
        times = _times(vendor["url"])
        report = json.loads((folder / "out").read_bytes())
        if report["state"] != "stopped" or report["sends"]["accepted"] != times.calls or process.returncode != 75:
            raise SystemExit(f"exit {process.returncode} with {report} after {times.calls} calls")
        return _Run(
            first_s - started_s,
            ended_s - told_s,
            ended_s - max(times.answered_s, told_s),
            max(0.0, times.last_s - told_s),
        )


def _first_call_s(url: str, process: subprocess.Popen[bytes]) -> float:
    while process.poll() is None:
        if (first_s := _times(url).first_s) > 0:
            return first_s
        time.sleep(0.05)
    raise SystemExit(f"the run ended before its first call, exit {process.returncode}")


def _times(url: str) -> Times:
    with urlopen(f"{url}/times", timeout=10) as reply:
        return msgspec.json.decode(reply.read(), type=Times)
