"""A job that runs in one process, watched from another."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import msgspec
import pytest

from bulksend.api.report import Report
from bulksend.api.watching import _view
from bulksend.model import JobState
from bulksend.observe.chronicle import Chronicle
from tests.end_to_end.vendor import JobFolder, Vendor, finish


@pytest.mark.parametrize(("until", "is_shown"), [(999.0, False), (1001.0, True)])
def test_a_run_that_has_just_begun_is_not_shown_as_the_one_before(until: float, is_shown: bool) -> None:
    """What it has seen itself is in the ledger two seconds later; till then the last history is another run's."""
    report = Report("sale", JobState.RUNNING, total=9, pending=9, started_at=1000.0)
    history = msgspec.structs.replace(Chronicle().history(), rates_per_s={"insider.launch": 7.0}, until=until)
    assert bool(_view(report, history).endpoints) == is_shown


def test_a_running_job_is_shown_until_it_has_ended(tmp_path: Path) -> None:
    with Vendor("--latency", "20ms", "--limit", "insider.launch=200/s") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=600, extra='[limits]\n"insider.launch" = "100/s"\n')
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(20)
        as_json = folder.start("status", "job.toml", "--watch", "--json")
        in_words = folder.start("status", "job.toml", "--watch")
        broken_off = folder.start("status", "job.toml", "--watch", "--json")
        assert broken_off.stdout is not None
        assert json.loads(broken_off.stdout.readline())["state"] == "running"
        broken_off.send_signal(signal.SIGINT)
        assert finish(broken_off).code == 0
        ran, watched, words = finish(running), finish(as_json), finish(in_words)
        assert ran.code == watched.code == words.code == 0
        assert ran.sends["accepted"] == 600, "whoever watches does not touch the job"
        seen = [json.loads(line) for line in watched.out.splitlines()]
        assert [one["state"] for one in seen[:-1]] == ["running"] * (len(seen) - 1)
        assert len(seen) > 2
        assert seen[-1]["state"] == "done"
        settled = [one["sends"]["accepted"] for one in seen]
        assert settled == sorted(settled)
        assert settled[-1] == 600
        assert " of 600 sends" in words.err
        assert 'job "sale": done' in words.out
        last = folder.command("status", "job.toml", "--watch", "--json")
        assert last.json["state"] == "done", "a job that nobody runs is shown once"
