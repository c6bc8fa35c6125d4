"""`bulksend report` after real runs: its numbers are the ledger's, and it is told what it must not write over."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import pytest

import bulksend
from tests.end_to_end.segments import (
    ADD,
    CREATE,
    DELETE,
    DESIRED,
    LAUNCH,
    QUERY,
    START,
    TARGET,
    Stream,
    kill,
    numbered,
    segment_job,
)
from tests.end_to_end.vendor import Done, Folder, JobFolder, Vendor
from tests.observe.report_facts import EVIL
from tests.observe.test_report import Reader

FAST = '\n[limits]\n"insider.launch" = "1000/s"\n"insider.create" = "1000/s"\n'
NAME = "job-report.html"
POLLS, POLL_S = 400, 0.02


def report(folder: Folder) -> tuple[dict[str, Any], str]:
    """Write a report in this process, which is quicker; the command is a thin user of the same function."""
    written = bulksend.report(folder.file)
    return written.to_dict(), written.path.read_text("utf-8")


def with_faults(path: Path, *flags: str, rows: int = 200) -> tuple[JobFolder, Done]:
    """Run a job of which some sends fail, under keys that would be markup."""
    with Vendor("--limit", "insider.launch=1000/s", "--limit", "insider.create=1000/s", *flags) as vendor:
        folder = JobFolder(path, vendor, extra=FAST)
        folder.csv("stores.csv", "store_id,city", ((f"{EVIL.split()[0]} {one}>", "Oslo") for one in range(1, rows + 1)))
        return folder, folder.run()


def test_the_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    faults = ("--fault", "insider.launch=424:10%", "--fault", "insider.launch=429-retry-after=1:1%")
    folder, run = with_faults(tmp_path, *faults)
    assert run.code == 3, run.err
    assert run.sends["unknown"] > 0
    done, text = report(folder)
    read = Reader(text)
    assert done["sends"] == run.sends
    assert done["runs"] == 1
    sends, calls = run.sends, run.json["calls"]
    launch = run.json["endpoints"]["insider.launch"]
    assert f"{sends['accepted']:,} of 200 sends accepted; {sends['unknown']:,} of unknown fate." in text
    (row,) = read.of["runs"][1:]
    assert row[3:8] == [*(f"{calls[name]:,}" for name in ("made", "throttled")), *_in_order(sends)]
    most = f"{launch['max_in_window']:,}"
    assert ["insider.launch", "1000/s", most, most, "1,000", "kept"] in read.of["proof"]
    extra = launch["calls"] - 200
    difference = f"+{extra}" if extra else "0"
    planned = {row[0]: row[1:5] for row in read.of["plan"]}
    assert planned["insider.launch"] == ["1000/s", "200", f"{launch['calls']:,}", difference]
    assert planned["insider.create"] == ["1000/s", "1", "1", "0"]
    assert read.of["endpoints"][2][2:4] == [f"{launch['calls']:,}", str(launch["throttled"])]
    assert ["unknown", "HTTP 424 failed dependency", str(sends["unknown"])] in read.of["outcomes"]
    assert ["424", str(sends["unknown"])] in read.of["outcomes"]
    answers = [int(row[1]) for row in read.of["outcomes"] if len(row) == 2 and row[0].isdigit() and len(row[0]) == 3]
    assert sum(answers) == calls["made"]
    # Keys are text, every one of them.
    failed = read.of["failed"][1:]
    assert len(failed) == min(100, sends["unknown"])
    assert all(row[0] == f"<img {row[3]}>" for row in failed)
    assert "img" not in read.tags
    assert folder.env["INSIDER_TOKEN"] not in text
    assert "INSIDER_TOKEN" not in text
    assert 'token = "env:•••"' in html.unescape(text)
    assert len(text.encode()) < 200_000


def _in_order(sends: dict[str, int]) -> list[str]:
    return [f"{sends[name]:,}" for name in ("accepted", "rejected", "unknown")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    folder, run = with_faults(tmp_path_factory.mktemp("report"), rows=30)
    assert run.code == 0, run.err
    return folder


def test_it_stands_beside_the_job_file_for_its_owner_only(finished: JobFolder) -> None:
    done = finished.command("report", "job.toml")
    path = finished.path / NAME
    assert (done.code, done.out.strip()) == (0, str(path))
    assert done.err == 'report of job "sale", 1 run\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(finished.path.glob(".job-report*")) == []


def test_the_same_ledger_gives_the_same_page(finished: JobFolder) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        path = bulksend.report(finished.file, output=finished.path / name).path
        pages.append(re.sub(r"<footer>.*?</footer>", "", path.read_text("utf-8")))
    assert pages[0] == pages[1]
    assert "All 30 sends were accepted." in pages[0]


def test_a_report_is_written_over_and_nothing_else_is(finished: JobFolder) -> None:
    path = finished.path / "mine.html"
    for _ in range(2):
        assert bulksend.report(finished.file, output=path).path == path
    for name in ("job.toml", "stores.csv", "bulksend.db"):
        before = (finished.path / name).read_bytes()
        with pytest.raises(bulksend.JobError, match="is no report: it is not written over"):
            bulksend.report(finished.file, output=finished.path / name)
        assert (finished.path / name).read_bytes() == before
    for name, words in ((".", "is a directory"), ("nowhere/x.html", "there is no such directory")):
        with pytest.raises(bulksend.JobError, match=words):
            bulksend.report(finished.file, output=finished.path / name)
    link, pipe = finished.path / "link.html", finished.path / "pipe"
    link.symlink_to(path)
    assert bulksend.report(finished.file, output=link).path == path
    assert link.is_symlink(), "what a link leads to is written"
    os.mkfifo(pipe)
    with pytest.raises(bulksend.JobError, match="is no file"):
        bulksend.report(finished.file, output=pipe)
    done = finished.command("report", "job.toml", "--json", "-o", "stores.csv")
    assert (done.code, "not written over" in done.json["error"]) == (2, True)
    done = finished.command("report", "job.toml", "--json", "-o", "mine.html")
    assert done.json == {**bulksend.status(finished.file).to_dict(), "report": str(path), "runs": 1}


def test_an_idle_run_is_listed_and_the_one_before_is_drawn(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=1000/s", "--limit", "insider.create=1000/s") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=40, extra=FAST)
        runs = [folder.run("--limit", "15"), folder.run(), folder.run()]
    assert [one.code for one in runs] == [0, 0, 0]
    done, text = report(folder)
    read = Reader(text)
    assert done["runs"] == 3
    rows = read.of["runs"][1:]
    assert [row[3] for row in rows] == ["0", "25", "16"]
    assert [row[5] for row in rows] == ["0", "25", "15"]
    assert [row[0].endswith("←") for row in rows] == [False, True, False]
    assert "All 40 sends were accepted." in text
    # The campaign was made by the first run: nothing of it was to be expected of the second.
    assert [row[0] for row in read.of["plan"][1:]] == ["insider.launch"]
    assert ["insider.create", "1000/s", "\N{EN DASH}", "1", "1,000", "kept"] in read.of["proof"]


def test_a_job_that_never_ran_has_no_report(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=3)
    done = folder.command("report", "job.toml", "--json")
    assert done.code == 2
    assert re.search(r'error: job "sale" was never run with the ledger \S+bulksend\.db\n', done.err)
    assert "never run" in done.json["error"]
    assert {one.name for one in tmp_path.iterdir()} == {"job.toml", "stores.csv"}


def test_without_matplotlib_it_says_what_to_install(finished: JobFolder, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['matplotlib'] = None\n", "utf-8")
    env, finished.env = finished.env, {**finished.env, "PYTHONPATH": str(tmp_path)}
    try:
        done = finished.command("report", "job.toml", "-o", "none.html")
        assert done.code == 2
        assert "pip install 'bulksend[report]'" in done.err
    finally:
        finished.env = env
    assert not (finished.path / "none.html").exists()


def test_a_job_that_runs_gets_a_report_of_so_far_and_one_that_died_says_so(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=3000/min", "--limit", "insider.create=3000/min") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=6000, extra=FAST.replace("1000/s", "3000/min"))
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(1)
        _wait_for_history(folder)
        done, text = report(folder)
        assert done["state"] == "running"
        assert "running: this is a report of so far" in text
        assert "<svg" in text
        (row,) = [row for row in Reader(text).rows if row[0].endswith("←")]
        assert row[1] == "running"
        assert 20 <= int(row[3].replace(",", "")) <= vendor.stats()["calls"] + 1
        kill(running)
    done, text = report(folder)
    assert done["state"] == "incomplete"
    (row,) = [row for row in Reader(text).rows if row[0].endswith("←")]
    assert row[1] == "broke off"
    assert "so far" not in text


def _has_calls(history: str) -> bool:
    """Say whether there are enough calls for a picture."""
    return sum(json.loads(history)["endpoints"].get("insider.launch", {}).get("calls", ())) >= 20


def _wait_for_history(folder: Folder) -> None:
    from bulksend.ledger.sqlite import SqliteLedger

    async def kept() -> bool:
        ledger = SqliteLedger(folder.path / "bulksend.db")
        try:
            await ledger.open(create=False)
            job = await ledger.find_job("sale")
            return job is not None and any(map(_has_calls, await ledger.histories(job.id)))
        finally:
            await ledger.close()

    for _ in range(POLLS):
        if asyncio.run(kept()):
            return
        time.sleep(POLL_S)
    raise AssertionError("nothing was kept")


def test_a_segment_is_in_it(tmp_path: Path) -> None:
    with Stream() as vendor:
        vendor.put(numbered(range(300)))
        folder = segment_job(tmp_path, vendor, numbered(range(250, 600)), text=TARGET + DESIRED + LAUNCH)
        run = folder.run()
    assert run.code == 0, run.err
    done, text = report(folder)
    assert done["segment"] == run.json["segment"]
    read = Reader(text)
    assert "Segment vip: 300 added, 250 removed." in text
    assert [read.row(word)[1] for word in ("targets it held", "desired", "added", "removed")] == [
        "300",
        "350",
        "300",
        "250",
    ]
    planned = {row[0]: row[2:5] for row in read.of["plan"]}
    for name in (QUERY, ADD, DELETE, CREATE, START):
        calls = str(run.json["endpoints"][name]["calls"])
        assert planned[name] == [calls, calls, "0"], name


def test_a_refused_run_is_told_without_pictures(tmp_path: Path) -> None:
    with Stream() as vendor:
        vendor.put(numbered(range(300)))
        folder = segment_job(tmp_path, vendor, numbered(range(10)), extra='[guard]\nmax_remove = "1%"\n')
        run = folder.run()
    assert run.code == 4, run.err
    done, text = report(folder)
    assert done["state"] == "refused"
    (row,) = [row for row in Reader(text).rows if row[0].endswith("←")]
    assert row[1].startswith("refused")
    assert "max_remove" in row[1]


def test_the_library_writes_it_too(finished: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIDER_TOKEN", finished.env["INSIDER_TOKEN"])
    path = finished.path / "library.html"
    written = bulksend.report(finished.file, output=path)
    assert written.path == path
    assert written.summary.accepted == 30
    assert asyncio.run(bulksend.report_async(os.fspath(finished.file), output=path)).runs == written.runs
    with pytest.raises(bulksend.JobError, match="never run"):
        bulksend.report(finished.file, output=path, ledger=f"sqlite://{finished.path / 'other.db'}")
