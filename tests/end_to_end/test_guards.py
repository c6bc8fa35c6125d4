"""The guards of [policy], over real sockets."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.vendor import JobFolder, Vendor

UNKNOWN_CAMPAIGN = "[launch]\ncampaign_id = 99"


def rejecting(folder: JobFolder) -> None:
    """Make the vendor reject every launch: the campaign does not exist."""
    folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
    folder.edit("[launch]", UNKNOWN_CAMPAIGN)


def test_canary_holds_the_rest_back(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=100, extra="[policy]\ncanary = 5\n")
        rejecting(folder)
        done = folder.run()
        assert done.code == 4
        assert done.json["state"] == "stopped"
        assert "canary" in done.err
        assert 1 <= done.sends["rejected"] <= 5
        assert done.sends["pending"] == 100 - done.sends["rejected"]
        assert vendor.stats()["calls"] <= 5


def test_canary_passes_and_the_rest_goes(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=50, extra="[policy]\ncanary = 5\n")
        done = folder.run()
        assert done.code == 0
        assert [event["count"] for event in done.events if event["event"] == "canary.passed"] == [5]
        assert len(vendor.launches()) == 50


def test_stop_after_stops_a_job_that_goes_wrong(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=300, extra='[policy]\nstop_after = "5%"\n')
        rejecting(folder)
        done = folder.run()
        assert done.code == 4
        assert "stop_after" in done.err
        assert 10 <= done.sends["rejected"] < 60
        assert done.sends["pending"] == 300 - done.sends["rejected"]


def test_deadline_ends_the_run(tmp_path: Path) -> None:
    with Vendor() as vendor:
        extra = '[policy]\ndeadline = "2s"\n[limits]\n"insider.launch" = "10/s"\n'
        folder = JobFolder(tmp_path, vendor, rows=100, extra=extra)
        done = folder.run()
        assert done.code == 4
        assert "deadline" in done.err
        assert done.sends["unknown"] == 0
        assert done.sends["accepted"] == len(vendor.launches()) < 100


def test_a_deadline_in_an_outage_ends_the_run_to_be_gone_on_with(tmp_path: Path) -> None:
    limits = '[limits]\n"insider.launch" = "200/s"\n'
    with Vendor("--fault", "insider.launch=503:100%") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=500, extra=f'[policy]\ndeadline = "3s"\n{limits}')
        done = folder.run()
        assert done.code == 75
        assert "insider.launch has been failing for" in done.err
        assert "run again to go on" in done.err
        assert done.json["state"] == "stopped"
        # It was left in peace after ten failures and what was under way then.
        calls = vendor.stats()["calls"]
        assert 10 <= calls < 250
        assert done.sends["unknown"] == calls
        assert done.sends["pending"] == 500 - calls


def test_a_deadline_inside_a_pause_is_kept(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=429-retry-after=600:100%") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=100, extra='[policy]\ndeadline = "2s"\n')
        done = folder.run()
        assert done.code == 4
        assert done.sends["pending"] == 100


def test_resend_unknown_sends_once_more(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=reset-before:30%", "--seed", "2") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=60, extra='[policy]\non_unknown = "resend"\n')
        done = folder.run()
        assert done.code in (0, 3)
        # Those whose first and second call were both reset stay unknown; none is sent a third time.
        assert vendor.stats()["calls"] < 2 * 60
        assert done.sends["unknown"] < vendor.stats()["faults"]["reset-before"]
        calls = vendor.stats()["calls"]
        assert folder.run().sends["unknown"] == done.sends["unknown"]
        assert vendor.stats()["calls"] == calls


def test_resolve_by_hand(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=reset-after:40%", "--seed", "4") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=20)
        done = folder.run()
        assert done.code == 3
        listed = folder.command("resolve", "job.toml", "--json").json["unknown"]
        keys = [one["key"] for one in listed]
        assert len(keys) == done.sends["unknown"] >= 2
        wrong = folder.command("resolve", "job.toml", "--accept", "nonsense")
        assert wrong.code == 2
        assert "nonsense" in wrong.err
        one = folder.command("resolve", "job.toml", "--accept", keys[0], "--json")
        assert one.json["accepted"] == 1
        rest = folder.command("resolve", "job.toml", "--accept", "--all", "--json")
        assert rest.json["accepted"] == len(keys) - 1
        assert rest.json["unknown"] == []
        again = folder.run()
        assert again.code == 0
        assert again.json["calls"]["made"] == 0
        assert set(vendor.launches().values()) == {1}
