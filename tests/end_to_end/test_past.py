"""A time in the job file that passes: no obstacle to a job that is done, an error in one that is not.

The clock of the second run is set ahead, so that nobody waits.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.vendor import Folder, Vendor

AHEAD = """\
import time

real = time.time
time.time = lambda: real() + 7200
"""
TEXTS = {
    "usercom": (jobs.USERCOM.replace("[launch]\n", '[launch]\neta = "{at}"\n'), "usercom.create", "launch.eta"),
    "batch": (jobs.BATCH.replace('push_time = "now"', 'push_time = "{at}"'), "batch.update", "launch.push_time"),
    "stream": (
        jobs.STREAM + '[start]\nscheduled_for = "{at}"\n',
        "stream.campaign.start",
        "start.scheduled_for",
    ),
}
MANY = ("usercom.create", "batch.create", "batch.update", "stream.campaign.create", "stream.campaign.start")


def in_an_hour() -> str:
    return f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"


def set_ahead(folder: Folder) -> None:
    """Let the commands that follow run in two hours."""
    (folder.path / "ahead").mkdir()
    (folder.path / "ahead" / "sitecustomize.py").write_text(AHEAD, "utf-8")
    folder.env["PYTHONPATH"] = os.pathsep.join([str(folder.path / "ahead"), folder.env.get("PYTHONPATH", "")])


def limits(vendor: Vendor) -> str:
    return jobs.limits("100/s", *(name for name in MANY if name.startswith(vendor.provider)))


@pytest.mark.parametrize("provider", TEXTS)
def test_a_job_that_was_done_before_its_time_passed_stays_done(tmp_path: Path, provider: str) -> None:
    text, sends, _ = TEXTS[provider]
    with Vendor(provider=provider) as vendor:
        text = jobs.head(vendor) + jobs.AUDIENCE + text.replace("{at}", in_an_hour()) + limits(vendor)
        folder = jobs.folder_of(tmp_path, vendor, text, rows=6)
        assert folder.run().code == 0
        set_ahead(folder)
        again = folder.run(*(["--no-precheck"] if provider == "batch" else []))
        assert again.code == 0, again.err
        assert again.json["state"] == "done"
        assert again.json["calls"]["made"] == 0
        assert again.sends["accepted"] == vendor.stats(sends)["calls"] == 6
        assert "changed" not in again.err
        assert folder.command("status", "job.toml", "--json").json["state"] == "done"


@pytest.mark.parametrize("provider", ["usercom", "stream"])
def test_a_job_that_was_not_done_when_its_time_passed_is_refused(tmp_path: Path, provider: str) -> None:
    text, sends, field = TEXTS[provider]
    with Vendor(provider=provider) as vendor:
        text = jobs.head(vendor) + jobs.AUDIENCE + text.replace("{at}", in_an_hour()) + limits(vendor)
        folder = jobs.folder_of(tmp_path, vendor, text, rows=6)
        assert folder.run("--limit", "2").code == 0
        set_ahead(folder)
        refused = folder.run()
        assert refused.code == 2
        assert refused.json["state"] == "refused"
        lines = folder.file.read_text("utf-8").splitlines()
        number = next(index for index, line in enumerate(lines, 1) if line.startswith(field.split(".")[1]))
        assert refused.err == f"error: job.toml:{number}: {field}: is in the past\n"
        assert vendor.stats(sends)["calls"] == 2
        status = folder.command("status", "job.toml", "--json")
        assert status.code == 0, status.err
        assert status.json["state"] == "incomplete"
        assert status.sends["accepted"] == 2


def test_rows_that_were_sent_before_their_time_passed_do_not_hold_up_the_others(tmp_path: Path) -> None:
    with Vendor(provider="usercom") as vendor:
        text = TEXTS["usercom"][0].replace("{at}", "${at}")
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + jobs.AUDIENCE + text + limits(vendor))
        times = [in_an_hour()] * 3 + ["2099-01-01T00:00:00Z"] * 3
        folder.csv("rows.csv", "key,segment,at", ((f"k{row:04}", row, at) for row, at in enumerate(times, 1)))
        assert folder.run("--limit", "3").sends["accepted"] == 3
        set_ahead(folder)
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 6
        assert "send.changed" not in done.err
        assert vendor.stats("usercom.create")["effects"] == vendor.stats("usercom.create")["calls"] == 6


def test_a_job_whose_rows_are_all_sent_is_not_told_as_changed(tmp_path: Path) -> None:
    with Vendor(provider="usercom") as vendor:
        text = TEXTS["usercom"][0].replace("{at}", "${at}")
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + jobs.AUDIENCE + text + limits(vendor))
        folder.csv("rows.csv", "key,segment,at", [("k0001", 1, in_an_hour())])
        assert folder.run().code == 0
        set_ahead(folder)
        again = folder.run("--no-precheck")
        assert again.code == 0
        assert again.json["calls"]["made"] == 0
        assert "changed" not in again.err


def test_an_unknown_send_is_not_made_again_after_its_time(tmp_path: Path) -> None:
    with Vendor("--fault", "usercom.create=reset-before:100%", provider="usercom") as vendor:
        text = jobs.head(vendor) + jobs.AUDIENCE + TEXTS["usercom"][0].replace("{at}", in_an_hour()) + limits(vendor)
        folder = jobs.folder_of(tmp_path, vendor, text, rows=2)
        assert folder.run().sends["unknown"] == 2
        assert vendor.stats("usercom.create")["calls"] == 2
        set_ahead(folder)
        folder.file.write_text(text + '[policy]\non_unknown = "resend"\n', "utf-8")
        folder.run()
        # A create with an eta that has passed would be sent at once.
        assert vendor.stats("usercom.create")["calls"] == 2


def test_a_row_whose_time_passed_before_it_was_sent_is_refused_by_its_key(tmp_path: Path) -> None:
    with Vendor(provider="usercom") as vendor:
        text = TEXTS["usercom"][0].replace("{at}", "${at}")
        folder = jobs.folder_of(tmp_path, vendor, jobs.head(vendor) + jobs.AUDIENCE + text + limits(vendor))
        times = ["2099-01-01T00:00:00Z"] * 3 + [in_an_hour()]
        folder.csv("rows.csv", "key,segment,at", ((f"k{row:04}", row, at) for row, at in enumerate(times, 1)))
        assert folder.run("--limit", "3").code == 0
        set_ahead(folder)
        refused = folder.run()
        assert refused.code == 2
        assert refused.err == "error: rows.csv, row 4 (key k0004): launch.eta: is in the past\n"
        # Looked at one by one, only the row that is late is rejected, without a call.
        done = folder.run("--no-precheck")
        assert done.code == 3
        assert done.sends == {"total": 4, "accepted": 3, "rejected": 1, "unknown": 0, "pending": 0}
        assert vendor.stats("usercom.create")["calls"] == 3
