"""A job that runs in one process, watched from another."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.end_to_end.vendor import JobFolder, Vendor, finish


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
