"""Signals and locks, as real processes; death at any moment is in `test_deaths.py`."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tests.end_to_end.vendor import JobFolder, Vendor, finish

LATENCY = ("--latency", "30ms±20ms")


def test_sigterm_finishes_what_is_under_way_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with Vendor(*LATENCY) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=300)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(50)
        running.send_signal(signal.SIGTERM)
        done = finish(running)
        assert done.code == 75
        assert done.json["state"] == "stopped"
        assert done.sends["unknown"] == done.sends["rejected"] == 0
        assert done.sends["accepted"] == len(vendor.launches()) < 300
        again = folder.run()
        assert again.code == 0
        assert again.sends["accepted"] == 300
        assert set(vendor.launches().values()) == {1}


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    with Vendor("--latency", "20s") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=50)
        folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
        folder.edit("[launch]", "[launch]\ncampaign_id = 1")
        running = folder.start("run", "job.toml", "--json")
        _wait_for_status(folder, "running")
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=15)
        assert running.returncode == 75
        assert "Traceback" not in err
        after = folder.command("status", "job.toml", "--json").json
        assert after["state"] == "incomplete"
        assert after["sends"]["unknown"] >= 1


def test_stop_from_another_process(tmp_path: Path) -> None:
    with Vendor(*LATENCY) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=3000)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(20)
        assert folder.command("status", "job.toml", "--json").json["state"] == "running"
        assert folder.command("stop", "job.toml").code == 0
        done = finish(running)
        assert done.code == 75
        assert "bulksend stop" in done.err
        assert done.sends["accepted"] == len(vendor.launches()) < 3000
        again = folder.run("--limit", "60")
        assert again.sends["accepted"] == 60


def test_a_second_process_is_told_who_holds_the_job(tmp_path: Path) -> None:
    with Vendor(*LATENCY) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=3000)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(20)
        second = folder.run()
        assert second.code == 1
        assert f"process {running.pid}" in second.err
        assert folder.command("resolve", "job.toml", "--accept", "--all").code == 1
        running.send_signal(signal.SIGTERM)
        finish(running)
        assert max(vendor.launches().values()) == 1


def test_a_restart_right_after_a_burst_keeps_the_window(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=100/5s", *LATENCY) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=130, extra='[limits]\n"insider.launch" = "100/5s"\n')
        for number in (30, 60, 90):
            running: subprocess.Popen[str] = folder.start("run", "job.toml", "--json")
            vendor.wait_for_launches(number)
            running.send_signal(signal.SIGKILL)
            running.communicate()
        folder.run()
        assert vendor.stats()["throttled"] == 0
        assert max(vendor.launches().values()) == 1


def _wait_for_status(folder: JobFolder, state: str) -> None:
    for _ in range(100):
        done = folder.command("status", "job.toml", "--json")
        if done.code == 0 and done.json["state"] == state:
            return
        time.sleep(0.05)
    raise AssertionError(f"the job was never {state}")
