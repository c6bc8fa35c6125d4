"""What goes wrong around a run: cancelled, cut off, moved, replaced; nothing is doubled, lost or told wrongly."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

import bulksend
from tests.end_to_end.vendor import JobFolder, Vendor, finish

CHUNKED = (
    ('key = "store_id"', 'key = "store_id"\nchunk = 2'),
    ("${city}", "town"),
    ("?store=${store_id}", ""),
    ('values = ["${store_id}"]', 'values = "${store_id[]}"'),
)


def chunked(folder: JobFolder) -> JobFolder:
    for old, new in CHUNKED:
        folder.edit(old, new)
    return folder


def test_a_limit_holds_for_chunks_that_an_earlier_run_left_open(tmp_path: Path) -> None:
    with Vendor() as vendor:
        extra = '[policy]\ndeadline = "1s"\n[limits]\n"insider.launch" = "2/s"\n'
        folder = chunked(JobFolder(tmp_path, vendor, rows=40, extra=extra))
        assert folder.run().code == 4
        before = vendor.stats()["calls"]
        assert before < 16
        folder.edit('deadline = "1s"\n', "")
        folder.edit('"2/s"', '"200/s"')
        limited = folder.run("--limit", str(2 * before + 3))
        assert vendor.stats()["calls"] - before <= 1
        assert limited.sends["pending"] == limited.sends["total"] - limited.sends["accepted"]
        rest = folder.run()
        assert rest.code == 0
        assert set(vendor.launches().values()) == {1}
        assert len(vendor.launches()) == 40


def test_a_chunk_whose_row_is_gone_is_refused_before_the_first_call(tmp_path: Path) -> None:
    with Vendor() as vendor:
        extra = '[policy]\ndeadline = "1s"\n[limits]\n"insider.launch" = "2/s"\n'
        folder = chunked(JobFolder(tmp_path, vendor, rows=40, extra=extra))
        assert folder.run().code == 4
        calls = vendor.stats()["calls"]
        folder.rows(39)
        done = folder.run()
        assert done.code == 2
        assert "belongs to a chunk" in done.err
        assert vendor.stats()["calls"] == calls


def test_lost_chunks_are_resent_once(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=reset-before:100%") as vendor:
        folder = chunked(JobFolder(tmp_path, vendor, rows=6, extra='[policy]\non_unknown = "resend"\n'))
        done = folder.run()
        assert done.code == 3
        assert done.sends["unknown"] == 3
        assert vendor.stats()["calls"] == 6


def test_retry_after_zero_is_not_hammered(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=429-retry-after=0:100%") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=50, extra='[policy]\ndeadline = "3s"\n')
        done = folder.run()
        assert done.code == 4
        assert done.sends["pending"] == 50
        # The first pause of a 60 s window is 7.5 s: only what was under way when it began comes back.
        assert vendor.stats()["calls"] <= 12


def test_a_vendor_that_is_away_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=100/s") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=200, extra='[limits]\n"insider.launch" = "50/s"\n')
        folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
        folder.edit("[launch]", "[launch]\ncampaign_id = 1")
        port = vendor.url.rpartition(":")[2]
        running = folder.start("run", "job.toml", "--json")
        for _ in range(500):
            if vendor.stats()["calls"] >= 20:
                break
        vendor.process.terminate()
        vendor.process.communicate(timeout=20)
        with Vendor("--port", port, "--campaign", "1") as again:
            assert again.url == vendor.url
            done = finish(running)
            assert done.sends["pending"] == 0, done.err
            assert done.code in (0, 3)
            assert again.stats()["calls"] >= 100


def test_a_removed_ledger_stops_the_run(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=500)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(20)
        (tmp_path / "bulksend.db").unlink()
        done = finish(running)
        assert done.code == 1
        assert "was removed or replaced" in done.err
        assert vendor.stats()["calls"] < 500


def test_a_clock_that_was_set_back_does_not_hinder_the_next_run(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=20)
        assert folder.run().code == 0
        with sqlite3.connect(tmp_path / "bulksend.db") as db:
            db.execute("UPDATE send SET at = at + 3600")
        db.close()
        folder.rows(25)
        done = folder.run()
        assert done.code == 0, done.err
        assert set(vendor.launches().values()) == {1}


def test_one_ledger_by_two_paths_has_one_lock(tmp_path: Path) -> None:
    with Vendor("--latency", "30ms") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=300)
        running = folder.start("run", "job.toml", "--json")
        vendor.wait_for_launches(20)
        (tmp_path / "link.db").symlink_to(tmp_path / "bulksend.db")
        second = folder.run("--ledger", f"sqlite://{tmp_path / 'link.db'}")
        assert second.code == 1
        assert "is being run by" in second.err
        assert finish(running).code == 0


def test_a_job_does_not_go_on_at_another_vendor(tmp_path: Path) -> None:
    with Vendor() as vendor, Vendor() as other:
        folder = JobFolder(tmp_path, vendor, rows=5)
        assert folder.run().code == 0
        done = folder.run("--base-url", other.url)
        assert done.code == 1
        assert "was sent to insider at" in done.err
        assert other.stats()["calls"] == 0


def test_a_cancelled_run_is_incomplete_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor("--latency", "200ms") as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=300)

        async def main() -> None:
            task = asyncio.create_task(bulksend.run_async(folder.file))
            while vendor.stats()["effects"] < 20:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

        asyncio.run(main())
        report = bulksend.status(folder.file)
        assert report.state is bulksend.JobState.INCOMPLETE
        assert report.unknown > 0
        assert report.accepted + report.unknown + report.pending == 300
        after = bulksend.run(folder.file)
        assert after.accepted + after.unknown == 300
        assert max(vendor.launches().values()) == 1


def test_a_cancelled_sender_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor("--latency", "400ms") as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=1)
        rows = [{"store_id": str(number), "city": "Oslo"} for number in range(100)]

        async def main() -> None:
            async with bulksend.Sender(folder.file) as sender:
                await sender.send(rows)

        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(main(), 1.3))
        report = bulksend.status(folder.file)
        assert report.state is bulksend.JobState.INCOMPLETE
        assert report.finished_at is None
        assert report.unknown > 0


def test_an_observer_that_fails_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor() as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=10)

        def fails(_event: bulksend.Event) -> None:
            raise OSError("full")

        with pytest.warns(RuntimeWarning, match="observer failed"):
            assert bulksend.run(folder.file, observers=[fails]).accepted == 10


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_log_file_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=10)
        done = folder.run("--log-file", "/dev/full")
        assert done.code == 0
        assert done.sends["accepted"] == 10
        assert "log file cannot be written" in done.err


@pytest.mark.parametrize("key", ["bad\ud83d", "new\nline", "x" * 600])
def test_a_key_that_no_ledger_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with Vendor() as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=1)

        async def main() -> None:
            async with bulksend.Sender(folder.file) as sender:
                await sender.send([{"store_id": key, "city": "Oslo"}])

        with pytest.raises(bulksend.JobError):
            asyncio.run(main())
        assert vendor.stats()["calls"] == 0


def test_lost_rows_from_code_are_resent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vendor("--fault", "insider.launch=reset-before:100%") as vendor:
        monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
        folder = JobFolder(tmp_path, vendor, rows=1, extra='[policy]\non_unknown = "resend"\n')

        async def main() -> bulksend.Report:
            async with bulksend.Sender(folder.file) as sender:
                return await sender.send({"store_id": str(number), "city": "Oslo"} for number in range(3))

        report = asyncio.run(main())
        assert (report.total, report.unknown) == (3, 3)
        assert vendor.stats()["calls"] == 6
        assert bulksend.status(folder.file).unknown == 3
