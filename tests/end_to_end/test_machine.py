"""The machine in trouble while a real process runs: no room, read-only, no descriptors, no names, stopped for a while.

See tests/README.md.
"""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

import bulksend
from bulksend.engine import direct
from bulksend.ledger.sqlite import SqliteLedger
from tests.end_to_end.outage import VENDOR, Outage
from tests.end_to_end.vendor import Process, Vendor, finish

DISK_MIB = 16
"""The write-ahead log alone grows to four before it is folded in."""


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs to be root; test_ledger_trouble.py has the same by a file size limit")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return filler


def begun(outage: Outage, disk: Path, number: int) -> Process:
    """Start the job with its ledger on the disk, and return once so many rows were launched."""
    process = outage.folder.start("run", "job.toml", "--json", "--ledger", f"sqlite://{disk / 'bulksend.db'}")
    outage.vendor.wait_for_launches(number)
    return process


def goes_on(outage: Outage, disk: Path) -> None:
    done = outage.folder.run("--ledger", f"sqlite://{disk / 'bulksend.db'}")
    assert done.code in (0, 3), done.err
    launches = outage.vendor.launches()
    assert max(launches.values()) == 1
    assert done.sends["accepted"] + done.sends["unknown"] == outage.rows
    assert done.sends["accepted"] <= len(launches) <= done.sends["accepted"] + done.sends["unknown"]


def test_a_full_disk_is_said_and_costs_nothing(tmp_path: Path, disk: Path) -> None:
    with Vendor(*VENDOR) as vendor:
        outage = Outage(tmp_path, vendor, rows=400)
        process = begun(outage, disk, 60)
        filler = fill(disk)
        done = finish(process)
        assert done.code == 1
        assert f"the ledger {disk / 'bulksend.db'} cannot be written: the disk is full" in done.err
        assert 0 < len(vendor.launches()) < 400
        again = outage.folder.run("--ledger", f"sqlite://{disk / 'bulksend.db'}")
        assert again.code == 1
        assert "cannot be written: the disk is full" in again.err
        filler.unlink()
        goes_on(outage, disk)


def test_a_disk_that_becomes_read_only_is_said_and_costs_nothing(tmp_path: Path, disk: Path) -> None:
    with Vendor(*VENDOR) as vendor:
        outage = Outage(tmp_path, vendor, rows=400)
        assert outage.folder.run("--limit", "30", "--ledger", f"sqlite://{disk / 'bulksend.db'}").code == 0
        remount(disk, "ro")
        done = outage.folder.run("--ledger", f"sqlite://{disk / 'bulksend.db'}")
        assert done.code == 1
        assert f"the ledger {disk / 'bulksend.db'} cannot be opened: its directory is read-only" in done.err
        assert (
            "read-only"
            in outage.folder.command("status", "job.toml", "--ledger", f"sqlite://{disk / 'bulksend.db'}").err
        )
        assert len(vendor.launches()) == 30
        remount(disk, "rw")
        goes_on(outage, disk)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_report_for_which_there_is_no_room_leaves_the_old_one(tmp_path: Path, disk: Path) -> None:
    with Vendor(*VENDOR) as vendor:
        outage = Outage(tmp_path, vendor, rows=10)
        outage.run()
        to = disk / "report.html"
        assert outage.folder.command("report", "job.toml", "-o", str(to)).code == 0
        old = to.read_bytes()
        filler = fill(disk)
        done = outage.folder.command("report", "job.toml", "-o", str(to))
        assert done.code != 0
        assert "No space left" in done.err
        assert to.read_bytes() == old
        assert sorted(one.name for one in disk.iterdir()) == ["filler", "report.html"]
        filler.unlink()


def test_few_descriptors_cost_time_only(tmp_path: Path) -> None:
    """A slow vendor takes more connections than there are descriptors: those that cannot be opened are tried again."""
    with Vendor("--limit", "insider.launch=5000/s", "--latency", "700ms", "--campaign", "1") as vendor:
        outage = Outage(tmp_path, vendor, rows=150)
        outage.folder.edit('"300/s"', '"100/s"')
        process = begun(outage, tmp_path, 1)
        open_files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files + 3, open_files + 3))
        done = finish(process)
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 150
        assert set(vendor.launches().values()) == {1}
        assert done.json["calls"]["retried"] > 0


def test_a_process_that_was_stopped_for_a_while_wakes_without_a_burst(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=100/s", "--latency", "20ms±10ms", "--campaign", "1") as vendor:
        outage = Outage(tmp_path, vendor, rows=250)
        outage.folder.edit('"300/s"', '"100/s"')
        process = begun(outage, tmp_path, 60)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        before = len(vendor.launches())
        process.send_signal(signal.SIGCONT)
        done = finish(process)
        assert done.code in (0, 3)
        assert before < 150
        launches = vendor.launches()
        assert max(launches.values()) == 1
        assert done.sends["accepted"] + done.sends["unknown"] == 250
        # The vendor is strict: a burst would have been told to wait.
        assert vendor.stats()["throttled"] == 0
        assert done.json["endpoints"]["insider.launch"]["max_in_window"] <= 100


@pytest.mark.parametrize("set_by_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_while_the_job_runs_costs_seconds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    """In this process, whose ledger and gate both go by the clock. Exact in simulated time: engine/test_clocks.py."""
    off_s, clock = 0.0, time.time
    monkeypatch.setattr(time, "time", lambda: clock() + off_s)
    defaults = SqliteLedger.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "wall", time.time)

    def set_it() -> None:
        nonlocal off_s
        off_s = set_by_s

    with Vendor("--limit", "insider.launch=300/s", "--campaign", "1") as vendor:
        outage = Outage(tmp_path, vendor, rows=200)
        assert outage.run(set_it, after=60).accepted == outage.rows
        assert set(vendor.launches().values()) == {1}
        assert vendor.stats()["throttled"] == 0


class Names:
    """A resolver whose names are there or not."""

    def __init__(self) -> None:
        self.gone = False
        self.asked = 0
        self.comes_back_after = 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        self.asked += 1
        if self.gone and self.asked > self.comes_back_after:
            self.gone = False
        if self.gone:
            raise OSError(None, "the name server does not answer")
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture(name="names")
def _names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Every call asks for the name, over a connection of its own."""
    names = Names()
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda **_: names)
    monkeypatch.setattr(aiohttp.connector._DNSCacheTable, "expired", lambda *_: True)
    monkeypatch.setattr(direct, "KEEP_ALIVE_S", 0.0)
    return names


def by_name(outage: Outage) -> None:
    outage.folder.edit("http://127.0.0.1", "http://localhost")


def test_names_that_are_gone_for_a_while_cost_time_only(tmp_path: Path, names: Names) -> None:
    with Vendor(*VENDOR) as vendor:
        outage = Outage(tmp_path, vendor)
        by_name(outage)

        def go() -> None:
            names.gone, names.comes_back_after = True, names.asked + 12

        report = outage.run(go, after=30)
        assert report.accepted == outage.rows
        assert names.asked > 12
        assert set(vendor.launches().values()) == {1}


def test_names_that_stay_away_end_the_run(tmp_path: Path, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulksend.engine.retry.UNREACHABLE_S", 0.5)
    with Vendor(*VENDOR) as vendor:
        outage = Outage(tmp_path, vendor)
        by_name(outage)

        def go() -> None:
            names.gone, names.comes_back_after = True, 1_000_000

        text = r"cannot reach the vendor for insider\.launch: the name localhost is not found"
        with pytest.raises(bulksend.NetworkError, match=text):
            outage.run(go, after=30)
        names.gone = False
        outage.goes_on()
