"""Deaths, signals and locks while a segment is brought into line, as real processes."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.end_to_end.segments import (
    ADD,
    CREATE,
    DELETE,
    DESIRED,
    FAST,
    LAUNCH,
    QUERY,
    START,
    TARGET,
    Stream,
    events,
    figures,
    files_beside,
    kill,
    numbered,
    segment_job,
    tenth,
    wait_until,
)
from tests.end_to_end.vendor import finish

LATENCY = ("--latency", "40ms±20ms")
SIZE = 120_000
SPANS = 4
IN_FLIGHT = 8
LOGGED = ("run", "job.toml", "--json", "--log-file", "events.jsonl")


@pytest.mark.timeout(240)
def test_twelve_deaths_lose_nothing_and_read_no_finished_page_again(tmp_path: Path) -> None:
    dice = random.Random(4)
    remote, desired = tenth(SIZE)
    with Stream(*LATENCY) as vendor:
        vendor.put(remote)
        filled = vendor.calls(ADD)
        folder = segment_job(tmp_path, vendor, desired)
        # What one reading takes: the pages of a plan, which reads as a run does.
        planned = folder.command("plan", "job.toml", "--json")
        assert planned.code == 0, planned.err
        needed = vendor.calls(QUERY)
        assert SIZE / 10_000 <= needed <= SIZE / 10_000 + SPANS

        deletes = SIZE // 20 // 100
        before = needed
        deaths: list[tuple[str, Callable[[], bool]]] = []
        for part in range(5):
            at = before + (part * needed + dice.randrange(needed)) // 5
            deaths.append(("reading", lambda at=at: vendor.calls(QUERY) >= max(at, before + 1)))
        for part in range(4):
            at = (part * deletes + dice.randrange(deletes)) // 6
            deaths.append(("writing", lambda at=at: vendor.stats(DELETE)["effects"] > at))
        died = {"reading": 0, "writing": 0, "verifying": 0}
        read_at: list[int] = []
        for phase, has_come in deaths:
            running = folder.start(*LOGGED)
            wait_until(has_come, running)
            kill(running)
            died[phase] += 1
            read_at.append(vendor.calls(QUERY))
        reading_most = 2 * SPANS * died["reading"]
        assert read_at[-1] - before <= needed + reading_most
        # Pages of the first reading are all on disk: none was asked for while writing went on.
        assert read_at[died["reading"]] == read_at[-1]
        for part in range(3):
            at = read_at[-1] + (part * needed + dice.randrange(needed)) // 4
            running = folder.start(*LOGGED)
            wait_until(lambda at=at: vendor.calls(QUERY) > at, running)
            kill(running)
            died["verifying"] += 1
        assert sum(died.values()) == 12

        done = folder.command(*LOGGED)
        assert done.code == 0, done.err
        assert vendor.targets() == desired
        assert figures(done) == [SIZE, SIZE, SIZE // 20, SIZE // 20]
        assert done.json["segment"]["left"] == done.json["segment"]["drift"] == 0
        assert files_beside(folder) == []

        verified = vendor.calls(QUERY) - read_at[-1]
        assert verified <= needed + 1 + 2 * SPANS * died["verifying"]
        # Each id was added and removed once by effect; a batch is asked for again only if its answer was cut off.
        assert vendor.stats(DELETE)["effects"] == deletes
        assert vendor.calls(DELETE) <= deletes + IN_FLIGHT * died["writing"]
        added = -(-SIZE // 20 // 10_000)
        assert vendor.calls(ADD) - filled <= added * (1 + died["writing"])
        _goes_on_after_the_last_page(tmp_path / "events.jsonl", needed)


def _goes_on_after_the_last_page(log: Path, needed: int) -> None:
    """Each process tells how many pages it found finished, and each page that it finishes."""
    found: list[tuple[int, int]] = []
    for one in events(log, "segment.reading", "segment.page"):
        if one["event"] == "segment.reading":
            found.append((one.get("settled") or 0, 0))
        else:
            found[-1] = found[-1][0], found[-1][1] + 1
    readings = 0
    for (settled, pages), (after, _) in pairwise(found):
        if after == 0 and settled + pages >= needed - SPANS:
            readings += 1  # the second look begins
            continue
        # A page may have been put on disk by a process that died before it could say so.
        assert settled + pages <= after <= settled + pages + SPANS, found
    assert readings == 1, found
    assert len(found) >= 8


@pytest.mark.parametrize(("phase", "stop"), [("reading", "ctrl-c"), ("writing", "stop")])
def test_a_stop_is_in_good_order_and_the_next_run_goes_on(tmp_path: Path, phase: str, stop: str) -> None:
    remote, desired = tenth(60_000)
    deletes = 60_000 // 20 // 100
    slow, limit = (QUERY, "1/s") if phase == "reading" else (DELETE, "4/s")
    with Stream() as vendor:
        vendor.put(remote)
        limits = FAST.replace(f'"{slow}" = "1000/s"', f'"{slow}" = "{limit}"')
        assert limits != FAST
        folder = segment_job(tmp_path, vendor, desired, limits=limits)
        running = folder.start(*LOGGED)
        wait_until(lambda: vendor.calls(slow) >= 3, running)
        if stop == "ctrl-c":
            running.send_signal(signal.SIGINT)
        else:
            assert folder.command("stop", "job.toml").code == 0
        done = finish(running)
        assert done.code == 75, done.err
        assert done.json["state"] == "stopped"
        assert "run again to go on" in done.err
        read, deleted = vendor.calls(QUERY), vendor.calls(DELETE)
        assert (read < 6 and not deleted) if phase == "reading" else 3 <= deleted < deletes

        folder.edit(f'"{limit}"', '"1000/s"')
        again = folder.command(*LOGGED)
        assert again.code == 0, again.err
        assert vendor.targets() == desired
        assert files_beside(folder) == []
        # No finished page is read again, and no finished batch made again.
        pages = [one.get("settled") or 0 for one in events(tmp_path / "events.jsonl", "segment.reading")]
        assert pages == ([0, pages[1], 0] if phase == "reading" else [0, 0])
        assert 0 < pages[1] <= read if phase == "reading" else True
        changed = [one for one in events(tmp_path / "events.jsonl", "segment.changed") if one.get("removed")]
        assert len(changed) <= vendor.calls(DELETE) <= deletes + IN_FLIGHT
        assert vendor.stats(DELETE)["effects"] == deletes


def test_a_stop_lets_the_writes_under_way_finish(tmp_path: Path) -> None:
    with Stream("--latency", "300ms") as vendor:
        vendor.put(numbered(range(600), "old-"))
        put = vendor.calls(ADD)
        # Two batches of additions, the second of which waits at its limit while the removals are under way.
        limits = FAST.replace(f'"{ADD}" = "1000/s"', f'"{ADD}" = "1/4s"')
        folder = segment_job(tmp_path, vendor, numbered(range(10_001)), limits=limits)
        running = folder.start(*LOGGED)
        wait_until(lambda: vendor.calls(DELETE) >= 6 and vendor.calls(ADD) > put, running)
        running.send_signal(signal.SIGINT)
        assert finish(running).code == 75
        changed = events(tmp_path / "events.jsonl", "segment.changed")
        assert sum(one.get("removed", 0) for one in changed) == 600
        # The next run makes none of them again.
        folder.edit('"1/4s"', '"1000/s"')
        folder.edit(FAST.splitlines()[0], f'[guard]\nverify = "off"\n{FAST.splitlines()[0]}')
        assert folder.run().code == 0
        assert (vendor.calls(ADD) - put, vendor.calls(DELETE)) == (2, 6)
        assert vendor.targets() == numbered(range(10_001))


def test_a_death_in_the_reconciliation_makes_one_launch(tmp_path: Path) -> None:
    remote, desired = tenth(20_000)
    with Stream("--latency", "60ms") as vendor:
        vendor.put(remote)
        limits = FAST.replace(f'"{QUERY}" = "1000/s"', f'"{QUERY}" = "4/s"')
        limits = limits.replace(f'"{DELETE}" = "1000/s"', f'"{DELETE}" = "15/s"')
        folder = segment_job(tmp_path, vendor, desired, text=TARGET + DESIRED + LAUNCH, limits=limits)
        for endpoint, count in ((QUERY, 1), (DELETE, 2), (QUERY, 3)):
            running = folder.start(*LOGGED)
            wait_until(lambda endpoint=endpoint, count=count: vendor.calls(endpoint) >= count, running)
            kill(running)
            assert vendor.calls(CREATE) == 0
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 1
        assert vendor.targets() == desired
        assert vendor.stats(CREATE)["effects"] == vendor.stats(START)["effects"] == 1
        assert vendor.order()[-2:] == [CREATE, START]


def test_a_second_job_is_told_who_holds_the_segment(tmp_path: Path) -> None:
    remote, desired = tenth(30_000)
    with Stream() as vendor:
        vendor.put(remote)
        limits = FAST.replace(f'"{QUERY}" = "1000/s"', f'"{QUERY}" = "1/2s"')
        first = segment_job(tmp_path, vendor, desired, limits=limits)
        text = first.file.read_text("utf-8").replace('job = "sale"', 'job = "other"').replace('"1/2s"', '"1000/s"')
        (tmp_path / "other.toml").write_text(text, "utf-8")
        running = first.start("run", "job.toml", "--json")
        wait_until(lambda: vendor.calls(QUERY) >= 1, running)
        second = first.command("run", "other.toml", "--json")
        assert second.code == 1
        assert 'segment "vip" is being brought into line by job "sale"' in second.err
        assert f"process {running.pid}" in second.err
        running.send_signal(signal.SIGINT)
        assert finish(running).code == 75
        assert vendor.writes() - vendor.calls(ADD) == 0
        # Nobody holds it any more.
        assert first.command("run", "other.toml", "--json").code == 0
        assert vendor.targets() == desired
