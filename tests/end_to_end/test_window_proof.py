"""The vendor's count against ours: `max_in_window`, from the moments at which calls left, shows one call too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulksend.engine import limiter
from bulksend.engine.rate import Bucket
from bulksend.model import Limit
from tests.end_to_end.vendor import JobFolder, Vendor

FREE = ("--limit", "insider.launch=10000/s", "--campaign", "1")
"""The vendor refuses nothing: its log is counted here."""


def job_of(path: Path, vendor: Vendor, limit: str, rows: int) -> JobFolder:
    folder = JobFolder(path, vendor, rows=rows, extra=f'[limits]\n"insider.launch" = "{limit}"\n')
    folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
    folder.edit("[launch]", "[launch]\ncampaign_id = 1")
    return folder


def most_at_the_vendor(vendor: Vendor, period_s: float) -> int:
    times = [one["at_s"] for one in vendor.effects("insider.launch")]
    return max(sum(at - period_s < other <= at for other in times) for at in times)


def test_our_count_is_within_the_limit_and_not_below_the_vendors(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=100/s", "--campaign", "1", "--latency", "20ms±10ms") as vendor:
        done = job_of(tmp_path, vendor, "100/s", rows=220).run()
        ours = done.json["endpoints"]["insider.launch"]["max_in_window"]
        theirs = vendor.stats()["max_in_window"][0]
    assert done.code == 0
    assert 90 <= ours <= 100
    assert theirs <= 100
    # What the way to the vendor may move into its window: at 100 a second, 20 in 200 ms.
    assert theirs - 20 <= ours


def test_one_call_too_many_shows_in_the_summary_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is broken on purpose: its bucket lets out one call more than the window holds."""

    def broken(limit: Limit, _margin_s: float) -> Bucket:
        window = limit.windows[0]
        return Bucket(2, (window.calls + 0.5) / window.period_s, 0.05)

    with Vendor(*FREE) as vendor:
        folder = job_of(tmp_path, vendor, "40/s", rows=90)
        monkeypatch.setattr(limiter, "bucket_of", broken)
        done = folder.run()
        ours, theirs = done.json["endpoints"]["insider.launch"]["max_in_window"], most_at_the_vendor(vendor, 1.0)
    assert done.code == 0
    assert ours > 40
    assert theirs > 40
    assert abs(ours - theirs) <= 4
    assert folder.command("report", "job.toml").code == 0
    assert ">PASSED<" in (tmp_path / "job-report.html").read_text("utf-8")


def test_a_gate_that_lets_everything_out_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def turn(_gate: limiter.Gate, _owner: str = "") -> None:
        """Let it pass."""

    with Vendor(*FREE) as vendor:
        folder = job_of(tmp_path, vendor, "20/5s", rows=30)
        monkeypatch.setattr(limiter.Gate, "turn", turn)
        done = folder.run()
    assert done.json["endpoints"]["insider.launch"]["max_in_window"] == 30
    assert "at most 30 in a window of 20/5s" in done.err
