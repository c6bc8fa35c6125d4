"""kill -9 of the real process against the real emulator, over and over in one job, judged by the emulator's own record.

The suite has a short form; `python -m pytest -n0 -m long tests/end_to_end/test_deaths.py` kills each job fifty times.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.test_providers import CASES, Case
from tests.end_to_end.vendor import Done, Folder, Process, Vendor, finish

LATENCY = ("--latency", "30ms±20ms")
FREE = "2000/s"
"""What the vendor admits: how limits are kept is looked at elsewhere."""
WAYS = ("insider", "usercom", "batch, draft and live", "batch, direct", "stream", "stream, users in chunks")


@pytest.mark.parametrize("way", WAYS)
def test_deaths_at_any_moment_double_nothing_and_lose_nothing(tmp_path: Path, way: str) -> None:
    die(tmp_path, way, deaths=4, rows=120, seed=6)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", WAYS)
def test_fifty_deaths_in_one_job(tmp_path: Path, way: str) -> None:
    print(way, die(tmp_path, way, deaths=50, rows=2500, seed=66))  # noqa: T201  # the figures are what a long run is for


def die(path: Path, way: str, *, deaths: int, rows: int, seed: int) -> dict[str, object]:
    """Kill the job so often, let it end, and judge; returns the figures."""
    case, dice = CASES[way], random.Random(seed)
    endpoints = (*case.writes, *case.reads)
    free = [part for name in endpoints for part in ("--limit", f"{name}={FREE}")]
    writes = rows // case.chunk * (1 if case.provider == "insider" else len(case.writes))
    with Vendor(*free, *LATENCY, provider=case.provider) as vendor:
        folder = write(path, case, vendor, rows)
        for death in range(deaths):
            process = folder.start("run", "job.toml", "--json")
            # The work that is left is spread over the deaths that are to come.
            share = (writes - effects(vendor, case)) // (deaths - death + 1)
            wait_to_kill(process, vendor, case, dice.randrange(max(1, share)), dice)
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
            assert process.returncode == -signal.SIGKILL, f"the job ended before its death: {err}"
        if effects(vendor, case):
            assert folder.command("status", "job.toml", "--json").json["state"] == "incomplete"
        done = finish(folder.start("run", "job.toml", "--json"))
        return judge(case, vendor, folder, done, rows=rows, deaths=deaths)


def write(path: Path, case: Case, vendor: Vendor, rows: int) -> Folder:
    audience = jobs.AUDIENCE + (f"chunk = {case.chunk}\n" if case.chunk > 1 else "")
    limits = jobs.limits(f"{100 // case.chunk}/s", *case.writes, *case.reads)
    names = [f"k{one:04}" for one in range(1, rows + 1)]
    values = [(key, f"segment-{key}" if case.provider == "stream" else int(key[1:])) for key in names]
    return jobs.folder_of(path, vendor, jobs.head(vendor) + audience + case.text + limits, rows=values)


def effects(vendor: Vendor, case: Case) -> int:
    return sum(vendor.stats(name)["effects"] for name in case.writes)


def wait_to_kill(process: Process, vendor: Vendor, case: Case, more: int, dice: random.Random) -> None:
    """Wait for so many effects more, and a moment; one time in four only for a moment from its start on."""
    if dice.random() < 0.25:
        time.sleep(dice.uniform(0.0, 0.5))
        return
    wanted = effects(vendor, case) + more
    while effects(vendor, case) < wanted and process.poll() is None:
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.03))


def judge(case: Case, vendor: Vendor, folder: Folder, done: Done, *, rows: int, deaths: int) -> dict[str, object]:
    assert done.code in (0, 3), done.err
    sends, total = done.sends, rows // case.chunk
    assert sends["total"] == total
    assert sends["accepted"] + sends["rejected"] + sends["unknown"] == total
    assert sends["rejected"] == sends["pending"] == 0

    states = by_row(folder.path / "bulksend.db")
    assert len(states) == rows, "a row is in no state"
    arrived = case.judge(vendor)
    assert set(arrived) <= set(states)
    assert max(arrived.values()) == 1, "a row went out twice"
    assert [key for key, state in states.items() if state == "accepted" and key not in arrived] == []
    assert [key for key in arrived if states[key] not in ("accepted", "unknown")] == []
    if case.unknown == 0:
        assert sends["unknown"] == 0
        assert len(arrived) == rows
    # In flight at 100 calls a second and 50 ms are five, and as many wait for the gate; more on a busy machine.
    assert sends["unknown"] <= deaths * 40
    assert folder.command("status", "job.toml", "--json").json["sends"] == sends
    if not sends["unknown"]:
        assert folder.run().json["calls"]["made"] == 0
    return {"deaths": deaths, "rows": rows, "arrived": len(arrived), "effects": effects(vendor, case), **sends}


def by_row(ledger: Path) -> dict[str, str]:
    """Return the state of each row, through its chunk where it is in one."""
    with closing(sqlite3.connect(ledger)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = dict(db.execute("SELECT key, state FROM send WHERE scope = 'send'"))
        members = dict(db.execute("SELECT key, chunk FROM member"))
    return {key: states[chunk] for key, chunk in members.items()} if members else states
